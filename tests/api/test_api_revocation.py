"""A job that an agreement ends while somebody waits for it: nothing of it leaves, and nothing is lost or told twice."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from dynamos.kit.errors import NotFound, Refused
from dynamos.kit.waits import until
from dynamos.middleware.messages import JobEvent
from dynamos.model.jobs import PartReport, State
from support.apis import ANN, api, upstream
from support.orchestrators import Script, facts

BOUND = 20
TABLE = pa.table({"n": [1, 2, 3]})
REASON = {"party": "UVA", "code": "no-relation", "clause": "relations", "fact": "-", "message": "no more"}


def revoked(*, again: bool) -> Refused:
    return Refused("UVA no longer permits this job", where="UVA", code="revoked", reasons=[REASON], again=again)


def run(work, folder, **settings):
    async def inside():
        async with asyncio.timeout(BOUND), api(folder, **settings) as rig:
            rig.orchestrator.script = Script(tables={"UVA": TABLE, "VU": TABLE}, hold=asyncio.Event())
            return await work(rig)

    return asyncio.run(inside())


async def post(rig, path="/api/v1/jobs?wait=true", providers=("UVA",), **more):
    members = {name: more.pop(name) for name in ("jobId",) if name in more}
    headers = {**rig.auth(ANN), **{name.replace("_", "-"): value for name, value in more.items()}}
    return await rig.client.post(path, json={**upstream(ANN, providers), **members}, headers=headers)


async def running(rig, count=1):
    """Wait until so many submissions have been answered; gives the last one's job."""

    async def answered():
        known = rig.orchestrator.submissions
        delivery = rig.desk.results.find(known[-1].job) if len(known) >= count else None
        return delivery is not None and delivery.submitted.done() and delivery.record is not None

    await until(f"submission {count}", answered, within=BOUND, every=0)
    return rig.orchestrator.submissions[-1].job


async def end(rig, job, error, state=State.CANCELLED):
    await rig.orchestrator.tell(rig.orchestrator.jobs[job], state=state, ended=datetime.now(UTC), error=facts(error))


def held(rig, job):
    """Give the bytes that the API has of a job."""
    delivery = rig.desk.results.find(job)
    return sum(result.spool.size for result in delivery.results.values() if not result.spool._gone)


@pytest.mark.parametrize("path", ["/api/v1/requestApproval", "/api/v1/jobs?wait=true"])
def test_who_waits_for_a_job_that_nothing_permits_any_more_is_told_why_and_gets_nothing(tmp_path, path):
    async def work(rig):
        asking = asyncio.create_task(post(rig, path))
        job = await running(rig)
        assert held(rig, job)
        await end(rig, job, revoked(again=False))
        answer = await asking
        return answer, held(rig, job), len(rig.orchestrator.submissions)

    answer, left, submissions = run(work, tmp_path)
    assert answer.status_code == 403
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert told["code"] == "revoked"
    assert told["reasons"] == [REASON]
    assert left == 0
    assert submissions == 1


def test_who_waits_gets_the_job_that_runs_in_the_permitted_way_and_it_says_what_it_replaces(tmp_path):
    async def work(rig):
        asking = asyncio.create_task(post(rig))
        first = await running(rig)
        await end(rig, first, revoked(again=True))
        second = await running(rig, 2)
        rig.orchestrator.script.hold.set()
        return first, second, (await asking).json(), rig.orchestrator.submissions, held(rig, first)

    first, second, job, (one, two), left = run(work, tmp_path)
    assert job["id"] == second != first
    assert one.request == two.request
    assert (one.replaces, two.replaces) == (None, first)
    assert one.voucher != two.voucher
    assert job["state"] == "succeeded"
    assert left == 0


def test_a_waiter_that_goes_away_meanwhile_cancels_the_job_that_runs_then(tmp_path):
    async def work(rig):
        asking = asyncio.create_task(post(rig))
        await end(rig, await running(rig), revoked(again=True))
        second = await running(rig, 2)
        asking.cancel()
        await rig.orchestrator.until_cancelled()
        return second, rig.orchestrator.cancelled

    second, (cancelled,) = run(work, tmp_path)
    assert cancelled.job == second


def test_agreements_that_go_on_changing_are_not_followed_for_ever(tmp_path):
    async def work(rig):
        asking = asyncio.create_task(post(rig))
        for count in range(1, 5):
            await end(rig, await running(rig, count), revoked(again=True))
        return await asking, len(rig.orchestrator.submissions)

    answer, submissions = run(work, tmp_path)
    assert answer.status_code == 403
    assert submissions == 4


def test_a_bounded_wait_counts_both_jobs(tmp_path):
    async def work(rig):
        asking = asyncio.create_task(post(rig, "/api/v1/jobs?wait=1s"))
        await end(rig, await running(rig), revoked(again=True))
        second = await running(rig, 2)
        answer = await asking
        return answer, second, rig.orchestrator.cancelled

    answer, second, cancelled = run(work, tmp_path)
    assert answer.status_code == 202
    assert answer.json()["id"] == second
    assert not cancelled


def test_a_job_whose_id_somebody_chose_is_that_job_and_is_not_run_again(tmp_path):
    async def work(rig):
        asking = asyncio.create_task(post(rig, jobId="mine"))
        await end(rig, await running(rig), revoked(again=True))
        answer = await asking
        return answer, await post(rig, jobId="mine"), len(rig.orchestrator.submissions)

    first, second, submissions = run(work, tmp_path)
    assert first.status_code == second.status_code == 403
    assert first.json()["again"] is True
    assert first.json()["jobId"] == "mine"
    assert submissions == 1


def test_a_key_means_the_request_and_leads_to_the_job_that_replaces(tmp_path):
    async def work(rig):
        asking = [asyncio.create_task(post(rig, idempotency_key="k1")) for _ in range(2)]
        first = await running(rig)
        await end(rig, first, revoked(again=True))
        await running(rig, 2)
        rig.orchestrator.script.hold.set()
        answers = [await ask for ask in asking]
        answers.append(await post(rig, "/api/v1/jobs", idempotency_key="k1"))
        answers.append(await post(rig, idempotency_key="k1"))
        return first, [answer.json()["id"] for answer in answers], len(rig.orchestrator.submissions)

    first, ids, submissions = run(work, tmp_path)
    assert set(ids) == {f"{first}-2"}
    assert submissions == 2


def test_a_key_whose_job_was_ended_while_nobody_waited_runs_again_for_who_comes_back_to_wait(tmp_path):
    async def work(rig):
        first = (await post(rig, "/api/v1/jobs", idempotency_key="k1")).json()["id"]
        await end(rig, first, revoked(again=True))
        rig.orchestrator.script.hold.set()
        return first, (await post(rig, idempotency_key="k1")).json()

    first, job = run(work, tmp_path)
    assert (job["id"], job["state"]) == (f"{first}-2", "succeeded")


def test_a_partial_job_gives_what_goes_on_and_is_not_run_again(tmp_path):
    async def work(rig):
        asking = asyncio.create_task(post(rig, providers=("UVA", "VU")))
        job = await running(rig)
        record = rig.orchestrator.jobs[job]
        error = facts(revoked(again=True))
        parts = {
            "UVA": PartReport(job=job, party="UVA", state=State.CANCELLED, error=error),
            "VU": PartReport(job=job, party="VU", state=State.SUCCEEDED),
        }
        await rig.orchestrator.tell(record, state=State.PARTIAL, parts=parts, ended=datetime.now(UTC), error=error)
        return (await asking).json(), rig.orchestrator.submissions

    job, submissions = run(work, tmp_path)
    assert job["state"] == "partial"
    assert job["providers"]["UVA"]["error"]["code"] == "revoked"
    assert job["providers"]["VU"]["outcome"] == "answered"
    assert len(submissions) == 1


def test_what_of_a_running_job_is_revoked_is_let_go_at_once_and_no_more_of_it_is_taken(tmp_path):
    async def work(rig):
        answer = await post(rig, "/api/v1/jobs", providers=("UVA", "VU"))
        job = answer.json()["id"]
        delivery = rig.desk.results.find(job)
        record = rig.orchestrator.jobs[job]
        report = PartReport(job=job, party="UVA", state=State.CANCELLED, error=facts(revoked(again=False)))
        delivery.learn(JobEvent(event="part", job=record.model_copy(update={"parts": {"UVA": report}})).job)
        left = {result.party: not result.spool._gone for result in delivery.results.values()}
        with pytest.raises(NotFound):
            rig.desk.results.admit(job, "another", "UVA")
        looked = await rig.client.get(f"/api/v1/jobs/{job}/result?name=UVA", headers=rig.auth(ANN))
        return left, looked

    left, looked = run(work, tmp_path)
    assert left == {"UVA": False, "VU": True}
    assert looked.status_code != 200
