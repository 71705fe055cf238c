"""Addresses: the plan of who has which, the same for the same profile, and leases of subnets for requests.

    range        of each                          default
    wan          first half: a /24 per site       198.18.0.0/24 … : .1 the site's router, .11 … its nodes
                 second half: a /30 per link      198.19.0.0/30 … : .1 the router of the first site, .2 of the second
    containers   a /24 per node, 16 per site      10.64.0.0/24 …  : .1 the node, .10 … its containers
    marketplace  a /24 per site                   10.80.0.0/24 …  : .10 … the containers at it
    groups       a /22 per group                  10.96.0.0/22 …  : .1 … its members
    requests     a /26 per request                10.112.0.0/26 … : .1 … its members

Sites, nodes, links, groups and parties count in the order of the file: what is added at the end moves nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network

from dynamos.model.sites import MOST_NODES
from dynamos.model.subnets import Subnets

SITE, LINK, NODE, GROUP, REQUEST = 24, 30, 24, 22, 26
FIRST_NODE, FIRST_CONTAINER = 11, 10


@dataclass(frozen=True, slots=True)
class Shares:
    """How many of each there is room for; `seats` is of sites in the overlay of the marketplace."""

    sites: int
    seats: int
    links: int
    nodes: int
    containers: int
    groups: int
    requests: int


def shares(subnets: Subnets) -> Shares:
    """Give how many of each the ranges have room for."""
    return Shares(
        sites=_count(subnets.wan, SITE, halved=True),
        seats=_count(subnets.marketplace, SITE),
        links=_count(subnets.wan, LINK, halved=True),
        nodes=_count(subnets.containers, NODE),
        containers=2 ** (32 - NODE) - FIRST_CONTAINER - 1,
        groups=_count(subnets.groups, GROUP),
        requests=_count(subnets.requests, REQUEST),
    )


@dataclass(frozen=True, slots=True)
class Addresses:
    """The plan of a testbed's addresses. Sites, links and the rest count from 0 on; texts are with their prefix, as
    "198.18.0.11/24", where they are of a device."""

    subnets: Subnets

    def site(self, site: int) -> IPv4Network:
        """Give the network of a site: its router and its nodes are in it."""
        return _part(_half(self.subnets.wan, 0), SITE, site)

    def router(self, site: int) -> str:
        """Give the address of a site's router in the site's network."""
        return device(self.site(site), 1)

    def node(self, site: int, node: int) -> str:
        """Give the address of a node in its site's network."""
        return device(self.site(site), FIRST_NODE + node)

    def link(self, link: int) -> tuple[str, str]:
        """Give the addresses of a link's two ends."""
        network = _part(_half(self.subnets.wan, 1), LINK, link)
        return device(network, 1), device(network, 2)

    def containers(self, site: int, node: int) -> IPv4Network:
        """Give the network of the containers on a node."""
        return _part(self.subnets.containers, NODE, site * MOST_NODES + node)

    def container(self, site: int, node: int, container: int) -> str:
        """Give the address that a container on a node has in the underlay, where it has one."""
        return device(self.containers(site, node), FIRST_CONTAINER + container)

    def shared(self, site: int, container: int) -> str:
        """Give the address that a container at a site has in the overlay of the marketplace, without prefix."""
        return bare(device(_part(self.subnets.marketplace, SITE, site), FIRST_CONTAINER + container))

    def group(self, group: int) -> IPv4Network:
        """Give the network of a group's overlay."""
        return _part(self.subnets.groups, GROUP, group)

    def request(self, slot: int) -> IPv4Network:
        """Give the network of a request's overlay; `slot` is from `Leases`."""
        return _part(self.subnets.requests, REQUEST, slot)


def device(network: IPv4Network, host: int) -> str:
    """Give the address of a device in a network, with its prefix. Raises ValueError where the network is too small."""
    if not 0 < host < network.num_addresses - 1:
        raise ValueError(f"{network} has no host {host}")
    return f"{network[host]}/{network.prefixlen}"


def bare(address: str) -> str:
    """Give an address without its prefix."""
    return address.partition("/")[0]


class Leases:
    """Gives slots (small numbers) to names, each to one at a time: which request has which subnet and number.

    A slot that is free again is given out as late as possible, so that what is under way to its last holder does not
    meet the next. Both calls are idempotent and take the same time however many there are.
    """

    def __init__(self, size: int, held: dict[str, int] | None = None) -> None:
        self._held = dict(held or {})
        taken = set(self._held.values())
        self._free = dict.fromkeys(slot for slot in range(size) if slot not in taken)

    @property
    def held(self) -> dict[str, int]:
        """Who holds what now, to go on from."""
        return dict(self._held)

    def take(self, name: str) -> int | None:
        """Give the name's slot, a new one where it has none; None where all are taken."""
        if name not in self._held:
            if not self._free:
                return None
            slot = next(iter(self._free))
            del self._free[slot]
            self._held[name] = slot
        return self._held[name]

    def give_back(self, name: str) -> None:
        """Free the name's slot. Does nothing where it has none."""
        slot = self._held.pop(name, None)
        if slot is not None:
            self._free[slot] = None


def _count(network: IPv4Network, prefix: int, *, halved: bool = False) -> int:
    longer = network.prefixlen + (1 if halved else 0)
    return 2 ** (prefix - longer) if prefix >= longer else 0


def _half(network: IPv4Network, which: int) -> IPv4Network:
    return _part(network, network.prefixlen + 1, which)


def _part(network: IPv4Network, prefix: int, index: int) -> IPv4Network:
    """Give one of the equal parts of a network, without making the others."""
    if prefix < network.prefixlen or not 0 <= index < 2 ** (prefix - network.prefixlen):
        raise ValueError(f"{network} has no part /{prefix} number {index}")
    start = int(network.network_address) + (index << (32 - prefix))
    return IPv4Network((start, prefix))
