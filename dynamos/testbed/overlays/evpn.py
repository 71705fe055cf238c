"""The overlay `evpn`: kernel VXLAN, in which nodes tell each other by BGP who is where (RFC 8365), not encrypted.

Each node has a bridge and a tunnel for each network that it has members of, and a cable from the bridge to each of
their containers. Nothing else is on the bridge, and the node has no address on it. Who is where is learnt at the
bridge and told by FRR (`speakers`), from node to node, each of which is an autonomous system. The node takes packets of
the network from the nodes of its members only.
"""

from __future__ import annotations

from collections.abc import Sequence

from dynamos.kit.errors import Mistake, NotFound
from dynamos.model.networks import DriverName
from dynamos.testbed.hosts import Host
from dynamos.testbed.overlays import ends, materials, names, needs, probes, scripts, speakers
from dynamos.testbed.overlays.drivers import Capabilities, Material, Member, Network, capabilities_of
from dynamos.testbed.overlays.frr import Segment

PORT = 4789


class Evpn:
    """BGP EVPN by FRR, over kernel VXLAN."""

    name: DriverName = "evpn"
    capabilities: Capabilities = capabilities_of(
        "evpn",
        {
            **dict.fromkeys(("/usr/lib/frr/zebra", "/usr/lib/frr/bgpd", "vtysh"), "frr"),
            "ip": "iproute2",
            "bridge": "iproute2",
            "nft": "nftables",
            "flock": "util-linux",
            **probes.PROGRAMS,
        },
        ("vxlan", "bridge", "veth", "filter"),
    )

    def missing(self, host: Host) -> list[Mistake]:
        return needs.lacking(host, self.capabilities)

    def prepare(self, network: Network, member: Member) -> dict[str, str]:
        """Give where the member is; what else there is to know goes by BGP."""
        network.place(member.address)
        return materials.facts(member)

    def join(self, network: Network, member: Member, material: Material) -> None:
        others = materials.others(network, member, material)
        far = frozenset(peer.underlay for peer in others if peer.underlay != member.underlay)
        scripts.run(member.gateway, _making(network, member, Segment(network.number, member.underlay, far)))
        speakers.settle(member.gateway)
        known = {peer.name: peer.address for peer in others}
        names.publish(member.container, network.name, {member.name: member.address, **known})

    def unreached(self, _: Network, member: Member, peers: Sequence[Member]) -> list[str]:
        return probes.unreached(member, peers)

    def leave(self, network: Network, member: Member) -> None:
        names.withdraw(member.container, network.name)
        script = (
            scripts.locked("/run") + f"rm -f {_seat(network, member)}\n"
            f"ip link del {_cable(network, member)} 2>/dev/null || true\n"
            f"if ! ls {_seats(network)} >/dev/null 2>&1; then\n"
            f"ip link del {_tunnel(network)} 2>/dev/null || true\n"
            f"ip link del {_bridge(network)} 2>/dev/null || true\n" + ends.no_rules(_bridge(network)) + "fi\n"
        )
        try:
            scripts.run(member.gateway, script)
            speakers.settle(member.gateway)
        except NotFound:
            return  # the node has ended, and everything on it

    def verify_gone(self, network: Network, member: Member) -> list[str]:
        box, alone = member.container.name, f"ls {_seats(network)} >/dev/null 2>&1 ||"
        tests = [
            f"ip -n {box} -o link show dev {network.name}",
            f"ip -n {box} -o addr show to {member.address}",
            f"ip -o link show dev {_cable(network, member)}",
            f"ls {_seat(network, member)}",
            *(f"{alone} ip -o link show dev {device}" for device in (_bridge(network), _tunnel(network))),
            f"{alone} bridge fdb show dev {_tunnel(network)}",
            f"{alone} nft list table inet {_bridge(network)}",
            f"{alone} {speakers.known(network.number)}",
            *speakers.LEFT,
        ]
        return ends.still(member.gateway, tests) + names.left(member.container, network.name)


def _bridge(network: Network) -> str:
    """Give the name of a network's bridge at a node, and of its rules."""
    return f"evb{network.number:x}"


def _tunnel(network: Network) -> str:
    return f"evx{network.number:x}"


def _cable(network: Network, member: Member) -> str:
    return f"ev{network.number:x}.{network.place(member.address):x}"


def _seats(network: Network) -> str:
    return f"{speakers.SEATS}/{network.number}.*"


def _seat(network: Network, member: Member) -> str:
    return f"{speakers.SEATS}/{network.number}.{network.place(member.address)}"


def _making(network: Network, member: Member, segment: Segment) -> str:
    """Give the script that makes the network's bridge and tunnel at a node, the member's seat there, and its cable."""
    bridge, tunnel, cable, device = _bridge(network), _tunnel(network), _cable(network, member), network.name
    nodes = ", ".join(sorted({member.underlay, *segment.peers}))
    port, vni = int(network.options.get("port", PORT)), f"@th,96,24 {network.number}"
    foreign = f"udp dport {port} {vni} ip saddr != {{ {nodes} }} counter drop"
    trunk = (
        f"link set {bridge} mtu {network.mtu} {ends.no_ipv6(network)}",
        f"link set {bridge} up",
        f"link set {tunnel} {ends.no_ipv6(network)} master {bridge}",
        f"link set {tunnel} type bridge_slave learning off",
        f"link set {tunnel} up",
    )
    create = (
        f"ip link add {cable} mtu {network.mtu} type veth peer name {device} netns {member.container.name} "
        f"address {ends.hardware_address(network.number, network.place(member.address))} mtu {network.mtu}"
    )
    plug = scripts.fed(
        "ip -batch -", (f"link set {cable} {ends.no_ipv6(network)} master {bridge}", f"link set {cable} up")
    )
    inside = (
        f"link set {device} {ends.no_ipv6(network)}",
        f"addr add {member.address}/{network.range.prefixlen} dev {device}",
        f"link set {device} up",
    )
    return (
        scripts.locked("/run") + f"mkdir -p {speakers.SEATS}\n{speakers.BRIDGED}"
        f"ip link show {bridge} >/dev/null 2>&1 || ip link add {bridge} type bridge mcast_snooping 0\n"
        f"ip link show {tunnel} >/dev/null 2>&1 || ip link add {tunnel} mtu {network.mtu} type vxlan "
        f"id {network.number} local {member.underlay} dstport {port} nolearning df set\n"
        + scripts.fed("ip -batch -", trunk)
        + ends.rules(bridge, f"in {{ type filter hook input priority -10; {foreign}; }}")
        + scripts.fed(f"cat > {speakers.HOME}/new", [speakers.note(segment)])
        + f"mv {speakers.HOME}/new {_seat(network, member)}\n"
        + ends.made_once(member, device, create, plug, inside)
    )
