"""Agents and orchestrators that are restarted: what is new waits, what has begun ends, nothing runs twice."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from dynamos.kit.errors import Unavailable
from dynamos.kit.waits import until
from dynamos.middleware.agent import agents
from dynamos.middleware.agent.agents import Agent
from dynamos.middleware.messages import LEAVING, FindJobs, Started
from dynamos.middleware.orchestrator import overviews
from dynamos.model.jobs import State
from support.agents import BOUND, Orchestra, orchestra
from support.marketplaces import request


def run(folder, play, **settings):
    async def main():
        async with orchestra(folder, **settings) as it:
            await play(it)

    asyncio.run(main())


def prepared(it: Orchestra, job: str = "job-1") -> Any:
    async def probe() -> bool:
        return any(each.id == job for each in await it.book.find(FindJobs()))

    return until("the job has a record", probe, within=BOUND, every=0)


def test_a_job_waits_for_an_agent_that_is_restarted_and_runs_with_the_next(tmp_path):
    async def play(it: Orchestra):
        it.release()
        await it.leave("UVA")
        asked = asyncio.create_task(it.submit(request(("UVA", "VU"), algorithm="average")))
        await prepared(it)
        assert not any(agent.grants for agent in it.agents.values())
        await it.come_back("UVA")
        job = await asked
        assert set(job.plan.parties) == {"UVA", "VU"}
        assert (await it.end_of()).state == State.SUCCEEDED

    run(tmp_path, play)


def test_who_does_not_come_back_in_time_is_said_to_be_offline(tmp_path, monkeypatch):
    monkeypatch.setattr(overviews, "RETURN_SECONDS", 0.3)

    async def play(it: Orchestra):
        it.release()
        await it.leave("UVA")
        await it.submit(request(("UVA",), algorithm="average"))
        end = await it.end_of()
        assert end.state == State.FAILED
        assert end.error["code"] == "offline"
        assert "UVA" in end.error["message"]

    run(tmp_path, play)


def test_an_agent_that_leaves_ends_what_it_has_begun(tmp_path):
    async def play(it: Orchestra):
        await it.submit(request(("UVA",), algorithm="average"))
        await it.leave("UVA")
        it.release()
        assert (await it.end_of()).state == State.SUCCEEDED

    run(tmp_path, play)


def test_an_orchestrator_that_leaves_takes_nothing_new_and_ends_what_it_has(tmp_path):
    async def play(it: Orchestra):
        await it.submit(request(("UVA",), algorithm="average"))
        leaving = asyncio.create_task(it.orchestrator.drain(BOUND))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable) as refused:
            await it.submit(request(("UVA",), algorithm="average"), job="late")
        assert refused.value.detail_code == LEAVING
        assert not leaving.done()
        it.release()
        await asyncio.wait_for(leaving, BOUND)
        assert (await it.end_of()).state == State.SUCCEEDED

    run(tmp_path, play)


def test_an_orchestrator_does_not_wait_longer_than_its_bound(tmp_path):
    async def play(it: Orchestra):
        await it.submit(request(("UVA",), algorithm="average"))
        await it.orchestrator.drain(0.0)
        assert (await it.book.find(FindJobs(job="job-1")))[0].state == State.RUNNING

    run(tmp_path, play)


def agent_that(work):
    parts = dict.fromkeys(
        ("kb", "runner", "ways", "results", "gatekeeper", "warden", "shared", "policy", "secret", "clock", "requestors")
    )
    agent = Agent(SimpleNamespace(name="UVA"), **parts)
    agent._start = work
    return agent


def test_a_start_that_comes_twice_with_one_grant_runs_once_and_is_answered_twice():
    async def main():
        came, go = [], asyncio.Event()

        async def work(message):
            came.append(message)
            await go.wait()
            return Started(start_ms=1.0, isolation=())

        agent = agent_that(work)
        message = SimpleNamespace(grant="g1")
        first, second = asyncio.create_task(agent.start(message)), asyncio.create_task(agent.start(message))
        await asyncio.sleep(0)
        go.set()
        assert await first == await second == await agent.start(message)
        assert len(came) == 1

    asyncio.run(main())


def test_a_start_that_failed_may_be_tried_again():
    async def main():
        came = []

        async def work(message):
            came.append(message)
            if len(came) == 1:
                raise Unavailable("not yet")
            return Started(start_ms=1.0, isolation=())

        agent = agent_that(work)
        with pytest.raises(Unavailable):
            await agent.start(SimpleNamespace(grant="g1"))
        await agent.start(SimpleNamespace(grant="g1"))
        assert len(came) == 2

    asyncio.run(main())


def test_an_agent_leaves_once_no_start_is_on_its_way(monkeypatch):
    monkeypatch.setattr(agents, "SETTLE_SECONDS", 0.05)

    async def main():
        agent = agent_that(None)
        agent._runs["job"] = object()
        leaving = asyncio.create_task(agent.drain(BOUND))
        await asyncio.wait((leaving,), timeout=0.2)
        assert not leaving.done()
        del agent._runs["job"]
        await asyncio.wait_for(leaving, BOUND)

    asyncio.run(main())
