"""Rehearsals: what the networks of a job are while it lives, without the job. Sites do just what they do for a job.

Where every request has a network of its own, two such networks are made, by the code that the sites' helpers run; where
networks stay, ways in them are opened, as for granted parts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from dynamos.middleware.configs import HelperConfig
from dynamos.middleware.network.messages import EXCHANGE_PORT, Flow, Join, Prepare
from dynamos.model.profiles import Profile
from dynamos.testbed import edges
from dynamos.testbed.edges import Ways
from dynamos.testbed.hosts import Host
from dynamos.testbed.items import Container, Overlay
from dynamos.testbed.proofs.policies import Edge
from dynamos.testbed.proofs.programs import together
from dynamos.testbed.scopes import SiteNetworks, job_overlay, slots
from dynamos.testbed.wanted import Wanted

FOLDER = "rehearsal"
"""Where, in a world's folder, rehearsals write down what they have begun."""
_MEMBERS = 3


@dataclass(frozen=True, slots=True)
class Act:
    """The network of one rehearsed job: its overlay, and the ways that are open in it while it lives."""

    overlay: Overlay
    edges: tuple[Edge, ...]


def gathering(names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Give who sends to whom in a job like most: the second and the third to the first."""
    return tuple((source, names[0]) for source in names[1:_MEMBERS])


def ring(names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Give who sends to whom where each talks with the next, both ways, and the last with the first."""
    following = (*names[1:], *names[:1])
    both = ((pair, pair[::-1]) for pair in zip(names, following, strict=True) if pair[0] != pair[1])
    return tuple(dict.fromkeys(way for ways in both for way in ways))


Shape = Callable[[Sequence[str]], tuple[tuple[str, str], ...]]


def acts(profile: Profile, wanted: Wanted, shape: Shape = gathering) -> tuple[Act, ...]:
    """Give what is rehearsed. With scope `request` it is two networks, made of the slots that are given out last."""
    if profile.overlay.scope != "request":
        return tuple(_act(overlay, shape) for overlay in wanted.of(Overlay).values() if overlay.seats)
    return tuple(
        _act(job_overlay(profile, wanted, slots(profile) - number, parties), shape)
        for number, parties in enumerate(_casts(wanted), 1)
    )


@contextmanager
def played(
    profile: Profile, wanted: Wanted, world: Path, hosts: Mapping[str, Host], shape: Shape = gathering
) -> Iterator[tuple[Act, ...]]:
    """Have the networks of `acts` be as they are while jobs live; afterwards they are as they were.

    `world` is the world's folder. Raises what the sites raise.
    """
    found = acts(profile, wanted, shape)
    if profile.overlay.scope == "request":
        with _made(profile, wanted, world, shape):
            yield found
        return
    ways = {name: each for act in found for name, each in _ways(act).items() if name in hosts}
    try:
        together(lambda name: _apply(hosts[name], edges.changed(ways[name], Ways())), ways)
        yield found
    finally:
        together(lambda name: _apply(hosts[name], edges.changed(Ways(), ways[name]), check=False), ways)


def _act(overlay: Overlay, shape: Shape) -> Act:
    pairs = shape([seat.container for seat in overlay.seats])
    return Act(overlay, tuple(Edge(source, target, EXCHANGE_PORT) for source, target in pairs))


def _casts(wanted: Wanted) -> Iterator[tuple[str, ...]]:
    """Give the parties of two jobs, as different as can be; those of each are at different nodes where there are."""
    by_node: dict[str, list[str]] = {}
    for each in wanted.of(Container).values():
        by_node.setdefault(each.node, []).append(each.party)
    parties = [party for row in zip_longest(*by_node.values()) for party in row if party is not None]
    yield tuple(parties[:_MEMBERS])
    if len(parties) > _MEMBERS:
        yield tuple(parties[::-1][:_MEMBERS])


def _ways(act: Act) -> dict[str, Ways]:
    address = {seat.container: seat.address for seat in act.overlay.seats}
    return {
        name: Ways(
            frozenset(address[edge.source] for edge in act.edges if edge.target == name),
            frozenset(address[edge.target] for edge in act.edges if edge.source == name),
        )
        for name in address
        if any(name in (edge.source, edge.target) for edge in act.edges)
    }


def _apply(container: Host, script: str, *, check: bool = True) -> None:
    container.run(["nft", "-f", "-"], stdin=script.encode(), check=check)


@contextmanager
def _made(profile: Profile, wanted: Wanted, world: Path, shape: Shape) -> Iterator[None]:
    """Have the sites make the networks of two jobs."""
    messages = [
        Prepare(
            job=f"rehearsal-{number}",
            slot=slots(profile) - number,
            parties=cast,
            flows=tuple(Flow(source=source, target=target) for source, target in shape(cast)),
        )
        for number, cast in enumerate(_casts(wanted), 1)
    ]
    sites = [SiteNetworks(_config(profile, name, world)) for name in profile.sites if profile.sites[name].parties]
    with asyncio.Runner() as runner:
        try:
            runner.run(_clear(sites))
            runner.run(_bring(sites, messages))
            yield
        finally:
            runner.run(_clear(sites))


async def _bring(sites: Sequence[SiteNetworks], messages: Sequence[Prepare]) -> None:
    for message in messages:
        prepared = await asyncio.gather(*(site.prepare(message) for site in sites))
        material = {name: words for each in prepared for name, words in each.material.items()}
        await asyncio.gather(*(site.join(Join(job=message.job, material=material)) for site in sites))


async def _clear(sites: Sequence[SiteNetworks]) -> None:
    await asyncio.gather(*(site.clear() for site in sites))


def _config(profile: Profile, site: str, world: Path) -> HelperConfig:
    folder = world / FOLDER / site
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return HelperConfig(
        name=f"rehearsal-{site}",
        marketplace="rehearsal",
        folder=folder,
        bus="",
        site=site,
        profile=profile,
        world=world,
        orchestrator=folder,
    )
