"""Routes: the paths with the least delay between sites, the same for the same links."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from dynamos.model.networks import Link


def next_sites(links: Iterable[Link], sites: Iterable[str]) -> dict[str, dict[str, str]]:
    """Give, for each site and each other one that it reaches, the neighbour that packets go to next.

    The path with the least delay counts, among equal ones that with the fewest links, then by the sites' names.
    """
    beside: dict[str, list[tuple[str, float]]] = {site: [] for site in sites}
    for link in links:
        for here, there in (link.between, link.between[::-1]):
            if here in beside and there in beside:
                beside[here].append((there, float(link.direction(here).delay)))
    return {site: _from(site, beside) for site in beside}


def _from(start: str, beside: dict[str, list[tuple[str, float]]]) -> dict[str, str]:
    first: dict[str, str] = {}
    waiting: list[tuple[float, int, str, str]] = [(0.0, 0, "", start)]
    while waiting:
        delay, hops, via, site = heapq.heappop(waiting)
        if site in first:
            continue
        first[site] = via
        for other, more in beside[site]:
            if other not in first:
                heapq.heappush(waiting, (round(delay + more, 9), hops + 1, via or other, other))
    del first[start]
    return first
