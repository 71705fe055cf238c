"""The overlay `mtls`: connections instead of packets. A proxy at the node of each member carries them in TLS, in which
both ends prove who they are (layer 4).

The container has its own address on a device that leads nowhere (a bridge without ports). What it sends by TCP to a
peer's address, at any port, goes to its proxy, after rules for what leaves it have seen it as it is; the peer's proxy
connects to the same port at the peer's own address. So programs address each other as in every other overlay. UDP and
ICMP do not get anywhere. To a service every connection comes from its own address, by the loopback; who called is known
to the proxy.

Each member's site makes its key and a certificate that stands for itself; the others are told the certificate and
accept that one under that name, and no authority.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from ipaddress import IPv4Address

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
        ("bridge", "nat", "filter"),
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
        proxy = haproxy.Proxy(
            network.name, member.name, member.address, member.underlay, port, end.box, _inside(network), end.folder
        )
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
        ask = f"timeout {_PATIENCE} bash -c '{_ASK}' {_status(network)}"
        lines = [f"{ask} /{peer.name} {peer.name} 2>/dev/null && echo {place} &" for place, peer in enumerate(peers)]
        told = scripts.run(member.container, "\n".join((*lines, "wait"))).text.split()
        return [peer.name for place, peer in enumerate(peers) if str(place) not in told]

    def leave(self, network: Network, member: Member) -> None:
        end = self._end(network, member)
        names.withdraw(member.container, network.name)
        undoing = f"ip netns exec {end.box} nft delete table inet {ends.table(network, member)}"
        try:
            member.gateway.stop(end.name)
            scripts.run(member.gateway, endpoints.removing(end, undoing))
        except NotFound:
            return  # the node has ended, and everything on it

    def verify_gone(self, network: Network, member: Member) -> list[str]:
        end = self._end(network, member)
        tests = (
            *endpoints.remains(end),
            f"ip netns exec {end.box} nft list table inet {ends.table(network, member)}",
        )
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
            + _inner(end, others)
        )
        told = scripts.run(gateway, script).text.split()
        pid = gateway.start(end.name, _argv(end), env=end.env)
        if "up" in told[:1] and told[1:]:
            scripts.run(gateway, f"kill -USR2 {pid}\n")


def _up(end: Endpoint) -> str:
    """Give the condition that the proxy answers at its status port: a signal before that would end it."""
    return f"ip netns exec {end.box} bash -c 'exec 3<>{_status(end.network)}' 2>/dev/null"


def _status(network: Network) -> str:
    return f"/dev/tcp/{_inside(network)}/{haproxy.STATUS_PORT}"


def _argv(end: Endpoint) -> list[str]:
    """Give the words that run the proxy, with the one privilege that it needs: to open sockets in another network."""
    limits = ["--bounding-set=-all,+sys_admin", "--inh-caps=-all", "--no-new-privs"]
    return ["setpriv", *limits, "haproxy", "-W", "-db", "-q", "-f", f"{end.folder}/haproxy.cfg"]


def _inside(network: Network) -> str:
    """Give the loopback address that is a network's own in every container."""
    return str(IPv4Address((127 << 24) + network.number))


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
        if not isinstance(found.public_key(), ec.EllipticCurvePublicKey):
            raise ValueError("its key is not of an elliptic curve")  # noqa: TRY004  as for every wrong text
        return found.public_bytes(Encoding.PEM).decode()

    return peer.text("certificate", read)


def _inner(end: Endpoint, others: Sequence[materials.Peer]) -> str:
    """Give the lines that lead what a container sends to its peers to the proxy, and drop what is not TCP."""
    network, member = end.network, end.member
    peers = ", ".join(peer.address for peer in others)
    device, inside, table = network.name, f"ip netns exec {end.box}", ends.table(network, member)
    routes = [f"route replace {peer.address} dev {device} src {member.address}" for peer in others]
    to = f"{_inside(network)}:{haproxy.INNER_PORT}"
    chains = [
        f"away {{ type nat hook output priority 10; ip daddr {{ {peers} }} meta l4proto tcp dnat ip to {to}; }}",
        f"other {{ type filter hook output priority 20; oifname {device} meta l4proto != tcp counter drop; }}",
    ]
    mark = digest([routes, chains])[:32]
    batch = (
        f"link set {device} addrgenmode none", f"addr replace {member.address}/32 dev {device}",
        f"link set {device} mtu {network.mtu} up", f"route flush dev {device}", *routes,
    )  # fmt: skip
    return (
        f"if ! ip -n {end.box} link show {device} >/dev/null 2>&1; then\n"
        f"ip -n {end.box} link add {device} type bridge\n"
        f"elif {inside} nft list table inet {table} 2>/dev/null | grep -q {mark}; then exit 0; fi\n"
        + scripts.fed(f"ip -n {end.box} -batch -", batch)
        + ends.rules(table, *(chains if others else chains[1:]), comment=mark, inside=inside)
    )


def _settling(end: Endpoint, version: str) -> str:
    """Give a script that waits until the proxy works by its file of this version."""
    ask = f"ip netns exec {end.box} bash -c '{_ASK}' {_status(end.network)} / {version} 2>/dev/null"
    return endpoints.until(ask, f"the proxy {end.name} is not up")
