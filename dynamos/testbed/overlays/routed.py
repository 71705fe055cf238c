"""The overlay `none`: no tunnel. A container has one address of the underlay, and the node routes for it.

A cable leads from the container to its node, the same for all networks of this kind that the container is in. The node
gives nothing through it but what the members of one of them say to each other, and does not talk over it itself.
Packets to a peer take the way to the peer's node: where that is by a router, the WAN has to know the way to the
addresses of containers (`subnets.containers` of a profile).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address

from dynamos.kit.digests import digest
from dynamos.kit.errors import Mistake, NotFound
from dynamos.model.networks import DriverName
from dynamos.testbed.hosts import Host
from dynamos.testbed.overlays import ends, materials, names, needs, probes, scripts
from dynamos.testbed.overlays.drivers import Capabilities, Material, Member, Network, capabilities_of

DEVICE = "underlay"
"""The container's end of its cable."""
_ROUTER = "169.254.1.1"
"""The node, as every container calls it on its cable: known by its hardware address, and of nobody."""
_FROM, _TO = 0x10000000, 0x20000000
"""Marks of packets that some network lets out of a cable, and into one."""
_FORWARDING = "/proc/sys/net/ipv4/ip_forward"
_REDIRECTS = "/proc/sys/net/ipv4/conf/all/accept_redirects"
_FORWARDED = "/run/dynamos-forwarding"
_PREFIX = "ov"


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
        scripts.run(member.gateway, _joining(network, member, others, {p.address: hops[p.underlay] for p in far}))
        known = {peer.name: peer.address for peer in others}
        names.publish(member.container, network.name, {member.name: member.address, **known})

    def unreached(self, _: Network, member: Member, peers: Sequence[Member]) -> list[str]:
        return probes.unreached(member, peers)

    def leave(self, network: Network, member: Member) -> None:
        names.withdraw(member.container, network.name)
        cable = _cable(member)
        script = (
            scripts.locked("/run") + f"ip route flush metric {ends.metric(network, member)}\n"
            f"ip -n {member.container.name} route flush metric {ends.metric(network, member)} 2>/dev/null || true\n"
            + ends.no_rules(_table(network, member))
            + f"if ! nft list tables inet | grep -q ' {cable}_'; then\n"
            f"ip link del {cable} 2>/dev/null || true\n"
            + ends.no_rules(cable)
            + f"fi\nif [ -e {_FORWARDED} ] && {_NO_CABLES}; then {_forward(0)}; rm {_FORWARDED}; fi\n"
        )
        try:
            scripts.run(member.gateway, script)
        except NotFound:
            return  # the node has ended, and everything on it

    def verify_gone(self, network: Network, member: Member) -> list[str]:
        box, cable, metric = member.container.name, _cable(member), ends.metric(network, member)
        tests = [
            f"ip -n {box} route show metric {metric}",
            f"ip route show metric {metric}",
            f"nft list table inet {_table(network, member)}",
        ]
        alone = f"nft list tables inet | grep -q ' {cable}_' ||"
        tests += [
            f"{alone} ip -n {box} -o link show dev {DEVICE}",
            f"{alone} ip -o link show dev {cable}",
            f"{alone} ip route show {member.address}",
            f"{alone} nft list table inet {cable}",
            # Not while somebody else joins or leaves here: it is there before the first cable, and after the last.
            f"( flock 9; if {_NO_CABLES}; then ls {_FORWARDED}; fi ) 9</run",
        ]
        return ends.still(member.gateway, tests) + names.left(member.container, network.name)


_NO_CABLES = f"! ip -o link show type veth | grep -q ': {_PREFIX}'"


def _cable(member: Member) -> str:
    """Give the name of a cable's end at the node, and of the rules that come with it."""
    return f"{_PREFIX}{int(IPv4Address(member.address)):08x}"


def _table(network: Network, member: Member) -> str:
    """Give the name of the rules that let a network through a member's cable."""
    return f"{_cable(member)}_{network.number:x}"


def _hops(gateway: Host, underlays: Sequence[str]) -> Mapping[str, str]:
    """Ask a node by what way it sends to other nodes, all at once: the address of a router or of the node itself."""
    wanted = sorted(set(underlays))
    if not wanted:
        return {}
    told = scripts.run(gateway, scripts.fed("ip -o -batch -", (f"route get {address}" for address in wanted))).text
    ways = {}
    for line in told.splitlines():
        words = line.split()
        ways[words[0]] = words[words.index("via") + 1] if "via" in words else words[0]
    return ways


def _joining(network: Network, member: Member, others: Sequence[materials.Peer], ways: Mapping[str, str]) -> str:
    """Give the script that makes a member's cable where none is, and then the network's routes and, last, its rules,
    which bear the digest of it all."""
    box, cable, table, metric = (
        member.container.name,
        _cable(member),
        _table(network, member),
        ends.metric(network, member),
    )
    there = [f"route replace {address} via {way} metric {metric}" for address, way in ways.items()]
    inside = [f"route replace {p.address} via {_ROUTER} dev {DEVICE} metric {metric} onlink" for p in others]
    mark = digest([there, inside, network.mtu])[:32]
    return (
        scripts.locked("/run")
        + f"if ip link show {cable} >/dev/null 2>&1 && nft list table inet {table} 2>/dev/null | grep -q {mark}; then\n"
        "exit 0\nfi\n"
        + _cabling(network, member)
        + f"ip route flush metric {metric}\nip -n {box} route flush metric {metric}\n"
        + scripts.fed("ip -batch -", there)
        + scripts.fed(f"ip -n {box} -batch -", inside)
        + _rules(network, member, others, mark)
    )


def _cabling(network: Network, member: Member) -> str:
    """Give the lines that make a member's cable, with rules that let nothing through, where it is not there whole."""
    box, cable, own = member.container.name, _cable(member), member.address
    inner, outer = (
        ends.hardware_address(int(IPv4Address(own)) >> 16, int(IPv4Address(own)), side=side) for side in (0, 1)
    )
    node = (
        f"link set {cable} {ends.no_ipv6(network)}", f"link set {cable} up", f"route replace {own} dev {cable}",
        f"neigh replace {own} lladdr {inner} dev {cable} nud permanent",
    )  # fmt: skip
    inside = (
        f"link set {DEVICE} {ends.no_ipv6(network)}", f"addr replace {own}/32 dev {DEVICE}",
        f"link set {DEVICE} up",
        f"neigh replace {_ROUTER} lladdr {outer} dev {DEVICE} nud permanent",
    )  # fmt: skip
    errors = "icmp type { destination-unreachable, time-exceeded }"
    base = ends.rules(
        cable,
        f"through {{ type filter hook forward priority -10; oifname {cable} ip daddr {own} {errors} accept; "
        f"oifname {cable} meta mark & {_TO} == 0 counter drop; "
        f"iifname {cable} meta mark & {_FROM} == 0 counter drop; }}",
        f"in {{ type filter hook input priority -10; iifname {cable} counter drop; }}",
        f"out {{ type filter hook output priority -10; oifname {cable} {errors} accept; "
        f"oifname {cable} counter drop; }}",
    )
    return (
        f"read -r on < {_FORWARDING} || true\n"
        f"if [ $on = 0 ]; then echo 1 > {_FORWARDED}; {_forward(1)}; fi\n"
        f"if ! nft list table inet {cable} >/dev/null 2>&1 || ! ip link show {cable} >/dev/null 2>&1; then\n"
        f"ip link del {cable} 2>/dev/null || true\n"
        f"ip link add {cable} address {outer} mtu {network.mtu} type veth "
        f"peer name {DEVICE} netns {box} address {inner} mtu {network.mtu}\n"
        + scripts.fed("ip -batch -", node)
        + scripts.fed(f"ip -n {box} -batch -", inside)
        + base
        + "fi\n"
    )


def _forward(on: int) -> str:
    """Give the words that switch forwarding. The kernel sets whether redirects are accepted with it: that stays."""
    return f"kept=$(cat {_REDIRECTS}); echo {on} > {_FORWARDING}; echo $kept > {_REDIRECTS}"


def _rules(network: Network, member: Member, others: Sequence[materials.Peer], mark: str) -> str:
    """Give the lines that let through a member's cable what the members of a network say to each other."""
    cable, own = _cable(member), member.address
    peers = f"{{ {', '.join(peer.address for peer in others) or own} }}"
    return ends.rules(
        _table(network, member),
        f"through {{ type filter hook forward priority -20; "
        f"oifname {cable} ip saddr {peers} ip daddr {own} meta mark set meta mark or {_TO}; "
        f"iifname {cable} ip saddr {own} ip daddr {peers} meta mark set meta mark or {_FROM}; }}",
        comment=mark,
    )
