"""Openings keep one contract, in memory and as NetworkPolicies of a real API server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dynamos.kit.errors import NotFound
from dynamos.middleware.network.openings import Home, Opening, Openings, opening_of
from dynamos.model.plans import REQUESTOR
from support.identities import make_grant
from support.openings import MemoryOpenings, MemoryPolicies, home

Make = Callable[[Home], Openings]
OPENING = Opening("way-0123456789ab-aaaaaa", "job-1", ("klm",), ("clearing",))


class Ground:
    """Where openings are made: as this agent of `united`, and as others of that party."""

    def __init__(self, make: Callable[..., Openings], home: Callable[..., Home]) -> None:
        self._make = make
        self._home = home
        self._made: list[Openings] = []
        self.agent = self.another()

    def another(self, **pod: str) -> Openings:
        made = self._make(self._home(**pod))
        self._made.append(made)
        return made

    async def close(self) -> None:
        for each in self._made:
            await each.close()


@asynccontextmanager
async def memory() -> AsyncIterator[Ground]:
    policies = MemoryPolicies()
    ground = Ground(lambda home: MemoryOpenings(home, policies), lambda **pod: home("united", **pod))
    try:
        yield ground
    finally:
        await ground.close()


@pytest.fixture(
    params=["memory", pytest.param("cluster", marks=[pytest.mark.cluster, pytest.mark.xdist_group("cluster")])]
)
def ground(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "memory":
        return memory
    grounds = pytest.importorskip("support.cluster_openings", reason="the extra kubernetes is not here")
    return grounds.ground(grounds.kubectl_of(request), tmp_path, Ground)


def on(ground: Any, body: Callable[[Ground], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(30), ground() as made:
            await body(made)

    asyncio.run(main())


def test_an_opening_is_there_until_it_is_removed(ground):
    async def body(made: Ground) -> None:
        assert await made.agent.names() == ()
        await made.agent.put(OPENING)
        assert await made.agent.names() == (OPENING.name,)
        assert await made.agent.receivers() == {"clearing"}
        await made.agent.remove(OPENING.name)
        assert await made.agent.names() == ()
        assert await made.agent.receivers() == frozenset()

    on(ground, body)


def test_what_is_asked_twice_is_done_once(ground):
    async def body(made: Ground) -> None:
        await made.agent.put(OPENING)
        await made.agent.put(OPENING)
        assert await made.agent.names() == (OPENING.name,)
        await made.agent.remove(OPENING.name)
        await made.agent.remove(OPENING.name)

    on(ground, body)


def test_parts_with_the_same_way_have_an_opening_each(ground):
    async def body(made: Ground) -> None:
        other = replace(OPENING, name="way-0123456789ab-bbbbbb", job="job-2")
        await asyncio.gather(made.agent.put(OPENING), made.agent.put(other))
        await made.agent.remove(OPENING.name)
        assert await made.agent.names() == (other.name,)
        assert await made.agent.receivers() == {"clearing"}

    on(ground, body)


def test_agents_of_one_party_see_whom_it_may_reach_but_have_their_own_openings(ground):
    async def body(made: Ground) -> None:
        await made.agent.put(OPENING)
        second = made.another(pod="agent-1", uid="2")
        assert await second.names() == ()
        assert await second.receivers() == {"clearing"}

    on(ground, body)


def test_a_pod_that_comes_back_under_its_name_finds_what_it_left(ground):
    async def body(made: Ground) -> None:
        await made.agent.put(OPENING)
        assert await made.another(uid="2").names() == (OPENING.name,)

    on(ground, body)


def test_a_party_without_a_namespace_cannot_be_let_in(ground):
    async def body(made: Ground) -> None:
        with pytest.raises(NotFound, match="no namespace is known of party 'stranger'"):
            await made.agent.put(replace(OPENING, senders=("stranger",)))
        assert await made.agent.names() == ()

    on(ground, body)


def test_a_namespace_denies_what_nobody_opens_if_a_policy_says_so(ground):
    async def body(made: Ground) -> None:
        assert await made.agent.denies()

    on(ground, body)


def test_a_part_that_gives_its_result_to_the_requestor_only_needs_no_opening():
    part = make_grant().part
    result = part.edges[0].model_copy(update={"target_party": REQUESTOR})
    assert opening_of(part.model_copy(update={"edges": (result,)})) is None
    found = opening_of(part)
    assert found is not None
    assert (found.senders, found.receivers) == ((), ("clearing",))
    assert found.name != getattr(opening_of(make_grant().part), "name", "")
