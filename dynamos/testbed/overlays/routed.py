"""The overlay `none`: no tunnel. A container has an address of the underlay, and the node routes for it.

A cable leads from the container to its node, which gives nothing but what the members of the network say to each
other through it, and does not talk over it itself. Packets to a peer take the way to the peer's node: where that is by
a router, the WAN has to know the way to the addresses of containers (`subnets.containers` of a profile).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dynamos.kit.errors import Mistake, NotFound
from dynamos.model.networks import DriverName
from dynamos.testbed.hosts import Host
from dynamos.testbed.overlays import ends, materials, names, needs, probes, scripts
from dynamos.testbed.overlays.drivers import Capabilities, Material, Member, Network, capabilities_of

_ROUTER = "169.254.1.1"
"""The node, as every container calls it on its cable: known by its hardware address, and of nobody."""
_FORWARDED = "/run/dynamos-forwarding"


class Routed:
    """Addresses of the underlay, and routes."""

    name: DriverName = "none"
    capabilities: Capabilities = capabilities_of(
        "none", {"ip": "iproute2", "nft": "nftables", "flock": "util-linux", **probes.PROGRAMS}, ("veth", "filter")
    )

    def missing(self, host: Host) -> list[Mistake]:
        return needs.lacking(host, self.capabilities)

    def prepare(self, network: Network, member: Member) -> dict[str, str]:
        """Give where the member is; there is nothing to make yet."""
        network.place(member.address)
        return materials.facts(member)

    def join(self, network: Network, member: Member, material: Material) -> None:
        others = materials.others(network, member, material)
        far = [peer for peer in others if peer.underlay != member.underlay]
        hops = _hops(member.gateway, [peer.underlay for peer in far])
        scripts.run(member.gateway, _making(network, member, others, {p.address: hops[p.underlay] for p in far}))
        known = {peer.name: peer.address for peer in others}
        names.publish(member.container, network.name, {member.name: member.address, **known})

    def unreached(self, _: Network, member: Member, peers: Sequence[Member]) -> list[str]:
        return probes.unreached(member, peers)

    def leave(self, network: Network, member: Member) -> None:
        names.withdraw(member.container, network.name)
        script = (
            scripts.locked("/run")
            + f"ip link del {_cable(network, member)} 2>/dev/null || true\n"
            + f"ip route flush metric {ends.metric(network, member)}\n"
            + ends.no_rules(ends.table(network, member))
            + f"if [ -e {_FORWARDED} ] && ! ip -o link show type veth | grep -q ': {_PREFIX}'; then\n"
            + f"echo 0 > /proc/sys/net/ipv4/ip_forward; rm {_FORWARDED}\nfi\n"
        )
        try:
            scripts.run(member.gateway, script)
        except NotFound:
            return  # the node has ended, and everything on it

    def verify_gone(self, network: Network, member: Member) -> list[str]:
        box = member.container.name
        tests = (
            f"ip -n {box} -o link show dev {network.name}",
            f"ip -n {box} -o addr show to {member.address}",
            f"ip -o link show dev {_cable(network, member)}",
            f"ip route show {member.address}",
            f"ip route show metric {ends.metric(network, member)}",
            f"nft list table inet {ends.table(network, member)}",
            f"[ ! -e {_FORWARDED} ] || ip -o link show type veth | grep -q ': {_PREFIX}' || ls {_FORWARDED}",
        )
        return ends.still(member.gateway, tests) + names.left(member.container, network.name)


_PREFIX = "ov"


def _cable(network: Network, member: Member) -> str:
    """Give the name of the cable's end at the node."""
    return f"{_PREFIX}{network.number:x}.{network.place(member.address):x}"


def _hops(gateway: Host, underlays: Sequence[str]) -> Mapping[str, str]:
    """Ask a node by what way it sends to other nodes, all at once: the address of a router or of the node itself."""
    wanted = sorted(set(underlays))
    told = scripts.run(gateway, scripts.fed("ip -o -batch -", (f"route get {address}" for address in wanted))).text
    ways = {}
    for line in told.splitlines():
        words = line.split()
        ways[words[0]] = words[words.index("via") + 1] if "via" in words else words[0]
    return ways


def _making(network: Network, member: Member, others: Sequence[materials.Peer], ways: Mapping[str, str]) -> str:
    """Give the script that makes a member's cable, routes and rules."""
    device, cable, metric = network.name, _cable(network, member), ends.metric(network, member)
    place = network.place(member.address)
    inner, outer = ends.hardware_address(network.number, place), ends.hardware_address(network.number, place, side=1)
    create = (
        f"ip link add {cable} address {outer} mtu {network.mtu} type veth "
        f"peer name {device} netns {member.container.name} address {inner} mtu {network.mtu}"
    )
    node = [
        f"link set {cable} addrgenmode none",
        f"link set {cable} up",
        f"route add {member.address} dev {cable} metric {metric}",
        f"neigh add {member.address} lladdr {inner} dev {cable} nud permanent",
        *(f"route replace {address} via {way} metric {metric}" for address, way in ways.items()),
    ]
    forward = (
        scripts.locked("/run") + "read -r on < /proc/sys/net/ipv4/ip_forward || true\n"
        f"if [ $on = 0 ]; then echo 1 > {_FORWARDED}; echo 1 > /proc/sys/net/ipv4/ip_forward; fi\n"
    )
    inside = (
        f"link set {device} addrgenmode none",
        f"addr add {member.address}/32 dev {device}",
        f"link set {device} up",
        f"neigh add {_ROUTER} lladdr {outer} dev {device} nud permanent",
        *(f"route add {peer.address} via {_ROUTER} dev {device} onlink" for peer in others),
    )
    again = f"ip route flush metric {metric}\n"
    body = again + _rules(network, member, others) + scripts.fed("ip -batch -", node)
    return forward + ends.made_once(member, device, create, body, inside)


def _rules(network: Network, member: Member, others: Sequence[materials.Peer]) -> str:
    """Give the lines that let through a member's cable what the members say to each other, and nothing else."""
    cable, own = _cable(network, member), member.address
    peers = f"{{ {', '.join(peer.address for peer in others) or own} }}"
    errors = "icmp type { destination-unreachable, time-exceeded } accept"
    return ends.rules(
        ends.table(network, member),
        f"through {{ type filter hook forward priority -10; iifname != {cable} oifname != {cable} accept; "
        f"oifname {cable} ip saddr {peers} ip daddr {own} accept; oifname {cable} ip daddr {own} {errors}; "
        f"oifname {cable} counter drop; "
        f"ip saddr {own} ip daddr {peers} accept; iifname {cable} counter drop; }}",
        f"to {{ type filter hook input priority -10; iifname {cable} counter drop; }}",
        f"from {{ type filter hook output priority -10; oifname {cable} {errors}; oifname {cable} counter drop; }}",
    )
