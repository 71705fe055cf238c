"""What the orchestrator does with a job, whatever its parties do."""

from __future__ import annotations

import asyncio

import pytest

from dynamos.kit.errors import Conflict, JobFailed, NotFound, Refused, Unavailable
from dynamos.middleware.messages import CancelJob, Check, FindJobs
from dynamos.model.jobs import State
from support.agents import Orchestra, orchestra
from support.marketplaces import request


def run(folder, play, **settings):
    async def main():
        async with orchestra(folder, **settings) as it:
            await play(it)

    asyncio.run(main())


AGGREGATE = {"options": {"aggregate": True}, "algorithm": "average"}


def test_a_job_succeeds_when_every_part_does(tmp_path):
    async def play(it: Orchestra):
        it.release()
        job = await it.submit(request(algorithm="average"))
        assert job.state in (State.RUNNING, State.SUCCEEDED)
        end = await it.end_of()
        assert end.state == State.SUCCEEDED
        assert set(end.parts) == {"UVA", "VU"}
        assert end.error is None
        assert (await it.book.find(FindJobs(job="job-1")))[0] == end

    run(tmp_path, play)


def test_every_party_gets_a_grant_for_just_its_part(tmp_path):
    async def play(it: Orchestra):
        it.release()
        await it.submit(request(**AGGREGATE))
        await it.end_of()
        for party, agent in it.agents.items():
            (grant,) = agent.grants or (None,)
            if grant is None:
                assert party == "RUG"
                continue
            assert grant.party == party
            assert {step.party for step in grant.part.steps} == {party}
            assert grant.chain == grant.part.digest()
        assert set(it.agents["UVA"].grants[0].addresses) == {"SURF"}
        assert set(it.agents["SURF"].grants[0].addresses) == {"@requestor"}

    run(tmp_path, play)


def test_a_party_that_nobody_permits_is_refused_with_reasons_and_no_job_is_made(tmp_path):
    async def play(it: Orchestra):
        with pytest.raises(Refused) as caught:
            await it.submit(request(("RUG",)))
        assert caught.value.facts["reasons"][0]["code"] == "no-relation"
        with pytest.raises(NotFound):
            await it.book.find(FindJobs(job="job-1"))
        assert not any(agent.grants for agent in it.agents.values())

    run(tmp_path, play)


def test_one_provider_that_fails_leaves_the_other_result_whole(tmp_path):
    async def play(it: Orchestra):
        it.agents["VU"].outcome = State.FAILED
        it.agents["VU"].error = {"code": "service-failed", "message": "no"}
        it.release()
        await it.submit(request(algorithm="average"))
        end = await it.end_of()
        assert end.state == State.PARTIAL
        assert end.parts["UVA"].state == State.SUCCEEDED
        assert end.error == {"code": "service-failed", "message": "no"}
        assert not it.agents["UVA"].ended

    run(tmp_path, play)


def test_through_a_third_party_one_failure_ends_the_others(tmp_path):
    async def play(it: Orchestra):
        it.agents["VU"].outcome = State.FAILED
        it.agents["VU"].error = {"code": "service-failed", "message": "no"}
        await it.submit(request(**AGGREGATE))
        it.release("VU")
        end = await it.end_of()
        assert end.state == State.FAILED
        assert end.error == {"code": "service-failed", "message": "no"}
        assert [ended.code for ended in it.agents["UVA"].ended] == ["ended"]
        assert [ended.code for ended in it.agents["SURF"].ended] == ["ended"]

    run(tmp_path, play)


def test_who_tells_only_what_another_did_to_it_does_not_silence_the_cause(tmp_path):
    async def play(it: Orchestra):
        it.agents["SURF"].outcome = it.agents["VU"].outcome = State.FAILED
        it.agents["SURF"].error = {"code": "reader-gone", "message": "the step closed its input"}
        it.agents["VU"].error = {"code": "not-arrow", "message": "no"}
        await it.submit(request(**AGGREGATE))
        it.release("SURF")
        it.release("VU")
        end = await it.end_of()
        assert end.state == State.FAILED
        assert end.error == {"code": "not-arrow", "message": "no"}
        assert [ended.code for ended in it.agents["UVA"].ended] == ["ended"]

    run(tmp_path, play)


def test_a_party_that_will_not_start_ends_those_that_did(tmp_path):
    async def play(it: Orchestra):
        it.agents["SURF"].refuses = Refused("not with us")
        await it.submit(request(**AGGREGATE))
        end = await it.end_of()
        assert end.state == State.FAILED
        assert end.error is not None
        assert end.error["message"] == "not with us"
        assert end.error["where"] == "SURF"
        assert it.agents["UVA"].ended
        assert it.agents["VU"].ended

    run(tmp_path, play)


def test_cancel_stops_every_part_and_tells_the_reason(tmp_path):
    async def play(it: Orchestra):
        await it.submit(request(algorithm="average"))
        await it.orchestrator.cancel(CancelJob(job="job-1", reason="the client went away"))
        end = await it.end_of()
        assert end.state == State.CANCELLED
        assert end.error is not None
        assert end.error["message"] == "the client went away"
        assert all(it.agents[party].ended for party in ("UVA", "VU"))
        with pytest.raises(NotFound):
            await it.orchestrator.cancel(CancelJob(job="job-1", reason="again"))

    run(tmp_path, play)


def test_the_same_job_id_runs_once(tmp_path):
    async def play(it: Orchestra):
        it.release()
        await it.submit(request(algorithm="average"))
        await it.end_of()
        with pytest.raises(Conflict):
            await it.submit(request(algorithm="average"))
        assert len(it.agents["UVA"].grants) == 1

    run(tmp_path, play)


def test_an_agent_that_went_away_has_lost_its_part(tmp_path):
    async def play(it: Orchestra):
        it.release("VU")
        await it.submit(request(algorithm="average"))
        it.orchestrator.lose("UVA", "first")
        end = await it.end_of()
        assert end.state == State.PARTIAL
        assert end.parts["UVA"].state == State.LOST

    run(tmp_path, play)


def test_a_party_that_is_away_is_left_out_and_said_so(tmp_path):
    async def play(it: Orchestra):
        it.release()
        with pytest.raises(Unavailable):
            await it.submit(request(("UVA",), algorithm="average"), job="alone")
        job = await it.submit(request(("UVA", "VU"), algorithm="average"))
        assert job.plan is not None
        assert job.plan.parties == ("VU",)
        assert any("UVA" in note for note in job.plan.notes)

    from support.marketplaces import upstream  # noqa: PLC0415

    run(tmp_path, play, scene=upstream().without("UVA"))


def test_jobs_beyond_the_limit_wait_and_beyond_that_are_told_to_come_back(tmp_path):
    async def play(it: Orchestra):
        await it.submit(request(algorithm="average"))
        waiting = asyncio.create_task(it.submit(request(algorithm="average"), job="job-2"))
        await it.until_one_waits()
        third = await it.submit(request(algorithm="average"), job="job-3")
        assert third.state == State.FAILED
        assert third.error is not None
        assert third.error["code"] == "busy"
        it.release()
        assert (await it.end_of("job-1")).state == State.SUCCEEDED
        await waiting
        assert (await it.end_of("job-2")).state == State.SUCCEEDED

    run(tmp_path, play, concurrent_jobs=1, waiting_jobs=1)


def test_a_job_that_waits_can_be_cancelled(tmp_path):
    async def play(it: Orchestra):
        await it.submit(request(algorithm="average"))
        waiting = asyncio.create_task(it.submit(request(algorithm="average"), job="job-2"))
        await it.until_one_waits()
        await it.orchestrator.cancel(CancelJob(job="job-2", reason="enough"))
        assert (await waiting).state == State.CANCELLED
        it.release()
        assert (await it.end_of("job-1")).state == State.SUCCEEDED
        assert [grant.job for grant in it.agents["UVA"].grants] == ["job-1"]

    run(tmp_path, play, concurrent_jobs=1)


def test_check_answers_without_running(tmp_path):
    async def play(it: Orchestra):
        good = await it.orchestrator.check(Check(request=request(**AGGREGATE)))
        assert good.plan is not None
        assert good.plan.archetypes == {"UVA": "dataThroughTtp", "VU": "dataThroughTtp"}
        bad = await it.orchestrator.check(Check(request=request(("RUG",))))
        assert bad.plan is None
        assert bad.decision.reasons
        assert not any(agent.grants for agent in it.agents.values())

    run(tmp_path, play)


def test_jobs_of_an_earlier_life_are_told_lost_and_do_not_run_again(tmp_path):
    async def play(it: Orchestra):
        await it.submit(request(algorithm="average"))
        from dynamos.kit.clocks import SystemClock  # noqa: PLC0415
        from dynamos.knowledge.bases import JOBS  # noqa: PLC0415
        from dynamos.middleware.orchestrator.jobbooks import JobBook  # noqa: PLC0415

        again = JobBook(it.cluster.connect("orchestrator").store(JOBS), SystemClock())
        (lost,) = await again.recover()
        assert lost.state == State.LOST
        assert lost.error is not None
        assert lost.error["code"] == "lost"
        assert await again.recover() == []
        it.release()

    run(tmp_path, play)


def test_every_decision_is_in_the_audit_stream_with_its_revision(tmp_path):
    async def play(it: Orchestra):
        it.release()
        await it.submit(request(algorithm="average"))
        with pytest.raises(Refused):
            await it.submit(request(("RUG",)), job="job-2")
        records = await it.cluster.connect("orchestrator").log("audit").read()
        assert [(record["event"], record["job"]) for record in records] == [
            ("request.permitted", "job-1"),
            ("request.refused", "job-2"),
        ]
        assert all(record["revision"] == record["decision"]["revision"] for record in records)

    run(tmp_path, play)


def test_what_a_service_says_of_its_failure_reaches_the_record(tmp_path):
    async def play(it: Orchestra):
        it.agents["UVA"].refuses = JobFailed("disk is full", where="UVA/sql-query", code="full", hint="make room")
        it.release()
        await it.submit(request(("UVA",), algorithm="average"))
        end = await it.end_of()
        assert end.error is not None
        assert (end.error["code"], end.error["where"], end.error["hint"]) == ("full", "UVA/sql-query", "make room")

    run(tmp_path, play)
