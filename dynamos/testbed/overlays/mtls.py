"""The overlay `mtls`: connections instead of packets. A proxy at the node of each member carries them in TLS, in which
both ends prove who they are (layer 4).

A cable leads from the container to a network of its own at the node, which stands for the peers: it has their
addresses, and takes every TCP connection to them, at any port, to the proxy. The peer's proxy connects to the same
port at the
peer's own address, from the address of the member whose certificate was shown. So programs, and rules in containers,
see each other as in every other overlay. UDP and ICMP do not get anywhere.

Each member's site makes its key and a certificate that stands for itself; the others are told the certificate and
accept that one under that name, and no authority.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from dynamos.kit.digests import digest
from dynamos.kit.errors import Mistake, NotFound
from dynamos.model.networks import DriverName
from dynamos.testbed.hosts import Host
from dynamos.testbed.overlays import endpoints, ends, haproxy, materials, names, needs, scripts
from dynamos.testbed.overlays.drivers import Capabilities, Material, Member, Network, capabilities_of
from dynamos.testbed.overlays.endpoints import Endpoint

PORT = 8443
_DAYS = 30
_CABLE = "box"
_STATUS = f"/dev/tcp/127.0.0.1/{haproxy.STATUS_PORT}"
_PATIENCE = 3
_ASK = 'exec 3<>$0; printf "GET $1 HTTP/1.0\\r\\n\\r\\n" >&3; while read -r line <&3; do :; done; [ "$line" = "$2" ]'
"""Asks a proxy at its status port ($0) for a path ($1), and succeeds where the last line of the answer is $2."""


class MutualTls:
    """Mutual TLS by HAProxy."""

    name: DriverName = "mtls"
    capabilities: Capabilities = capabilities_of(
        "mtls",
        {"haproxy": "haproxy", "openssl": "openssl", "ip": "iproute2", "ss": "iproute2", "nft": "nftables",
         "flock": "util-linux", "setpriv": "util-linux", "bash": "bash", "ping": "iputils-ping"},
        ("veth", "nat", "filter"),
    )  # fmt: skip

    def missing(self, host: Host) -> list[Mistake]:
        return needs.lacking(host, self.capabilities)

    def prepare(self, network: Network, member: Member) -> dict[str, str]:
        script = endpoints.making(
            self._end(network, member), int(network.options.get("port", PORT)), _keys(network, member)
        )
        return {**materials.facts(member), **endpoints.words(scripts.run(member.gateway, script).text)}

    def join(self, network: Network, member: Member, material: Material) -> None:
        end, others = self._end(network, member), materials.others(network, member, material)
        port = materials.peers(network, material)[member.name].text("port", materials.port)
        certificates = {peer.name: _certificate(network, peer) for peer in others}
        version = digest([port, material])[:32]
        proxy = haproxy.Proxy(network.name, member.name, member.address, member.underlay, port, end.name, end.folder)
        known = [haproxy.Other(p.name, p.address, p.underlay, p.text("port", materials.port)) for p in others]
        files = {
            "peers.pem": "".join(certificates.values()),
            **{f"peer-{name}.pem": text for name, text in certificates.items()},
            "haproxy.cfg": haproxy.configuration(proxy, known, version),
        }
        self._start(end, files, others)
        scripts.run(member.gateway, _settling(end, version))
        names.publish(
            member.container, network.name, {member.name: member.address, **{p.name: p.address for p in others}}
        )

    def unreached(self, network: Network, member: Member, peers: Sequence[Member]) -> list[str]:
        """Ask every peer's proxy for its name, through both proxies."""
        ask = f"timeout {_PATIENCE} {_asking(self._end(network, member))}"
        lines = [f"{ask} /{peer.name} {peer.name} 2>/dev/null && echo {place} &" for place, peer in enumerate(peers)]
        told = scripts.run(member.gateway, "\n".join((*lines, "wait"))).text.split()
        return [peer.name for place, peer in enumerate(peers) if str(place) not in told]

    def leave(self, network: Network, member: Member) -> None:
        end = self._end(network, member)
        names.withdraw(member.container, network.name)
        try:
            member.gateway.stop(end.name)
            scripts.run(member.gateway, endpoints.removing(end, f"ip netns del {end.name}"))
        except NotFound:
            return  # the node has ended, and everything on it

    def verify_gone(self, network: Network, member: Member) -> list[str]:
        end = self._end(network, member)
        tests = (*endpoints.remains(end), f"ls /run/netns/{end.name}")
        return ends.still(member.gateway, tests) + names.left(member.container, network.name)

    def _end(self, network: Network, member: Member) -> Endpoint:
        return Endpoint(self.name, network, member)

    def _start(self, end: Endpoint, files: dict[str, str], others: Sequence[materials.Peer]) -> None:
        """Write what the proxy reads, lead the container's connections to it, start it where it does not run, and have
        one that runs read again what changed."""
        gateway = end.member.gateway
        script = (
            f"umask 077\ncd {end.folder}\nif {_up(end)}; then echo up; fi\n"
            + endpoints.writing(files)
            + _beside(end, others)
        )
        told = scripts.run(gateway, script).text.split()
        pid = gateway.start(end.name, _argv(end), env=end.env)
        if "up" in told[:1] and told[1:]:
            scripts.run(gateway, f"kill -USR2 {pid}\n")


def _up(end: Endpoint) -> str:
    """Give the condition that the proxy answers at its status port: a signal before that would end it."""
    return f"ip netns exec {end.name} bash -c 'exec 3<>$0' {_STATUS} 2>/dev/null"


def _asking(end: Endpoint) -> str:
    """Give the words that ask the proxy, to be followed by a path and the answer that counts."""
    return f"ip netns exec {end.name} bash -c '{_ASK}' {_STATUS}"


def _argv(end: Endpoint) -> list[str]:
    """Give the words that run the proxy, with the one privilege that it needs: to open sockets in another network."""
    limits = ["--bounding-set=-all,+sys_admin", "--inh-caps=-all", "--no-new-privs"]
    return ["setpriv", *limits, "haproxy", "-W", "-db", "-q", "-f", f"{end.folder}/haproxy.cfg"]


def _keys(network: Network, member: Member) -> str:
    """Give the lines that make a member's key and certificate where none are, and print the certificate."""
    about = f"-subj '/CN={member.name}' -addext 'subjectAltName=DNS:{_stands_for(network, member.name)}'"
    uses = "-addext extendedKeyUsage=serverAuth,clientAuth -addext basicConstraints=critical,CA:FALSE"
    return (
        "if ! [ -s me.pem ]; then\n"
        f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days {_DAYS} {about} {uses} "
        "-keyout me.new -out cert.new 2>/dev/null\ncat cert.new >> me.new\nrm cert.new\nmv me.new me.pem\nfi\n"
        "echo certificate $(openssl x509 -in me.pem -outform DER | base64 -w 0)\n"
    )


def _stands_for(network: Network, name: str) -> str:
    """Give the server name, with any port before it, that a member's certificate is for."""
    return f"*.{name}.{network.name}"


def _certificate(network: Network, peer: materials.Peer) -> str:
    """Read a peer's certificate, which stands for that peer and nobody else, and give it as PEM."""

    def read(text: str) -> str:
        try:
            found = x509.load_der_x509_certificate(base64.b64decode(text, validate=True))
            stands_for = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            constraints = found.extensions.get_extension_for_class(x509.BasicConstraints).value
        except (binascii.Error, ValueError, x509.ExtensionNotFound) as error:
            raise ValueError(str(error) or "it is no certificate") from None
        if stands_for.get_values_for_type(x509.DNSName) != [_stands_for(network, peer.name)] or constraints.ca:
            raise ValueError(f"it does not stand for {peer.name!r} alone")
        if [each.value for each in found.subject] != [peer.name]:
            raise ValueError(f"its subject is not {peer.name!r}")  # by which the proxy knows who connects
        if not isinstance(found.public_key(), ec.EllipticCurvePublicKey):
            raise ValueError("its key is not of an elliptic curve")  # noqa: TRY004  as for every wrong text
        return found.public_bytes(Encoding.PEM).decode()

    return peer.text("certificate", read)


def _beside(end: Endpoint, others: Sequence[materials.Peer]) -> str:
    """Give the lines that make the network that stands for the peers, and the container's cable to it."""
    network, member, side, box, device = end.network, end.member, end.name, end.box, end.network.name
    place = network.place(member.address)
    inner, outer = (ends.hardware_address(network.number, place, side=which) for which in (0, 1))
    outside = [
        "link set lo up", f"link set {_CABLE} {ends.no_ipv6(network)}", f"link set {_CABLE} up",
        f"addr flush dev {_CABLE}",
        *(f"addr add {peer.address}/32 dev {_CABLE}" for peer in others),
        f"route replace {member.address} dev {_CABLE}",
        f"neigh replace {member.address} lladdr {inner} dev {_CABLE} nud permanent",
    ]  # fmt: skip
    inside = [
        f"link set {device} {ends.no_ipv6(network)}", f"addr replace {member.address}/32 dev {device}",
        f"link set {device} up", f"route flush dev {device}",
        *(f"route replace {peer.address} dev {device} src {member.address}" for peer in others),
        *(f"neigh replace {peer.address} lladdr {outer} dev {device} nud permanent" for peer in others),
    ]  # fmt: skip
    from_box, to_proxy = f"iifname {_CABLE}", f":{haproxy.INNER_PORT}"
    away = f"{from_box} meta l4proto tcp redirect to {to_proxy}"
    inwards = (
        f"{from_box} ct state established accept; {from_box} tcp dport {to_proxy[1:]} accept; {from_box} counter drop"
    )
    chains = (
        f"away {{ type nat hook prerouting priority -100; {away}; }}",
        f"in {{ type filter hook input priority 0; {inwards}; }}",
        "through { type filter hook forward priority 0; counter drop; }",
    )
    mark = digest([outside, inside, chains])[:32]
    there = f"ip -n {side} link show {_CABLE} && ip -n {box} link show {device}"
    return (
        f"[ -e /run/netns/{side} ] || ip netns add {side}\n"
        f"if ! {{ {there}; }} >/dev/null 2>&1; then\n"
        f"ip -n {side} link del {_CABLE} 2>/dev/null || true\nip -n {box} link del {device} 2>/dev/null || true\n"
        f"ip -n {side} link add {_CABLE} address {outer} mtu {network.mtu} type veth "
        f"peer name {device} netns {box} address {inner} mtu {network.mtu}\n"
        f"elif ip netns exec {side} nft list table inet {_CABLE} 2>/dev/null | grep -q {mark}; then exit 0; fi\n"
        + scripts.fed(f"ip -n {side} -batch -", outside)
        + scripts.fed(f"ip -n {box} -batch -", inside)
        + ends.rules(_CABLE, *chains, comment=mark, inside=f"ip netns exec {side}")
    )


def _settling(end: Endpoint, version: str) -> str:
    """Give a script that waits until the proxy works by its file of this version."""
    return endpoints.until(f"{_asking(end)} / {version} 2>/dev/null", f"the proxy {end.name} is not up")
