"""The overlay `openvpn`: OpenVPN 2.6 from container to container, a tunnel for each pair.

A hub would read what others say through it, so there is none. Each end knows the other by the fingerprint of its
certificate (`peer-fingerprint`), which is signed by nobody but itself; keys of sessions are agreed on by TLS 1.3. Both
ends call, so that whichever comes later, or again, is heard at once.

A container has the network's device with its address, and a device for each peer, which takes the peer's address alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from dynamos.kit.errors import BadInput
from dynamos.testbed.overlays import endpoints, ends, materials, scripts, tunnels
from dynamos.testbed.overlays.drivers import Network, capabilities_of
from dynamos.testbed.overlays.endpoints import Endpoint
from dynamos.testbed.overlays.tunnels import Tunnel

_FINGERPRINT = re.compile(r"([0-9A-F]{2}:){31}[0-9A-F]{2}")
_MOST_PORTS = 1024
_SITES, _AT_SITE = 64, 16
"""In a large network every site has a /24: so many sites have a port for so many members each."""


class Openvpn(Tunnel):
    """OpenVPN, a full mesh of tunnels between two."""

    name = "openvpn"
    capabilities = capabilities_of(
        "openvpn", {"openvpn": "openvpn", "openssl": "openssl", **tunnels.PROGRAMS}, ("tun",)
    )
    first_port = 1194

    def _ports(self, network: Network) -> int:
        """Give a port for everybody who may be there: who will is not known yet."""
        return min(network.range.num_addresses, _MOST_PORTS)

    def _keys(self, end: Endpoint) -> str:
        return (
            "if ! [ -s own.crt ]; then\n"
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 "
            f"-subj /CN={end.member.name} -keyout own.key -out own.new 2>/dev/null\nmv own.new own.crt\nfi\n"
            "echo fingerprint $(openssl x509 -in own.crt -noout -fingerprint -sha256 | cut -d= -f2)\n"
        )

    def _bring_up(self, end: Endpoint, port: int, others: Sequence[materials.Peer]) -> None:
        gateway, wanted = end.member.gateway, [peer.address for peer in others]
        script = f"(\n{_holder(end)})\numask 077\ncd {end.folder}\n" + endpoints.writing(self._files(end, port, others))
        script += _TUNNELS + "".join(f"if ! {{ {_ready(end, each)}; }}; then echo down {each}; fi\n" for each in wanted)
        told = scripts.run(gateway, script).text.splitlines()
        changed = {line.rpartition(".")[0] for line in told if " " not in line}
        down, there = ({line.split()[1] for line in told if line.startswith(f"{what} ")} for what in ("down", "there"))
        gone = there - set(wanted)
        for address in sorted(changed | down | gone):
            gateway.stop(_daemon(end, address))
        for address in wanted:
            gateway.start(_daemon(end, address), ["openvpn", "--config", f"{end.folder}/{address}.conf"], env=end.env)
        script = f"cd {end.folder}\n" + "".join(f"rm -f {address}.*\n" for address in sorted(gone))
        for address in wanted:
            script += endpoints.until(
                _ready(end, address), f"no device for {address} got into the container", within=endpoints.PATIENCE
            )
        self._settled(end, script)

    def _daemons(self, end: Endpoint) -> Sequence[str]:
        script = f"if cd {end.folder} 2>/dev/null; then\n{_TUNNELS}fi\n"
        told = scripts.run(end.member.gateway, script).text.splitlines()
        return [_daemon(end, line.split()[1]) for line in told]

    def _undoing(self, end: Endpoint) -> Sequence[str]:
        listed = f"ip -n {end.box} -br link | cut -d' ' -f1 | grep '^{_prefix(end)}[0-9a-f]*$'"
        return [f"for device in $({listed}); do ip -n {end.box} link del $device; done"]

    def _remains(self, end: Endpoint) -> Sequence[str]:
        return [f"ip -n {end.box} -br link | grep '^{_prefix(end)}'"]

    def _files(self, end: Endpoint, port: int, others: Sequence[materials.Peer]) -> Mapping[str, str]:
        files: dict[str, str] = {}
        taken: dict[int, str] = {}
        for peer in others:
            twin = taken.setdefault(_slot(end.network, peer.address), peer.address)
            if twin != peer.address:
                hint = f"at most {_AT_SITE} members at a site and {_SITES} sites, or another driver"
                raise BadInput(f"{peer.address} and {twin} would have the same port", where=peer.name, hint=hint)
            files[f"{peer.address}.conf"] = _config(end, port, peer)
            files[f"{peer.address}.up"] = _up(end, peer.address)
        return files


_TUNNELS = "for conf in *.conf; do if [ -e $conf ]; then echo there ${conf%.conf}; fi; done\n"


def _config(end: Endpoint, port: int, peer: materials.Peer) -> str:
    """Give the configuration of the tunnel to a peer: the first by name is TLS's server, which changes nothing else."""
    options = end.network.options
    cipher, tcp = options.get("cipher", "AES-256-GCM"), options.get("protocol", "udp") == "tcp"
    serves = end.member.name < peer.name
    own = port + _slot(end.network, peer.address)
    theirs = peer.text("port", materials.port) + _slot(end.network, end.member.address)
    fingerprint = peer.text("fingerprint", _fingerprint)
    if tcp:
        way = (
            ["proto tcp4-server", f"local {end.member.underlay}", f"lport {own}"]
            if serves
            else ["proto tcp4-client", "nobind", f"remote {peer.underlay} {theirs}", "connect-retry 1 2"]
        )
        way.append("socket-flags TCP_NODELAY")
    else:
        way = ["proto udp4", f"local {end.member.underlay}", f"lport {own}", f"remote {peer.underlay} {theirs}"]
    return "\n".join(
        [
            *way, f"dev {_at_node(own)}", "dev-type tun", f"tun-mtu {end.network.mtu}", "mssfix 0",
            *(["tls-server", "dh none"] if serves else ["tls-client"]),
            "tls-version-min 1.3", f"cert {end.folder}/own.crt", f"key {end.folder}/own.key",
            "<peer-fingerprint>", fingerprint, "</peer-fingerprint>",
            f"data-ciphers {cipher}", "allow-compression no", "persist-tun", "persist-key", "keepalive 1 5",
            "tls-timeout 1", "ifconfig-noexec", "route-noexec", "script-security 2",
            f"up '/bin/sh -eu {end.folder}/{peer.address}.up'", "verb 1", "suppress-timestamps",
        ]
    )  # fmt: skip


def _slot(network: Network, address: str) -> int:
    """Give which of every member's ports is for the peer that has this address."""
    place = network.place(address)
    if network.range.num_addresses <= _MOST_PORTS:
        return place
    return (place >> 8) % _SITES * _AT_SITE + place % _AT_SITE


def _up(end: Endpoint, address: str) -> str:
    """Give the script that OpenVPN runs when it has opened its device for the peer that has this address."""
    device = _inside(end, address)
    inside = (f"link set {device} up", f"route add {address} dev {device} src {end.member.address}")
    return (
        f"cd {end.folder}\nrm -f {address}.ready\n"
        f"ip link set $dev mtu {end.network.mtu} {ends.no_ipv6(end.network)} netns {end.box} name {device}\n"
        # What comes from there must come from the peer.
        f"ip netns exec {end.box} sh -c 'echo 1 > /proc/sys/net/ipv4/conf/{device}/rp_filter'\n"
        + scripts.fed(f"ip -n {end.box} -batch -", inside)
        + f"echo $daemon_pid > {address}.new\nmv {address}.new {address}.ready\n"
    )


def _holder(end: Endpoint) -> str:
    """Give a script that makes the device that has the address, and nothing behind it."""
    create = f"ip -n {end.box} tuntap add dev {end.network.name} mode tun"
    inside = (
        f"link set {end.network.name} mtu {end.network.mtu} {ends.no_ipv6(end.network)}",
        f"addr add {end.member.address}/32 dev {end.network.name}", f"link set {end.network.name} up",
    )  # fmt: skip
    return ends.made_once(end.member, end.network.name, create, "", inside)


def _ready(end: Endpoint, address: str) -> str:
    return endpoints.ready(end, _inside(end, address), f"{address}.ready")


def _daemon(end: Endpoint, address: str) -> str:
    return f"{end.name}-{address}"


def _prefix(end: Endpoint) -> str:
    """Give what the devices of a network's tunnels are called in a container, up to the peer."""
    return f"o{end.network.number:x}p"


def _inside(end: Endpoint, address: str) -> str:
    return f"{_prefix(end)}{end.network.place(address):x}"


def _at_node(port: int) -> str:
    return f"o{port}"


def _fingerprint(text: str) -> str:
    if not _FINGERPRINT.fullmatch(text):
        raise ValueError(f"{text!r} is no SHA-256 fingerprint")
    return text
