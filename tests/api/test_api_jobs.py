"""Jobs over HTTP: submit once, look, wait, cancel, fetch in any form."""

from __future__ import annotations

import asyncio
import io
import json

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from dynamos.kit.clocks import ManualClock
from dynamos.kit.errors import JobFailed
from dynamos.model.jobs import State
from support.apis import ANN, BOB, api, upstream
from support.orchestrators import Script

ARROW = "application/vnd.apache.arrow.stream"
TABLE = pa.table({"n": [1, 2, 3], "s": ["a", 'b"', None]})
ONE = ("UVA",)
PLAIN = {"type": "sqlDataRequest", "providers": ["UVA"], "query": "SELECT 1"}


def run(work, folder, **settings):
    """Run a test's coroutine with an API."""

    async def inside():
        async with asyncio.timeout(20), api(folder, **settings) as rig:
            rig.orchestrator.script = Script(tables={"UVA": TABLE})
            return await work(rig)

    return asyncio.run(inside())


async def post(rig, body=None, *, path="/api/v1/jobs", user=ANN, **headers):
    return await rig.client.post(path, json=body or upstream(user, ONE), headers={**rig.auth(user), **headers})


async def get(rig, path, user=ANN, **headers):
    return await rig.client.get(path, headers={**rig.auth(user), **headers})


async def ended(rig, body=None):
    """Run one job to its end and give its path."""
    answer = await post(rig, body, path="/api/v1/jobs?wait=true")
    assert answer.status_code == 200, answer.text
    return answer.headers["location"]


def test_submit_answers_when_the_job_runs_and_says_where_it_is(tmp_path):
    async def work(rig):
        rig.orchestrator.script.hold = asyncio.Event()
        answer = await post(rig)
        looked = await get(rig, answer.headers["location"])
        return answer, looked

    answer, looked = run(work, tmp_path)
    assert answer.status_code == 202
    assert looked.json()["state"] == "running"
    assert looked.json()["providers"]["UVA"]["outcome"] == "under-way"
    assert looked.json()["links"]["job"] == answer.headers["location"]


@pytest.mark.parametrize("body", [PLAIN, upstream(providers=ONE), {**PLAIN, "user": {"userName": ANN}}])
def test_both_forms_become_the_same_request(tmp_path, body):
    async def work(rig):
        await post(rig, body)
        return rig.orchestrator.submissions[0].request

    request = run(work, tmp_path)
    assert request.providers == ONE
    assert request.user.user_name == ANN


def test_waiting_gives_the_result_itself_to_who_accepts_arrow(tmp_path):
    async def work(rig):
        return await post(rig, path="/api/v1/jobs?wait=true", accept=ARROW)

    answer = run(work, tmp_path)
    assert answer.headers["content-type"] == ARROW
    assert pa.ipc.open_stream(answer.content).read_all().equals(TABLE)
    assert answer.headers["dynamos-rows"] == "3"


def test_prefer_wait_is_the_same_as_the_parameter(tmp_path):
    async def work(rig):
        return await post(rig, prefer="respond-async, wait")

    answer = run(work, tmp_path)
    assert answer.status_code == 200
    assert answer.json()["state"] == "succeeded"


def test_a_bounded_wait_that_ends_gives_the_job_as_it_is(tmp_path):
    async def work(rig):
        rig.orchestrator.script.hold = asyncio.Event()
        answer = await post(rig, path="/api/v1/jobs?wait=1ms")
        return answer, rig.orchestrator.cancelled

    answer, cancelled = run(work, tmp_path)
    assert answer.status_code == 202
    assert answer.json()["state"] == "running"
    assert cancelled == []


def test_the_same_key_twice_runs_once(tmp_path):
    async def work(rig):
        answers = [await post(rig, **{"idempotency-key": "k1"}) for _ in range(2)]
        other = await post(rig, upstream(providers=("VU",)), **{"idempotency-key": "k1"})
        return answers, other, rig.orchestrator.submissions

    (first, second), other, submissions = run(work, tmp_path)
    assert first.json()["id"] == second.json()["id"]
    assert len(submissions) == 1
    assert other.status_code == 409
    assert other.json()["code"] == "job-exists"
    assert other.headers["location"] == first.headers["location"]


def test_the_same_id_at_the_same_time_runs_once(tmp_path):
    async def work(rig):
        body = upstream(providers=ONE, jobId="mine-1")
        answers = await asyncio.gather(*(post(rig, body) for _ in range(5)))
        return answers, rig.orchestrator.submissions

    answers, submissions = run(work, tmp_path)
    assert {answer.json()["id"] for answer in answers} == {"mine-1"}
    assert len(submissions) == 1


def test_an_id_of_somebody_else_is_taken_without_telling_more(tmp_path):
    async def work(rig):
        await post(rig, upstream(providers=ONE, jobId="mine-1"))
        return await post(rig, upstream(BOB, ONE, jobId="mine-1"), user=BOB)

    answer = run(work, tmp_path)
    assert answer.status_code == 409
    assert "location" not in answer.headers
    assert ANN not in answer.text


def test_an_id_from_before_a_restart_gives_that_job_and_runs_nothing(tmp_path):
    async def work(rig):
        body = upstream(providers=ONE, jobId="mine-1")
        first = await post(rig, body, path="/api/v1/jobs?wait=true")
        rig.desk.results.forget("mine-1")
        again = await post(rig, body)
        other = await post(rig, upstream(providers=("VU",), jobId="mine-1"))
        waiting = await post(rig, body, path="/api/v1/jobs?wait=true")
        return first, again, other, waiting, rig.orchestrator.jobs

    first, again, other, waiting, jobs = run(work, tmp_path)
    assert again.json()["id"] == first.json()["id"]
    assert other.status_code == 409
    assert waiting.status_code == 404
    assert waiting.json()["code"] == "result-gone"
    assert len(jobs) == 1


@pytest.mark.parametrize("job", ["a.b", "../x", "", "x" * 64, "-a", "a b", 5])
def test_an_id_that_cannot_be_one_is_bad_input(tmp_path, job):
    async def work(rig):
        return await post(rig, upstream(providers=ONE, jobId=job))

    answer = run(work, tmp_path)
    assert answer.status_code == (202 if job == "" else 400)


def test_jobs_of_others_are_not_there(tmp_path):
    async def work(rig):
        path = await ended(rig)
        asks = [get(rig, path + tail, user=BOB) for tail in ("", "/result", "/events", "/trace")]
        deleted = await rig.client.delete(path, headers=rig.auth(BOB))
        listed = await get(rig, "/api/v1/jobs", user=BOB)
        return [await ask for ask in asks] + [deleted], listed

    answers, listed = run(work, tmp_path)
    assert {answer.status_code for answer in answers} == {404}
    assert listed.json() == {"jobs": []}


def test_jobs_are_listed_newest_first_and_by_state(tmp_path):
    async def work(rig):
        first = await ended(rig)
        rig.orchestrator.script.hold = asyncio.Event()
        second = (await post(rig)).headers["location"]
        every = await get(rig, "/api/v1/jobs")
        one = await get(rig, "/api/v1/jobs?limit=1")
        running = await get(rig, "/api/v1/jobs?state=running")
        return first, second, every.json()["jobs"], one.json()["jobs"], running.json()["jobs"]

    first, second, every, one, running = run(work, tmp_path)
    assert [job["links"]["job"] for job in every] == [second, first]
    assert [job["links"]["job"] for job in one] == [second]
    assert [job["links"]["job"] for job in running] == [second]


def test_delete_cancels_what_runs_and_removes_what_has_ended(tmp_path):
    async def work(rig):
        rig.orchestrator.script.hold = asyncio.Event()
        path = (await post(rig)).headers["location"]
        cancelled = await rig.client.delete(path, headers=rig.auth())
        result = await get(rig, f"{path}/result")
        rig.orchestrator.script.hold = None
        path = await ended(rig)
        held = rig.desk.results.store.in_memory
        removed = await rig.client.delete(path, headers=rig.auth())
        gone = await get(rig, f"{path}/result")
        return cancelled, result, held, removed, gone, rig.desk.results.store.in_memory

    cancelled, result, held, removed, gone, left = run(work, tmp_path)
    assert cancelled.json()["state"] == State.CANCELLED
    assert result.status_code == 499
    assert held > 0
    assert removed.json()["state"] == State.SUCCEEDED
    assert (gone.status_code, gone.json()["code"]) == (404, "result-gone")
    assert left == 0


def read_csv(content):
    return pa.csv.read_csv(io.BytesIO(content)).to_pylist()


FORMS = [
    (ARROW, "arrow", lambda content: pa.ipc.open_stream(content).read_all().to_pylist()),
    (
        "application/vnd.apache.parquet",
        "parquet",
        lambda content: pa.parquet.read_table(io.BytesIO(content)).to_pylist(),
    ),
    ("application/json", "json", json.loads),
    ("application/x-ndjson", "ndjson", lambda content: [json.loads(line) for line in content.splitlines()]),
]


@pytest.mark.parametrize(("media", "name", "read"), FORMS)
def test_every_form_has_the_same_rows(tmp_path, media, name, read):
    async def work(rig):
        path = await ended(rig)
        return [
            await get(rig, f"{path}/result", accept=f"text/html;q=0.9, {media}"),
            await get(rig, f"{path}/result?format={name}", accept="image/png"),
        ]

    for answer in run(work, tmp_path):
        assert answer.status_code == 200
        assert answer.headers["content-type"] == media
        assert read(answer.content) == TABLE.to_pylist()


def test_csv_has_a_header_and_quotes_what_needs_it(tmp_path):
    async def work(rig):
        return await get(rig, f"{await ended(rig)}/result?format=csv")

    answer = run(work, tmp_path)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.text == '"n","s"\n1,"a"\n2,"b"""\n3,\n'


def test_without_a_wish_rows_are_json(tmp_path):
    async def work(rig):
        return await get(rig, f"{await ended(rig)}/result", accept="*/*")

    assert run(work, tmp_path).headers["content-type"] == "application/json"


@pytest.mark.parametrize(("query", "accept"), [("", "image/png"), ("", "application/json;q=0"), ("?format=xls", "*/*")])
def test_a_form_that_there_is_not_is_406_and_tells_what_there_is(tmp_path, query, accept):
    async def work(rig):
        return await get(rig, f"{await ended(rig)}/result{query}", accept=accept)

    answer = run(work, tmp_path)
    assert answer.status_code == 406
    assert "parquet" in answer.json()["hint"]


def test_a_chart_comes_as_its_picture(tmp_path):
    async def work(rig):
        schema = pa.schema([("media_type", pa.string()), ("data", pa.binary())], metadata={"dynamos.shape": "chart"})
        rig.orchestrator.script.tables["UVA"] = pa.table([["image/svg+xml"], [b"<svg/>"]], schema=schema)
        path = await ended(rig)
        return await get(rig, f"{path}/result"), await get(rig, f"{path}/result", accept="image/*")

    for answer in run(work, tmp_path):
        assert answer.headers["content-type"] == "image/svg+xml"
        assert answer.content == b"<svg/>"


def test_of_several_results_one_must_be_named(tmp_path):
    async def work(rig):
        path = await ended(rig, upstream())
        return (
            await get(rig, f"{path}/result"),
            await get(rig, f"{path}/result?name=UVA"),
            await get(rig, f"{path}/result?name=result-VU"),
            await get(rig, f"{path}/result?name=SURF"),
        )

    unnamed, by_party, by_name, unknown = run(work, tmp_path)
    assert (unnamed.status_code, unnamed.json()["code"]) == (409, "several-results")
    assert sorted(unnamed.json()["names"]) == ["result-UVA", "result-VU"]
    assert by_party.headers["dynamos-result"] == "result-UVA"
    assert by_name.headers["dynamos-result"] == "result-VU"
    assert unknown.status_code == 404
    assert "result-UVA" in unknown.json()["hint"]


def test_a_result_that_is_not_ready_can_be_waited_for(tmp_path):
    async def work(rig):
        script = rig.orchestrator.script
        script.hold, script.early = asyncio.Event(), False
        path = (await post(rig, upstream(providers=("VU",)))).headers["location"]
        early = await get(rig, f"{path}/result?name=nothing")
        waiting = asyncio.create_task(get(rig, f"{path}/result?wait=30s"))
        script.hold.set()
        return early, await waiting

    early, waited = run(work, tmp_path)
    assert early.status_code == 404
    assert waited.status_code == 200


def test_not_ready_says_when_to_ask_again(tmp_path):
    async def work(rig):
        script = rig.orchestrator.script
        script.early, script.hold = True, asyncio.Event()
        script.failed = {"UVA": JobFailed("later")}
        path = (await post(rig)).headers["location"]
        return await get(rig, f"{path}/result"), await get(rig, f"{path}/result?wait=1ms")

    for answer in run(work, tmp_path):
        assert (answer.status_code, answer.json()["code"]) == (409, "not-ready")
        assert answer.headers["retry-after"] == "1"


def test_the_result_of_a_failed_job_is_its_error(tmp_path):
    async def work(rig):
        rig.orchestrator.script.failed = {"UVA": JobFailed("it crashed", code="crashed")}
        answer = await post(rig, path="/api/v1/jobs?wait=true")
        path = answer.json()["links"]["job"]
        return answer, await get(rig, f"{path}/result")

    for answer in run(work, tmp_path):
        assert answer.status_code == 502
        assert answer.json()["code"] == "crashed"


def test_results_go_when_they_are_old(tmp_path):
    clock = ManualClock()

    async def work(rig):
        path = await ended(rig)
        job = path.rpartition("/")[2]
        rig.desk.results.find(job).record = rig.desk.results.find(job).record.model_copy(update={"ended": clock.now()})
        kept = rig.desk.results.sweep()
        clock.advance(15 * 60)
        removed = rig.desk.results.sweep()
        return kept, removed, await get(rig, f"{path}/result"), await get(rig, path)

    kept, removed, result, job = run(work, tmp_path, clock=clock)
    assert (kept, removed) == (0, 1)
    assert result.json()["code"] == "result-gone"
    assert job.status_code == 200


def test_a_lost_event_does_not_keep_anybody_waiting_after_a_reconnect(tmp_path):
    async def work(rig):
        rig.orchestrator.script.hold = asyncio.Event()
        waiting = asyncio.create_task(post(rig, path="/api/v1/jobs?wait=true"))
        await rig.orchestrator.submitted.wait()
        job = next(iter(rig.orchestrator.jobs))
        done = rig.orchestrator.jobs[job].model_copy(update={"state": State.SUCCEEDED})
        rig.orchestrator.jobs[job] = done
        await rig.desk.results.find(job).submitted
        await asyncio.sleep(0)
        rig.cluster.interrupt()
        return await waiting

    assert run(work, tmp_path).json()["state"] == "succeeded"
