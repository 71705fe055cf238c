"""A part at work: it ends when it is told to, whatever its streams wait for."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from dynamos.jobs.runners import Outcome
from dynamos.kit.errors import Cancelled, DynamosError, JobFailed
from dynamos.kit.waits import bounded
from dynamos.middleware.agent import partruns
from dynamos.middleware.agent.partruns import PartRun
from dynamos.model.jobs import Grant, State
from dynamos.planning.plans import plan as make_plan
from support.marketplaces import NOW, request, upstream

BOUND = 10.0


class Steps:
    """A runner whose steps run until they are killed, or fail."""

    def __init__(self) -> None:
        self._ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    async def start(self, assignment: Any, inputs: Any, outputs: Any) -> Steps:
        return self

    async def wait(self) -> Outcome:
        return await self._ended

    async def kill(self, error: DynamosError) -> None:
        self.end(error)

    def end(self, error: DynamosError | None) -> None:
        if not self._ended.done():
            self._ended.set_result(Outcome(error=error))


class Unheard:
    """Carries streams to receivers who neither take them nor refuse them."""

    def __init__(self) -> None:
        self.waits = asyncio.Event()
        self.cancelled = False

    async def send(self, *words: Any, **members: Any) -> None:
        self.waits.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise

    async def forget(self, job: str, error: DynamosError) -> None:
        """Nothing was expected."""


def part() -> Grant:
    scene = upstream()
    asked = request(("UVA",), archetype="dataThroughTtp")
    plan = make_plan(asked, scene.decide(asked), scene.landscape(), job="job-1")
    found = plan.part("UVA")
    return Grant(
        id="g", job="job-1", party="UVA", chain=found.digest(), revision="1", part=found, request=asked.digest(),
        archetypes=plan.archetypes, compute=plan.compute, expires=NOW + timedelta(days=1),
        addresses=dict.fromkeys((edge.target_party for edge in found.outgoing), "nowhere"),
    )  # fmt: skip


@pytest.mark.parametrize("how", ["told to stop", "its step fails"])
def test_a_part_whose_streams_nobody_takes_ends_when_it_fails_and_says_why(monkeypatch, how):
    monkeypatch.setattr(partruns, "TELL_SECONDS", 0.05)
    error = Cancelled("the other part did not start", code="ended") if how == "told to stop" else JobFailed("no memory")

    async def play() -> None:
        steps, exchange = Steps(), Unheard()
        run = PartRun(part(), "grant", runner=steps, results=exchange)
        run.exchange = exchange
        await run.start(None)
        ending = asyncio.create_task(run.finish(3600.0))
        await bounded("a stream waits for its receiver", exchange.waits.wait(), within=BOUND)
        if how == "told to stop":
            await run.kill(error)
        else:
            steps.end(error)
        report = await bounded("the part's report", ending, within=BOUND)
        assert report.state != State.SUCCEEDED
        assert report.error["message"] == str(error)
        assert exchange.cancelled

    asyncio.run(play())
