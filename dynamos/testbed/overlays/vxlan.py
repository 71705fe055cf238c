"""The overlay `vxlan`: the kernel's own tunnel from node to node (RFC 7348), not encrypted.

The device is made at the node, whose address its packets have, and is born in the container's network. Who is where is
told and not learnt: a permanent entry for each peer, no flooding. Every member has a port of its own, since one node
may have several members of a network. The node takes packets of this network from the nodes of its members only.

Between two members on one node the kernel would hand packets over without sending them, and loses them where the two
are in different networks. So they are sent to the dummy address, which the node translates to its own; that needs outer
packets without a checksum, which RFC 7348 prefers anyway.
"""

from __future__ import annotations

from collections.abc import Sequence

from dynamos.kit.errors import BadInput, Mistake, NotFound
from dynamos.model.networks import DriverName
from dynamos.testbed.hosts import Host
from dynamos.testbed.overlays import ends, materials, names, needs, probes, scripts
from dynamos.testbed.overlays.drivers import Capabilities, Material, Member, Network, capabilities_of

PORT = 4789
DUMMY = "192.0.0.8"
"""The address of nobody (RFC 7600)."""
_HIGHEST_PORT = 65535


class Vxlan:
    """Kernel VXLAN with static entries."""

    name: DriverName = "vxlan"
    capabilities: Capabilities = capabilities_of(
        "vxlan",
        {"ip": "iproute2", "bridge": "iproute2", "nft": "nftables", **probes.PROGRAMS},
        ("vxlan", "filter", "nat"),
    )

    def missing(self, host: Host) -> list[Mistake]:
        return needs.lacking(host, self.capabilities)

    def prepare(self, network: Network, member: Member) -> dict[str, str]:
        """Give the hardware address and port that a member has by its address; there is nothing to make yet."""
        mac = ends.hardware_address(network.number, network.place(member.address))
        return {**materials.facts(member), "mac": mac, "port": str(_port(network, member))}

    def join(self, network: Network, member: Member, material: Material) -> None:
        others = materials.others(network, member, material)
        scripts.run(member.gateway, _making(network, member, others))
        known = {peer.name: peer.address for peer in others}
        names.publish(member.container, network.name, {member.name: member.address, **known})

    def unreached(self, _: Network, member: Member, peers: Sequence[Member]) -> list[str]:
        return probes.unreached(member, peers)

    def leave(self, network: Network, member: Member) -> None:
        names.withdraw(member.container, network.name)
        gone = (
            f"ip -n {member.container.name} link del {network.name} 2>/dev/null || true\n"
            f"ip route del {_here(network, member)} 2>/dev/null || true\n"
        )
        try:
            scripts.run(member.gateway, gone + ends.no_rules(ends.table(network, member)))
        except NotFound:
            return  # the node has ended, and everything on it

    def verify_gone(self, network: Network, member: Member) -> list[str]:
        box = member.container.name
        tests = (
            f"ip -n {box} -o link show dev {network.name}",
            f"ip -n {box} -o addr show to {member.address}",
            f"ip -o link show dev {network.name}",
            f"ip route show {_here(network, member)}",
            f"nft list table inet {ends.table(network, member)}",
        )
        return ends.still(member.gateway, tests) + names.left(member.container, network.name)


def _port(network: Network, member: Member) -> int:
    """Give the port of a member's endpoint: that of the network, and its place in the subnet."""
    port = int(network.options.get("port", PORT)) + network.place(member.address)
    if port > _HIGHEST_PORT:
        where = f"overlay {network.name!r}"
        raise BadInput(f"{member.address} would have the port {port}", where=where, hint="use a smaller subnet")
    return port


def _making(network: Network, member: Member, others: Sequence[materials.Peer]) -> str:
    """Give the script that makes a member's endpoint."""
    box, device, port = member.container.name, network.name, _port(network, member)
    mac = ends.hardware_address(network.number, network.place(member.address))
    neighbours, entries = [], []
    for peer in others:
        theirs = peer.text("mac", materials.mac)
        where = DUMMY if peer.underlay == member.underlay else peer.underlay
        # a peer that is in already may have asked for us by now, so that there is an entry of the kernel's own
        neighbours.append(f"neigh replace {peer.address} lladdr {theirs} dev {device} nud permanent")
        entries.append(f"fdb add {theirs} dev {device} dst {where} port {peer.text('port', materials.port)}")
    create = (
        f"ip link add {device} netns {box} address {mac} mtu {network.mtu} "
        f"type vxlan id {network.number} local {member.underlay} dstport {port} nolearning df set noudpcsum"
    )
    body = _rules(network, member, others) + scripts.fed(f"bridge -n {box} -batch -", entries)
    if any(peer.underlay == member.underlay for peer in others):
        # by the device that has the underlay's address: a route to the loopback counts as local, and is not sent
        body += f"set -- $(ip -o -4 addr show to {member.underlay})\n"
        body += f"ip route replace {_here(network, member)} dev $2\n"
    address = f"{member.address}/{network.range.prefixlen}"
    inside = (
        f"link set {device} {ends.no_ipv6(network)}", f"addr add {address} dev {device}",
        f"link set {device} up", *neighbours,
    )  # fmt: skip
    return ends.made_once(member, device, create, body, inside)


def _rules(network: Network, member: Member, others: Sequence[materials.Peer]) -> str:
    """Give the lines that drop what is for this endpoint and from no node of the network's, and translate what its own
    node sends it."""
    port, vni = _port(network, member), "@th,96,24"  # after 8 bytes of UDP and 4 of VXLAN
    nodes = ", ".join(sorted({member.underlay, *(peer.underlay for peer in others)}))
    foreign = f"udp dport {port} {vni} {network.number} ip saddr != {{ {nodes} }} counter drop"
    chains = [f"in {{ type filter hook input priority -10; {foreign}; }}"]
    if any(peer.underlay == member.underlay for peer in others):
        here = f"ip daddr {DUMMY} udp dport {port} dnat ip to {member.underlay}"
        chains.append(f"here {{ type nat hook output priority -100; {here}; }}")
    return ends.rules(ends.table(network, member), *chains)


def _here(network: Network, member: Member) -> str:
    """Give the route by which a node sends to the dummy address; it is the member's own by its metric."""
    return f"{DUMMY} metric {ends.metric(network, member)}"
