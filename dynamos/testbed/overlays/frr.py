"""FRR of a node, as far as overlays need it: what its BGP daemon is to know for the networks that end here. Pure.

Each node is an autonomous system of its own and speaks to the nodes of the other members directly (eBGP, address family
EVPN). A network's routes have its number as their target, so that nobody takes up those of another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

_FIRST_PRIVATE = 4_200_000_000  # RFC 6996
_TARGET = 65000
_HEAD = """\
log stdout
router bgp {system}
 bgp router-id {underlay}
 no bgp default ipv4-unicast
 no bgp ebgp-requires-policy
 bgp disable-ebgp-connected-route-check
 coalesce-time 0
{neighbours} address-family l2vpn evpn
{active}  advertise-all-vni
{networks} exit-address-family
"""
# Without the line on connected routes a neighbour counts, until it is told how far away it may be, as one that must be
# next door; a next hop that is looked up in that moment stays unreached for good.
_NEIGHBOUR = """\
 neighbor {peer} remote-as {system}
 neighbor {peer} ebgp-multihop 255
 neighbor {peer} update-source {underlay}
 neighbor {peer} advertisement-interval 0
 neighbor {peer} timers 3 9
 neighbor {peer} timers connect 1
"""
_NETWORK = """\
  vni {number}
   route-target import {target}:{number}
   route-target export {target}:{number}
  exit-vni
"""


@dataclass(frozen=True, slots=True)
class Segment:
    """A network that ends at a node: its number, the node's address, and those of the other members' nodes."""

    number: int
    underlay: str
    peers: frozenset[str]


def system(underlay: str) -> int:
    """Give the number of a node's autonomous system: a private one, by its address."""
    return _FIRST_PRIVATE + (int(IPv4Address(underlay)) & 0xFFFFFF)


def configuration(segments: Sequence[Segment]) -> str:
    """Give the whole configuration for these networks, of which there is at least one."""
    underlay, peers = segments[0].underlay, _peers(segments)
    return _HEAD.format(
        system=system(underlay),
        underlay=underlay,
        neighbours="".join(_neighbour(underlay, peer) for peer in peers),
        active="".join(f"  neighbor {peer} activate\n" for peer in peers),
        networks="".join(_network(number) for number in _numbers(segments)),
    )


def changes(running: str, segments: Sequence[Segment]) -> str:
    """Give what turns a running configuration into the one for these networks; empty where it is that."""
    underlay, wanted_peers, wanted = segments[0].underlay, _peers(segments), _numbers(segments)
    peers = re.findall(r"^ neighbor (\S+) remote-as ", running, re.MULTILINE)
    numbers = [int(number) for number in re.findall(r"^  vni (\d+)$", running, re.MULTILINE)]
    new = [peer for peer in wanted_peers if peer not in peers]
    lines = [f" no neighbor {peer}\n" for peer in peers if peer not in wanted_peers]
    lines += [_neighbour(underlay, peer) for peer in new]
    inner = [f"  neighbor {peer} activate\n" for peer in new]
    inner += [f"  no vni {number}\n" for number in numbers if number not in wanted]
    inner += [_network(number) for number in wanted if number not in numbers]
    if inner:
        lines += [" address-family l2vpn evpn\n", *inner, " exit-address-family\n"]
    return f"router bgp {system(underlay)}\n{''.join(lines)}" if lines else ""


def _neighbour(underlay: str, peer: str) -> str:
    return _NEIGHBOUR.format(peer=peer, system=system(peer), underlay=underlay)


def _network(number: int) -> str:
    return _NETWORK.format(number=number, target=_TARGET)


def _peers(segments: Iterable[Segment]) -> list[str]:
    return sorted({peer for segment in segments for peer in segment.peers})


def _numbers(segments: Iterable[Segment]) -> list[int]:
    return sorted({segment.number for segment in segments})
