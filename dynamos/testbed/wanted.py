"""The wanted state of a testbed: what a profile means, down to every address. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from dynamos.model import networks
from dynamos.model.networks import UNDERLAY_MTU
from dynamos.model.profiles import Profile
from dynamos.model.sites import Site, host_name
from dynamos.testbed.addresses import Addresses, bare
from dynamos.testbed.items import Container, Hop, Item, Key, Link, Node, Router, Routes, World
from dynamos.testbed.overlay_plans import overlays
from dynamos.testbed.routes import next_sites

I = TypeVar("I", bound=Item)  # noqa: E741  an item

PORTS: Mapping[str, int] = {"ssh": 22, "bus": 4222, "leaf": 7422, "exchange": 8815, "api": 8080}
"""Where each thing is served on a node or in a container: each has a network of its own, so the same everywhere."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a testbed shall consist of."""

    testbed: str
    driver: str
    items: Mapping[Key, Item]

    def of(self, kind: type[I]) -> dict[str, I]:
        """Give the items of a kind by name."""
        return {item.name: item for item in self.items.values() if isinstance(item, kind)}


NOTHING = Wanted("", "", {})
"""What is wanted of a testbed that shall go."""


def wanted(profile: Profile) -> Wanted:
    """Give the wanted state of a profile that `validate` has found right.

    With the driver `processes` it is empty: sites are processes then, and have no networks. So it is with `kubernetes`,
    whose cluster has networks of its own.
    """
    if profile.driver in ("processes", "kubernetes"):
        return Wanted(profile.name, profile.driver, {})
    plan = Addresses(profile.subnets)
    order = {site: index for index, site in enumerate(profile.sites)}
    items: list[Item] = list(_network(profile, plan, order)) if profile.driver == "namespaces" else []
    names = _names(profile, plan) if profile.driver == "namespaces" else {}
    for site in profile.sites.values():
        items += _nodes(profile, plan, order[site.name], site, names)
    for site in profile.sites.values():
        items += _containers(plan, order[site.name], site)
    found = Wanted(profile.name, profile.driver, {item.key: item for item in items})
    made = overlays(profile, found.of(Container), found.of(Node))
    return Wanted(profile.name, profile.driver, {**found.items, **{item.key: item for item in made}})


def _network(profile: Profile, plan: Addresses, order: Mapping[str, int]) -> Iterator[Item]:
    """Give the world and what joins the sites in it."""
    yield World(testbed=profile.name)
    for site, index in order.items():
        yield Router(name=site, address=plan.router(index))
    for index, link in enumerate(profile.links):
        yield _link(plan, index, link)
    yield from _routes(profile, plan, order)


def _link(plan: Addresses, index: int, link: networks.Link) -> Link:
    first, second = link.between
    return Link(
        name=link.name,
        sites=link.between,
        addresses=plan.link(index),
        mtu=link.mtu,
        forward=link.direction(first),
        backward=link.direction(second),
    )


def _routes(profile: Profile, plan: Addresses, order: Mapping[str, int]) -> Iterator[Routes]:
    ends: dict[tuple[str, str], tuple[str, str]] = {}
    for index, link in enumerate(profile.links):
        at = dict(zip(link.between, plan.link(index), strict=True))
        for here, there in (link.between, link.between[::-1]):
            ends[here, there] = (bare(at[there]), link.name)
    networks = {site: _networks(profile, plan, index, site) for site, index in order.items()}
    for site, following in next_sites(profile.links, profile.sites).items():
        own = [Hop(network, bare(plan.node(order[site], node)), "") for node, network in enumerate(networks[site][1:])]
        hops = [
            Hop(network, *ends[site, following[destination]])
            for destination in sorted(following, key=order.__getitem__)
            for network in networks[destination]
        ]
        yield Routes(name=site, hops=(*own, *hops))


def _networks(profile: Profile, plan: Addresses, index: int, site: str) -> list[str]:
    """Give the networks of a site: that of its nodes and, where containers are in the underlay, those of theirs."""
    found = [str(plan.site(index))]
    if profile.overlay.driver == "none":
        found += [str(plan.containers(index, node)) for node in range(len(profile.sites[site].nodes))]
    return found


def _nodes(profile: Profile, plan: Addresses, index: int, site: Site, names: Mapping[str, str]) -> Iterator[Node]:
    """Give the site's nodes. What joins them to their router carries whatever any link does."""
    own = profile.driver == "namespaces"
    mtu = max([UNDERLAY_MTU, *(link.mtu for link in profile.links)])
    for number, node in enumerate(site.nodes.values()):
        yield Node(
            name=host_name(node.name),
            site=site.name,
            address=plan.node(index, number) if own else node.address,
            gateway=bare(plan.router(index)) if own else "",
            mtu=mtu,
            containers=str(plan.containers(index, number)),
            names={name: address for name, address in names.items() if name != host_name(node.name)},
        )


def _names(profile: Profile, plan: Addresses) -> dict[str, str]:
    """Give what nodes know by name: every node, and every site by its first node, where no node has that name."""
    nodes = {
        host_name(node): bare(plan.node(index, number))
        for index, site in enumerate(profile.sites.values())
        for number, node in enumerate(site.nodes)
    }
    return {site.name: nodes[host_name(site.gateway.name)] for site in profile.sites.values()} | nodes


def _containers(plan: Addresses, index: int, site: Site) -> Iterator[Container]:
    names = list(map(host_name, site.nodes))
    for number, party in enumerate(site.parties):
        node, slot = number % len(names), number // len(names)
        address, shared = plan.container(index, node, slot), plan.shared(index, number)
        yield Container(
            name=host_name(party), party=party, site=site.name, node=names[node], address=address, shared=shared
        )
