"""WANs for tests: sites with a node each in a world that ends with the test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from dynamos.kit.errors import Unavailable
from dynamos.model import networks
from dynamos.model.subnets import Subnets
from dynamos.testbed.addresses import Addresses, bare
from dynamos.testbed.efforts import Effort
from dynamos.testbed.items import Hop, Link, Router, Routes
from dynamos.testbed.measurements import Place
from dynamos.testbed.nodes import Node
from dynamos.testbed.routes import next_sites
from dynamos.testbed.wans import Wan
from dynamos.testbed.worlds import World
from support.worlds import made_world, needs

SHORT = Effort("short", seconds=0.8, interval=0.004, packets=100, flood=0.3, links=1)
"""Enough for a delay, and to tell all from nothing."""
PLAN = Addresses(Subnets())


def link(first: str, second: str, **members: object) -> networks.Link:
    """A link as a profile says it."""
    return networks.Link(between=(first, second), **members)


def laid(declared: networks.Link, number: int) -> Link:
    """The link as an item, with addresses by its number."""
    first, second = declared.between
    return Link(
        name=declared.name,
        sites=declared.between,
        addresses=PLAN.link(number),
        mtu=declared.mtu,
        forward=declared.direction(first),
        backward=declared.direction(second),
    )


def routes(sites: Sequence[str], links: Sequence[networks.Link]) -> dict[str, Routes]:
    """The routes of every site's router, by site."""
    ends: dict[tuple[str, str], tuple[str, str]] = {}
    for number, each in enumerate(links):
        (first, second), (one, other) = each.between, PLAN.link(number)
        ends |= {(first, second): (bare(other), each.name), (second, first): (bare(one), each.name)}
    ways = next_sites(links, sites)
    return {
        site: Routes(
            name=site,
            hops=tuple(Hop(str(PLAN.site(sites.index(there))), *ends[site, via]) for there, via in ways[site].items()),
        )
        for site in sites
    }


@dataclass(frozen=True)
class Lab:
    """A WAN with what was asked of it."""

    world: World
    wan: Wan
    nodes: Mapping[str, Node]
    routes: Mapping[str, Routes]

    def address(self, site: str) -> str:
        return bare(PLAN.node(list(self.nodes).index(site), 0))

    def places(self, *sites: str) -> list[Place]:
        return [Place(site, self.nodes[site], self.address(site)) for site in sites or self.nodes]

    def ping(self, source: str, destination: str, *words: str) -> str:
        """What one ping says."""
        argv = ["ping", "-c", "1", "-W", "2", *words, self.address(destination)]
        return self.nodes[source].run(argv, check=False).text

    def round_trip(self, source: str, destination: str) -> float:
        """The shortest of some round trips: seconds."""
        argv = ["ping", "-q", "-c", "5", "-i", "0.01", "-W", "2", self.address(destination)]
        told = self.nodes[source].run(argv, check=False).text
        assert "rtt min" in told, told
        return float(told.rpartition("= ")[2].split("/")[0]) / 1000

    def reaches(self, source: str, destination: str) -> bool:
        return "1 received" in self.ping(source, destination)


def netem_needs() -> None:
    """Skip where nothing here delays packets."""
    needs("ip", "tc", "ping")
    with_kernel = shutil.which("tc") and Path("/lib/modules").exists() and any(Path("/lib/modules").rglob("sch_netem*"))
    if not with_kernel:
        needs("linux.uml", "modprobe")


@contextmanager
def made_wan(folder: Path, sites: Sequence[str], links: Sequence[networks.Link], name: str = "tests") -> Iterator[Lab]:
    """A WAN with these links, and a node at each site."""
    netem_needs()
    with made_world(folder, name) as world:
        try:
            wan = Wan.create(world)
            wan.put_router(*(Router(name=site, address=PLAN.router(number)) for number, site in enumerate(sites)))
            wan.put_link(*(laid(each, number) for number, each in enumerate(links)))
        except Unavailable as error:
            pytest.skip(str(error))
        ways = routes(sites, links)
        wan.put_routes(*ways.values())
        nodes = {}
        for number, site in enumerate(sites):
            nodes[site] = world.node(site, site)
            wan.attach(nodes[site], site, PLAN.node(number, 0), bare(PLAN.router(number)))
        yield Lab(world, wan, nodes, ways)
