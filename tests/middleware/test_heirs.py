"""Several orchestrators: whose jobs are whose, what becomes of those of one that dies, and that each ends once."""

from __future__ import annotations

import asyncio

import pytest

from dynamos.kit.clocks import SystemClock
from dynamos.kit.errors import NotFound, Unavailable
from dynamos.kit.waits import until
from dynamos.knowledge.bases import JOBS
from dynamos.knowledge.memory import MemoryCluster
from dynamos.middleware.instances import key_of
from dynamos.middleware.messages import FindJobs, Report, Submit
from dynamos.middleware.orchestrator import heirs, leases
from dynamos.middleware.orchestrator.heirs import Heirs, bury
from dynamos.middleware.orchestrator.jobbooks import JobBook
from dynamos.middleware.orchestrator.lives import Life
from dynamos.middleware.views import background
from dynamos.model.decisions import Decision
from dynamos.model.jobs import Job, PartReport, State
from support.agents import BOUND, Orchestra, orchestra
from support.marketplaces import request

CLOCK = SystemClock()
ASKED = request(("UVA",), algorithm="average")


def job(name: str, life: str, state: State = State.RUNNING) -> Job:
    decision = Decision(user="ann", request_type=ASKED.type, revision="r", providers={})
    return Job(
        id=name, user="ann", state=state, request=ASKED, decision=decision, submitted=CLOCK.now(), orchestrator=life
    )


def books(*lives: str) -> tuple[MemoryCluster, list[JobBook]]:
    cluster = MemoryCluster(["UVA"])
    store = cluster.connect("orchestrator").store(JOBS)
    return cluster, [JobBook(store, CLOCK, life=life) for life in lives]


async def listed(book: JobBook, *names: str) -> None:
    async def there() -> bool:
        return [each.id for each in await book.find(FindJobs())] == list(names)

    await until(f"{names} in the list", there, within=BOUND, every=0)


def test_each_orchestrator_lists_and_shows_the_jobs_of_all():
    async def main():
        _, (one, other) = books("one", "other")
        async with background(one.follow, other.follow):
            await one.open(job("a", "one"))
            await listed(other, "a")
            await other.open(job("b", "other"))
            await listed(one, "b", "a")
            await one.write(job("a", "one", State.SUCCEEDED))
            assert (await other.find(FindJobs(job="a")))[0].state == State.SUCCEEDED
            assert [each.id for each in one.under_way()] == ["b"]
            with pytest.raises(NotFound):
                await one.find(FindJobs(job="c"))

    asyncio.run(main())


def test_of_many_jobs_those_in_a_state_are_listed_however_old_they_are():
    async def main():
        _, (one,) = books("one")
        await one.open(job("old", "one"))
        for number in range(5):
            await one.open(job(f"new-{number}", "one"))
            await one.write(job(f"new-{number}", "one", State.SUCCEEDED))
        found = await one.find(FindJobs(user="ann", state="running", limit=2))
        assert [each.id for each in found] == ["old"]
        assert len(await one.find(FindJobs(user="ann", state="succeeded", limit=2))) == 2

    asyncio.run(main())


def test_of_those_that_notice_one_tells_a_job_lost():
    async def main():
        _, (dead, *left) = books("dead", "one", "two", "three")
        for name in ("a", "b"):
            await dead.open(job(name, "dead"))
        for book in left:
            assert await book.recover(there) == []
        told = await asyncio.gather(*(book.lose("dead") for book in left))
        assert sorted(each.id for lost in told for each in lost) == ["a", "b"]

    async def there(_: str | None) -> bool:
        return True

    asyncio.run(main())


def test_an_orchestrator_that_was_taken_for_dead_leaves_its_jobs_as_they_were_told():
    async def main():
        _, (slow, heir) = books("slow", "heir")
        await slow.open(job("a", "slow"))
        assert [each.id for each in await heir.recover()] == ["a"]
        await slow.write(job("a", "slow", State.SUCCEEDED))
        assert (await heir.read("a")).state == State.LOST
        assert (await slow.find(FindJobs(job="a")))[0].state == State.LOST

    asyncio.run(main())


def test_a_record_whose_answer_was_lost_is_written_all_the_same():
    async def main():
        cluster, (one,) = books("one")
        await one.open(job("a", "one", State.SUBMITTED))
        await cluster.connect("orchestrator").store(JOBS).put("a", job("a", "one").as_json())
        await one.write(job("a", "one", State.SUCCEEDED))
        assert (await one.read("a")).state == State.SUCCEEDED

    asyncio.run(main())


def test_who_lets_its_lease_run_out_but_answers_is_not_dead_and_who_does_not_answer_is(monkeypatch):
    monkeypatch.setattr(heirs, "ABSENT_SECONDS", 0.0)

    async def main():
        cluster, (theirs, ours) = books("theirs", "ours")
        bus = cluster.connect("orchestrator").bus
        hung, us = Life(bus), Life(bus)
        await theirs.open(job("a", hung.name).model_copy(update={"orchestrator": hung.name}))
        await ours.recover(answers)
        buried: list[Job] = []

        async def taken(lost: list[Job]) -> None:
            buried.extend(lost)

        held = {key_of("orchestrator", hung.name): object()}
        looking = Heirs(us, ours, lambda: held, taken)  # type: ignore[arg-type,return-value]
        await looking.look()
        assert buried == []
        held.clear()
        await hung.begin(None, None)  # type: ignore[arg-type]
        await looking.look()
        assert buried == []
        for listener in list(cluster.listeners):
            await listener.close()
        await looking.look()
        assert [each.id for each in buried] == ["a"]

    async def answers(_: str | None) -> bool:
        return True

    asyncio.run(main())


def test_the_parts_of_lost_jobs_are_ended_where_they_run_and_the_event_is_told(tmp_path):
    async def main():
        async with orchestra(tmp_path) as it:
            second = await it.join("UVA", "second")
            await it.submit(ASKED)
            record = it.orchestrator._live["job-1"].record
            runs = {"first": it.agents["UVA"], "second": second}
            at = runs.pop(record.instances["UVA"])
            kb = it.cluster.connect("orchestrator")
            heir = JobBook(kb.store(JOBS), CLOCK, life="heir")
            await bury(kb, await heir.recover())
            assert [each.code for each in at.ended] == ["lost"]
            assert not next(iter(runs.values())).ended
            assert (await it.end_of()).state == State.LOST

    asyncio.run(main())


def test_a_report_reaches_the_orchestrator_that_waits_for_it_and_is_kept_where_that_is_away():
    async def main():
        cluster, (book,) = books("other")
        bus = cluster.connect("orchestrator").bus
        one, other = Life(bus), Life(bus)
        taken: list[PartReport] = []
        await one.begin(None, taken.append)  # type: ignore[arg-type]
        hear = other.reporting(taken.append, book)
        report = PartReport(job="a", party="UVA", state=State.SUCCEEDED)
        await hear("report.UVA", Report(report=report, orchestrator=one.name).as_json())
        await hear("report.UVA", Report(report=report, orchestrator=other.name).as_json())
        assert taken == [report, report]
        away = Report(report=report, orchestrator="away").as_json()
        await book.open(job("a", "away"))
        with pytest.raises(Unavailable):
            await hear("report.UVA", away)
        await book.lose("away")
        assert await hear("report.UVA", away) == {}

    asyncio.run(main())


def test_an_orchestrator_that_leaves_hears_of_no_new_job_and_answers_what_has_come(tmp_path):
    async def play(it: Orchestra):
        kb = it.cluster.connect("orchestrator")
        began = asyncio.Event()

        async def submit(_, message):
            began.set()
            return (await it.orchestrator.submit(Submit.model_validate(message))).as_json()

        ear = await kb.bus.listen("orchestrator.submit", submit, queue="orchestrator")
        it.agents["UVA"].hears_starts.clear()
        api = it.cluster.connect("api").bus
        message = Submit(job="job-1", request=ASKED, gateway="grpc+tls://127.0.0.1:1").as_json()
        asking = asyncio.create_task(api.request("orchestrator.submit", message, within=BOUND))
        await began.wait()
        leaving = asyncio.create_task(ear.leave())
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="nobody"):
            await api.request("orchestrator.submit", message, within=BOUND)
        assert not leaving.done()
        it.agents["UVA"].hears_starts.set()
        assert (await asking)["job"]["id"] == "job-1"
        await asyncio.wait_for(leaving, BOUND)
        it.release()

    async def main():
        async with orchestra(tmp_path) as it:
            await play(it)

    asyncio.run(main())


def test_a_lease_is_there_as_long_as_its_orchestrator():
    async def main():
        cluster = MemoryCluster(["UVA"])
        kb = cluster.connect("orchestrator")
        life = Life(kb.bus)
        there = leases.held(kb, life)
        other = Life(kb.bus)
        async with leases.lease(kb, other):
            assert await there(other.name)
        assert not await there(other.name)
        assert not await there(None)

    asyncio.run(main())
