"""Jobs are held to what is permitted now, whenever and wherever that changes."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from dynamos.kit.errors import Refused
from dynamos.knowledge.bases import JOBS
from dynamos.middleware.messages import CancelJob, Change, FindJobs
from dynamos.middleware.network.meetings import Announced
from dynamos.middleware.orchestrator.jobbooks import JobBook
from dynamos.middleware.orchestrator.lives import Life
from dynamos.model.jobs import Job, State
from support.agents import BOUND, CLOCK, Orchestra, orchestra
from support.marketplaces import request

THROUGH = request(archetype="dataThroughTtp")
AGGREGATE = request(options={"aggregate": True})
EITHER = request(("UVA",))


def run(folder, play, **settings):
    async def main():
        async with orchestra(folder, **settings) as it:
            await play(it)

    asyncio.run(main())


def ends(it: Orchestra, party: str) -> list[str]:
    return [ended.code for ended in it.agents[party].ended]


async def told_ended(it: Orchestra, party: str) -> None:
    await asyncio.wait_for(it.agents[party].release.wait(), BOUND)


def test_a_job_whose_provider_permits_nothing_any_more_stops_everywhere_and_says_why(tmp_path):
    async def play(it: Orchestra):
        await it.submit(THROUGH.model_copy(update={"providers": ("UVA",)}))
        await it.withdraw("UVA")
        end = await it.end_of()
        assert end.state == State.CANCELLED
        assert end.error["code"] == "revoked"
        assert end.error["status"] == 403
        assert end.error["reasons"][0]["code"] == "no-relation"
        assert not end.error.get("again")
        assert ends(it, "UVA") == ends(it, "SURF") == ["revoked"]
        records = await it.cluster.connect("orchestrator").log("audit").read()
        assert [record["event"] for record in records] == ["request.permitted", "job.revoked"]

    run(tmp_path, play)


def test_parts_that_do_not_depend_on_it_go_on_and_the_job_is_partial(tmp_path):
    async def play(it: Orchestra):
        await it.submit(request())
        await it.withdraw("UVA")
        await told_ended(it, "UVA")
        assert not it.agents["VU"].ended
        it.release("VU")
        end = await it.end_of()
        assert end.state == State.PARTIAL
        assert end.parts["UVA"].state == State.CANCELLED
        assert end.parts["UVA"].error["code"] == end.error["code"] == "revoked"
        assert end.parts["VU"].state == State.SUCCEEDED

    run(tmp_path, play)


def test_who_keeps_results_hears_at_once_what_of_a_running_job_does_not_count(tmp_path):
    async def play(it: Orchestra):
        await it.submit(request())
        await it.withdraw("UVA")
        async with asyncio.timeout(BOUND):
            while (event := await it.events.get())["event"] != "part":
                pass
        record = Job.model_validate(event["job"])
        assert record.state == State.RUNNING
        assert record.parts["UVA"].state == State.CANCELLED
        it.release()
        await it.end_of()

    run(tmp_path, play)


def test_a_part_that_had_done_its_work_brings_nothing_after_a_revocation(tmp_path):
    async def play(it: Orchestra):
        await it.submit(THROUGH)
        it.release("UVA", "VU")
        await it.withdraw("UVA")
        await told_ended(it, "SURF")
        it.release()
        end = await it.end_of()
        assert end.state == State.CANCELLED
        assert {report.state for report in end.parts.values()} == {State.CANCELLED}

    run(tmp_path, play)


def test_where_every_part_has_reported_well_a_revocation_still_wins(tmp_path):
    async def play(it: Orchestra):
        await it.submit(request())
        it.release("UVA")
        await it.withdraw("UVA")
        await told_ended(it, "UVA")
        it.release("VU")
        end = await it.end_of()
        assert end.state in (State.PARTIAL, State.SUCCEEDED)
        if it.agents["UVA"].ended:
            assert end.parts["UVA"].state == State.CANCELLED

    run(tmp_path, play)


def test_another_way_that_is_permitted_is_told(tmp_path):
    async def play(it: Orchestra):
        await it.submit(EITHER)
        await it.amend("UVA", allowed_archetypes=("dataThroughTtp",))
        end = await it.end_of()
        assert end.error["again"] is True
        assert "dataThroughTtp" in end.error["hint"]
        assert end.error["reasons"][0]["code"] == "archetype"

    run(tmp_path, play)


@pytest.mark.parametrize(
    "changes",
    [{"valid_until": datetime(2999, 1, 1, tzinfo=UTC)}, {"compute_providers": ("SURF", "otherCompany", "DANS")}],
)
def test_a_change_that_forbids_nothing_leaves_jobs_alone(tmp_path, changes):
    async def play(it: Orchestra):
        await it.submit(THROUGH)
        revision = await it.amend("UVA", **changes)
        await it.orchestrator._overview.reach("UVA", revision, within=BOUND)
        await it.orchestrator.enforce_now()
        it.release()
        assert (await it.end_of()).state == State.SUCCEEDED
        assert not any(agent.ended for agent in it.agents.values())

    run(tmp_path, play)


def test_two_changes_in_a_row_leave_what_the_last_one_says(tmp_path):
    async def play(it: Orchestra):
        await it.submit(EITHER)
        await it.withdraw("UVA")
        await it.amend("UVA", valid_until=datetime(2999, 1, 1, tzinfo=UTC))
        it.release()
        end = await it.end_of()
        assert end.state == State.SUCCEEDED or end.error["again"] is True

    run(tmp_path, play)


def test_a_party_that_may_not_compute_any_more_ends_what_it_computes(tmp_path):
    async def play(it: Orchestra):
        await it.submit(THROUGH)
        await it.amend("VU", compute_providers=("otherCompany",))
        end = await it.end_of()
        assert end.error["reasons"][0]["code"] == "compute-provider"
        assert ends(it, "SURF") == ["revoked"]

    run(tmp_path, play)


def test_a_new_duty_ends_what_runs_without_it_and_the_next_plan_has_it(tmp_path):
    async def play(it: Orchestra):
        await it.submit(EITHER)
        await it.amend("UVA", duties=("sql-anonymize",))
        end = await it.end_of()
        assert (end.error["reasons"][0]["code"], end.error["again"]) == ("duty", True)
        again = await it.submit(EITHER, job="job-2")
        assert "sql-anonymize" in [step.service for step in again.plan.steps]
        it.release()

    run(tmp_path, play)


def test_a_relation_that_ends_meanwhile_ends_the_job(tmp_path):
    async def play(it: Orchestra):
        until = CLOCK.now() + timedelta(milliseconds=400)
        revision = await it.amend("UVA", valid_until=until)
        await it.orchestrator._overview.reach("UVA", revision, within=BOUND)
        await it.submit(EITHER)
        end = await it.end_of()
        assert end.error["code"] == "revoked"
        assert end.error["reasons"][0]["code"] == "expired"
        assert end.ended >= until

    run(tmp_path, play)


@pytest.mark.parametrize(
    ("kind", "name", "members"),
    [
        ("requestTypes", "sqlDataRequest", {"required_services": ("sql-query", "sql-algorithm", "sql-graph")}),
        ("microservices", "sql-algorithm", {"invalid_archetypes": ("computeToData",)}),
    ],
)
def test_what_the_marketplace_shares_ends_what_it_forbids_before_the_change_is_answered(tmp_path, kind, name, members):
    async def play(it: Orchestra):
        await it.submit(EITHER)
        values = {"requestTypes": it.scene.request_types, "microservices": it.scene.services}[kind]
        value = values[name].model_copy(update=members).as_json()
        await it.curator.change(Change(kind=kind, name=name, value=value))
        (live,) = it.orchestrator._live.values() or (None,)
        assert live is None or set(live.revoked) == {"UVA"}
        end = await it.end_of()
        assert end.error["code"] == "revoked"
        assert end.error["again"] is True

    run(tmp_path, play)


def test_a_job_that_waits_is_planned_again_before_it_starts(tmp_path):
    async def play(it: Orchestra):
        await it.submit(request(("VU",)), job="first")
        waiting = asyncio.create_task(it.submit(EITHER, job="second"))
        await it.until_one_waits()
        await it.amend("UVA", allowed_archetypes=("dataThroughTtp",))
        it.release()
        await waiting
        end = await it.end_of("second")
        assert end.state == State.SUCCEEDED
        assert end.plan.archetypes == {"UVA": "dataThroughTtp"}
        assert [grant.job for grant in it.agents["SURF"].grants] == ["second"]

    run(tmp_path, play, concurrent_jobs=1)


def test_a_job_that_waits_and_is_not_permitted_any_more_does_not_wait_on(tmp_path):
    async def play(it: Orchestra):
        await it.submit(request(("VU",)), job="first")
        waiting = asyncio.create_task(it.submit(EITHER, job="second"))
        await it.until_one_waits()
        await it.withdraw("UVA")
        record = await asyncio.wait_for(waiting, BOUND)
        assert record.state == State.CANCELLED
        assert record.error["code"] == "revoked"
        assert record.error["reasons"][0]["code"] == "no-relation"
        assert not it.agents["UVA"].grants
        assert not it.agents["UVA"].ended
        it.release()

    run(tmp_path, play, concurrent_jobs=1)


class SlowMeetings:
    """Meetings at which `meanwhile` happens before anybody starts; they are counted."""

    def __init__(self, meanwhile):
        self.meanwhile = meanwhile
        self.plans = []

    def of(self, plan):
        return self._Meeting(self, plan)

    async def close(self):
        return

    class _Meeting:
        def __init__(self, meetings, plan):
            self.meetings, self.plan = meetings, plan

        async def __aenter__(self):
            self.meetings.plans.append(self.plan)
            if len(self.meetings.plans) == 1:
                await self.meetings.meanwhile()
            return Announced(dict.fromkeys(self.plan.parties, "grpc+tls://127.0.0.1:1"))

        async def __aexit__(self, *_):
            return


def test_a_change_while_the_parties_meet_is_planned_again_and_nothing_old_starts(tmp_path):
    async def play(it: Orchestra):
        async def meanwhile():
            revision = await it.amend("UVA", allowed_archetypes=("dataThroughTtp",))
            await it.orchestrator._overview.reach("UVA", revision, within=BOUND)

        it.orchestrator._meetings = meetings = SlowMeetings(meanwhile)
        it.release()
        await it.submit(EITHER)
        end = await it.end_of()
        assert end.state == State.SUCCEEDED
        assert [plan.archetypes["UVA"] for plan in meetings.plans] == ["computeToData", "dataThroughTtp"]
        assert {grant.archetypes["UVA"] for grant in it.agents["UVA"].grants} == {"dataThroughTtp"}

    run(tmp_path, play)


def test_a_change_between_the_starts_of_two_parties_ends_both(tmp_path):
    async def play(it: Orchestra):
        it.agents["SURF"].hears_starts.clear()
        submitting = asyncio.create_task(it.submit(THROUGH))
        await asyncio.wait_for(it.agents["UVA"].started.wait(), BOUND)
        await it.withdraw("UVA")
        await told_ended(it, "UVA")
        it.agents["SURF"].hears_starts.set()
        await submitting
        end = await it.end_of()
        assert end.state == State.CANCELLED
        assert end.error["code"] == "revoked"
        assert ends(it, "SURF")[0] == "revoked"

    run(tmp_path, play)


def test_a_start_that_a_party_refuses_by_its_agreement_is_a_revocation_once_we_know_of_it(tmp_path):
    async def play(it: Orchestra):
        agent, overview = it.agents["UVA"], it.orchestrator._overview
        revision = overview.revisions["UVA"] + 1
        reasons = [{"party": "UVA", "code": "archetype", "clause": "-", "fact": "-", "message": "not so any more"}]
        agent.refuses = Refused("UVA does not permit this request", where="UVA", reasons=reasons, revision=revision)
        await it.submit(EITHER)
        assert await it.amend("UVA", allowed_archetypes=("dataThroughTtp",)) >= revision
        end = await it.end_of()
        assert end.state == State.CANCELLED
        assert (end.error["code"], end.error["again"]) == ("revoked", True)

    run(tmp_path, play)


def test_a_part_that_its_party_stopped_itself_ends_the_others_and_says_whether_to_ask_again(tmp_path):
    async def play(it: Orchestra):
        await it.submit(THROUGH)
        revision = it.orchestrator._overview.revisions["UVA"] + 1
        it.agents["UVA"].outcome = State.CANCELLED
        it.agents["UVA"].error = {"code": "revoked", "message": "UVA's agreement", "reasons": [], "revision": revision}
        it.release("UVA")
        await told_ended(it, "SURF")
        await it.amend("UVA", archetypes=("computeToData",))
        end = await it.end_of()
        assert end.state == State.CANCELLED
        assert end.error["code"] == "revoked"

    run(tmp_path, play)


def test_an_engine_that_breaks_permits_nothing(tmp_path):
    async def play(it: Orchestra):
        await it.submit(EITHER)
        it.orchestrator._thought._engine = None
        await it.orchestrator.enforce_now("UVA")
        assert set(next(iter(it.orchestrator._live.values())).revoked) == {"UVA"}
        it.release()
        assert (await it.end_of()).error["code"] == "revoked"

    run(tmp_path, play)


def test_a_party_that_does_not_answer_keeps_no_other_change_from_being_enforced(tmp_path):
    async def play(it: Orchestra):
        it.agents["UVA"].hears_ends.clear()
        await it.submit(request(("UVA",)), job="one")
        await it.submit(request(("VU",)), job="two")
        await it.withdraw("UVA")
        await it.withdraw("VU")
        assert (await it.end_of("two")).error["code"] == "revoked"
        it.agents["UVA"].hears_ends.set()
        assert (await it.end_of("one")).error["code"] == "revoked"

    run(tmp_path, play)


def test_each_of_two_orchestrators_enforces_its_own_jobs_and_loses_none_of_the_others(tmp_path):
    async def play(it: Orchestra):
        bus = it.cluster.connect("orchestrator").bus
        one, other = Life(bus), Life(bus)
        it.orchestrator._life = one.name
        await one.begin(it.orchestrator.cancel, it.orchestrator.take_report)
        await it.submit(EITHER)
        book = JobBook(it.cluster.connect("orchestrator").store(JOBS), CLOCK)
        assert await book.recover(other.there) == []
        assert (await book.find(FindJobs(job="job-1")))[0].state == State.RUNNING
        await it.submit(request(("VU",)), job="job-2")

        async def mine(message):
            return await type(it.orchestrator).cancel(other_orchestrator, message)

        other_orchestrator = type("Other", (), {"_live": {}})()
        answer = await other.passing_on(mine, book)(CancelJob(job="job-2", reason="passed on"))
        assert answer.job.id == "job-2"
        assert (await it.end_of("job-2")).error["message"] == "passed on"
        await it.withdraw("UVA")
        assert (await it.end_of("job-1")).error["code"] == "revoked"

    run(tmp_path, play)


def test_jobs_of_an_orchestrator_that_is_gone_are_lost(tmp_path):
    async def play(it: Orchestra):
        it.orchestrator._life = "gone"
        await it.submit(EITHER)
        book = JobBook(it.cluster.connect("orchestrator").store(JOBS), CLOCK)
        (lost,) = await book.recover(Life(it.cluster.connect("orchestrator").bus).there)
        assert lost.state == State.LOST
        it.release()
        await it.end_of()

    run(tmp_path, play)
