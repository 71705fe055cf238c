"""The loop beside a real orchestrator over the bus in memory: what it decides, writes down, learns and survives."""

from __future__ import annotations

import asyncio
import time
from typing import ClassVar

import pytest

from dynamos.adaptation import replays
from dynamos.adaptation.decisions import Decision, Effect, Started, joined, read
from dynamos.adaptation.loops import Loop
from dynamos.adaptation.planners import registry
from dynamos.adaptation.planners.protocol import Unlearned, judged
from dynamos.adaptation.settings import LoopSettings
from dynamos.adaptation.situations import Option
from dynamos.kit.waits import until
from dynamos.knowledge.bases import ADAPTATION
from dynamos.middleware.messages import Check, FindJobs, Load
from dynamos.middleware.views import background
from dynamos.model.jobs import State
from support.agents import BOUND, orchestra
from support.marketplaces import request, upstream

ASKED = request(algorithm="average")


class Odd(Unlearned):
    """A planner that does what `deed` says."""

    name: ClassVar[str] = "odd"
    version: ClassVar[str] = "1"
    Options: ClassVar[type[LoopSettings]] = LoopSettings
    deed: ClassVar[str] = "raise"

    def __init__(self, options: LoopSettings) -> None:
        del options

    def judge(self, situation):
        if self.deed == "raise":
            raise KeyError("what")
        while self.deed == "hang":
            time.monotonic()
        if self.deed == "nonsense":
            return "third"
        forged = Option(
            name="all at mine",
            archetypes=situation.usual.archetypes,
            compute=dict.fromkeys(situation.usual.compute, "mine"),
        )
        return judged(situation, forged, "I like it")


@pytest.fixture
def odd(monkeypatch):
    known = {**registry.known(), "odd": Odd}
    monkeypatch.setattr(registry, "known", lambda: known)
    return Odd


def run(folder, play, planner="load-threshold", options=None, scene=None, **settings):
    async def main():
        async with orchestra(folder, scene=scene, **settings) as it:
            overview, kb = it.orchestrator._overview, it.cluster.connect("orchestrator")
            loop = await Loop.begin(kb, overview, planner, options or {})
            it.orchestrator._adviser = it.orchestrator._thought._adviser = loop
            async with background(*loop.works):
                await play(it, loop)
            await loop.close()

    asyncio.run(main())


async def records(it):
    return [read(record) for record in await it.cluster.connect("api").log(ADAPTATION).read()]


async def written(it, count):
    """Give the records once there are so many."""

    async def probe():
        return len(await records(it)) >= count

    await until("the log has it", probe, within=BOUND, every=0)
    return await records(it)


def test_a_decision_is_written_down_with_its_effect(tmp_path):
    async def play(it, loop):
        it.release()
        await it.submit(ASKED)
        end = await it.end_of()
        assert end.state == State.SUCCEEDED
        started, decision, effect = await written(it, 3)
        assert isinstance(started, Started)
        assert isinstance(decision, Decision)
        assert isinstance(effect, Effect)
        assert decision.judgement.option.archetypes == end.plan.archetypes
        assert decision.situation.options[0] == decision.judgement.option
        assert len(decision.situation.options) > 1
        assert set(decision.judgement.rejected) == {o.name for o in decision.situation.options[1:]}
        assert decision.revision == end.decision.revision
        assert effect.experience.seconds > 0
        assert joined([started, decision, effect])[0].effect == effect
        assert decision.took_ms < 1000

    run(tmp_path, play)


def test_a_dry_run_is_no_decision(tmp_path):
    async def play(it, loop):
        await it.orchestrator.check(Check(request=ASKED))
        it.release()
        await it.submit(ASKED)
        await it.end_of()
        assert [record.kind for record in await written(it, 3)] == ["started", "decision", "effect"]

    run(tmp_path, play)


@pytest.mark.parametrize(
    ("deed", "why"),
    [
        ("raise", "raised KeyError"),
        ("hang", "did not answer"),
        ("forbidden", "not permitted"),
        ("nonsense", "no judge"),
    ],
)
def test_a_planner_that_fails_is_refused_and_weights_decide(tmp_path, odd, monkeypatch, deed, why):
    monkeypatch.setattr(odd, "deed", deed)

    async def play(it, loop):
        it.release()
        job = await it.submit(ASKED)
        assert job.plan.archetypes == upstream().plan(ASKED).archetypes
        assert job.plan.compute == upstream().plan(ASKED).compute
        assert any(why in note and "weights decided" in note for note in job.plan.notes)
        await it.end_of()
        decision = (await written(it, 3))[1]
        assert why in decision.refused

    run(tmp_path, play, "odd", {"budget": "50ms"})


def test_what_a_planner_learned_is_there_after_a_restart(tmp_path):
    async def play(it, loop):
        it.release()
        for number in range(4):
            await it.submit(ASKED, f"job-{number}")
            await it.end_of(f"job-{number}")
        await loop.close()
        kb, overview = it.cluster.connect("orchestrator"), it.orchestrator._overview
        again = await Loop.begin(kb, overview, "cost-model", {})
        assert again.mind.learner.remember() == loop.mind.learner.remember()
        assert len(again.mind.learner.remember()["rows"]) == 4
        await again.close()
        other = await Loop.begin(kb, overview, "bandit", {})
        assert other.mind.learner.remember()["rows"] == []
        await other.close()

    run(tmp_path, play, "cost-model")


def test_memory_that_is_rubbish_is_forgotten_and_the_orchestrator_starts(tmp_path):
    async def play(it, loop):
        kb, overview = it.cluster.connect("orchestrator"), it.orchestrator._overview
        rubbish = {"planner": "cost-model", "version": "1", "memory": {"rows": [{"job": 3}], "last": 7}}
        await kb.store(ADAPTATION).put("planner.cost-model", rubbish)
        again = await Loop.begin(kb, overview, "cost-model", {})
        assert again.mind.learner.remember()["rows"] == []
        await again.close()

    run(tmp_path, play)


def test_a_job_that_waits_is_planned_again_when_its_third_party_has_too_much_to_do(tmp_path):
    scene = upstream()
    for party in ("UVA", "VU"):
        scene = scene.agreeing(
            party, allowed_archetypes=("dataThroughTtp",), allowed_compute_providers=("SURF", "RUG"),
            compute_providers=("SURF", "RUG"),
        )  # fmt: skip

    async def play(it, loop):
        first = await it.submit(ASKED, "first")
        assert set(first.plan.compute.values()) == {"SURF"}
        waiting = asyncio.create_task(it.submit(ASKED, "second"))
        await it.until_one_waits()
        for moment in (0.0, 0.1):
            loop.monitor.hear("SURF", Load(parts=9, capacity=4), loop.now + moment)
        it.release()
        await it.end_of("first")
        second = await waiting
        assert set(second.plan.compute.values()) == {"RUG"}
        found = [record for record in await written(it, 5) if isinstance(record, Decision)]
        assert [(each.job, each.again) for each in found] == [("first", False), ("second", False), ("second", True)]

    run(tmp_path, play, scene=scene, concurrent_jobs=1)


@pytest.mark.parametrize("planner", ["weights", "load-threshold", "cost-model", "bandit"])
def test_the_recorded_log_gives_the_same_decisions_though_jobs_overlapped(tmp_path, planner):
    async def play(it, loop):
        it.release()
        jobs = [f"job-{number}" for number in range(12)]
        for group in (jobs[:5], jobs[5:9], jobs[9:]):
            await asyncio.gather(*(it.submit(ASKED, job) for job in group))
            await until("they have ended", lambda group=group: ended(it, group), within=BOUND, every=0)
        log = await written(it, 25)
        told = replays.summary(replays.replay(log))
        assert (told.same, told.different, told.skipped) == (12, (), ())
        other = replays.summary(replays.replay(log, planner="fixed", options={"archetype": "dataThroughTtp"}))
        assert all("dataThroughTtp" in pick for pick in other.picks)

    async def ended(it, group):
        found = [(await it.book.find(FindJobs(job=job)))[0] for job in group]
        return all(job.state.final for job in found)

    run(tmp_path, play, planner, {"trials": 1} if planner in ("cost-model", "bandit") else {})


def knows(loop):
    """Give what the planner has learned, once it has learned all that it was told."""
    return loop.mind.guard.ask(loop.mind.learner.remember, within=BOUND)


def test_a_log_without_its_beginning_is_told_and_not_guessed_at(tmp_path):
    async def play(it, loop):
        it.release()
        for number in range(3):
            await it.submit(ASKED, f"job-{number}")
            await it.end_of(f"job-{number}")
        log = await written(it, 7)
        told = replays.summary(replays.replay(log[1:]))
        assert {row.problem for row in told.skipped} == {"the log does not have the start of this planner"}
        lacking = replays.summary(replays.replay([log[0], *log[3:]]))
        assert "lacks something" in lacking.skipped[0].problem

    run(tmp_path, play, "cost-model")


def test_another_planner_takes_over_at_run_time_and_comes_back_knowing_what_it_knew(tmp_path):
    async def play(it, loop):
        it.release()
        await it.submit(ASKED, "one")
        await it.end_of("one")
        before = knows(loop)
        loop.use("fixed", {"archetype": "dataThroughTtp"})
        job = await it.submit(ASKED, "two")
        assert set(job.plan.archetypes.values()) == {"dataThroughTtp"}
        await it.end_of("two")
        loop.use("", {})
        assert loop.mind.learner.name == "cost-model"
        assert knows(loop) == before
        assert len(before["rows"]) == 1
        started = [record for record in await written(it, 7) if isinstance(record, Started)]
        assert [each.planner for each in started] == ["cost-model", "fixed", "cost-model"]
        told = replays.summary(replays.replay(await records(it)))
        assert (told.same, told.different) == (2, ())

    run(tmp_path, play, "cost-model")


def test_a_party_s_load_is_known_with_its_next_heartbeat(tmp_path):
    async def play(it, loop):
        said = it.announcements["SURF"]
        said.fresh = lambda value: value.model_copy(update={"load": Load(parts=3, capacity=4)})
        await said.renew()

        async def known():
            return "SURF" in loop.monitor.parties(loop.now)

        await until("the load is known", known, within=BOUND, every=0)
        assert loop.monitored()["parties"]["SURF"]["parts"] == 3

    run(tmp_path, play)
