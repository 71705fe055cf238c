"""Expectations: what packets from one site to another should meet, by what is declared of the links on their way.
Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from ipaddress import ip_address, ip_network
from typing import Any

from dynamos.model.networks import UNDERLAY_MTU
from dynamos.testbed.items import Link, Routes


@dataclass(frozen=True, slots=True)
class Expected:
    """What packets one way should meet over `links`, in their order: seconds, shares of one, bits per second, bytes.
    `ways` are these links with the site where each is entered.

    Where no link leads there, or one is cut or silent, `loss` is 1.
    """

    links: tuple[str, ...]
    ways: tuple[tuple[str, str], ...] = ()
    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    reorder: float = 0.0
    rate: float | None = None
    mtu: int = UNDERLAY_MTU

    def as_dict(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "ways"}


def expected(
    source: str, destination: str, address: str, links: Mapping[str, Link], routes: Mapping[str, Routes]
) -> Expected:
    """Give what packets from a site should meet on their way to an address at another site."""
    way = path(source, destination, address, links, routes)
    if way is None:
        return Expected((), loss=1.0)
    return along(way)


def path(
    source: str, destination: str, address: str, links: Mapping[str, Link], routes: Mapping[str, Routes]
) -> list[tuple[str, Link]] | None:
    """Give the links from site to site, each with the site where it is entered; None where no route leads there."""
    site, way = source, list[tuple[str, Link]]()
    while site != destination:
        hops = routes[site].hops if site in routes else ()
        fitting = [hop for hop in hops if hop.link and ip_address(address) in ip_network(hop.destination)]
        if not fitting or len(way) > len(routes):
            return None
        link = links[max(fitting, key=lambda hop: ip_network(hop.destination).prefixlen).link]
        way.append((site, link))
        site = link.sites[1] if link.sites[0] == site else link.sites[0]
    return way


def along(way: Sequence[tuple[str, Link]]) -> Expected:
    """Put the impairments of a way together: delays add up, independent losses and jitters as such do."""
    directions = [link.forward if link.sites[0] == site else link.backward for site, link in way]
    rates = [float(each.rate) for each in directions if each.rate is not None]
    up = all(link.state == "up" for _, link in way)
    return Expected(
        links=tuple(link.name for _, link in way),
        ways=tuple((link.name, site) for site, link in way),
        delay=sum(float(each.delay) for each in directions),
        jitter=math.sqrt(sum(float(each.jitter) ** 2 for each in directions)),
        loss=1 - math.prod(1 - each.loss for each in directions) if up else 1.0,
        reorder=1 - math.prod(1 - each.reorder for each in directions),
        rate=min(rates, default=None),
        mtu=min((link.mtu for _, link in way), default=UNDERLAY_MTU),
    )
