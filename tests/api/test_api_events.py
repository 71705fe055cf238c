"""Following a job: what is over, what happens, and the end; and its trace."""

from __future__ import annotations

import asyncio
import json

from dynamos.kit.errors import JobFailed, Unavailable
from dynamos.middleware.api import events
from dynamos.model.jobs import State
from support.apis import BOB, api, upstream
from support.orchestrators import Script


def parsed(text):
    """Give the events in a text as (id, name, data)."""
    blocks = [block.split("\n") for block in text.strip().split("\n\n") if not block.startswith(":")]
    return [
        (lines[0].removeprefix("id: "), lines[1].removeprefix("event: "), json.loads(lines[2].removeprefix("data: ")))
        for lines in blocks
    ]


def run(work, folder):
    async def inside():
        async with asyncio.timeout(20), api(folder) as rig:
            return await work(rig)

    return asyncio.run(inside())


async def submitted(rig, script):
    rig.orchestrator.script = script
    answer = await rig.client.post("/api/v1/jobs", json=upstream(), headers=rig.auth())
    return answer.json()["links"]


def test_a_job_that_has_ended_is_replayed(tmp_path):
    async def work(rig):
        rig.orchestrator.script = Script(failed={"UVA": JobFailed("it crashed")})
        answer = await rig.client.post("/api/v1/jobs?wait=true", json=upstream(), headers=rig.auth())
        return await rig.client.get(answer.json()["links"]["events"], headers=rig.auth())

    answer = run(work, tmp_path)
    assert answer.headers["content-type"].startswith("text/event-stream")
    found = parsed(answer.text)
    assert [name for _, name, _ in found] == ["submitted", "part", "part", "partial"]
    assert [number for number, _, _ in found] == ["1", "2", "3", "4"]
    assert found[-1][2]["parts"] == {"VU": "succeeded", "UVA": "failed"}
    assert found[-1][2]["error"]["message"] == "it crashed"


def test_what_happens_is_told_until_the_end(tmp_path):
    async def work(rig):
        hold = asyncio.Event()
        links = await submitted(rig, Script(hold=hold))
        following = asyncio.create_task(rig.client.get(links["events"], headers=rig.auth()))
        while not rig.desk.events.follows(links["job"].rpartition("/")[2]):  # noqa: ASYNC110
            await asyncio.sleep(0)
        hold.set()
        answer = await following
        return answer, rig.desk.events.follows(links["job"].rpartition("/")[2])

    answer, follows = run(work, tmp_path)
    assert [name for _, name, _ in parsed(answer.text)] == ["submitted", "running", "succeeded"]
    assert not follows


def test_an_event_that_was_lost_is_found_by_looking(tmp_path, monkeypatch):
    monkeypatch.setattr(events, "KEEP_ALIVE_SECONDS", 0.01)

    async def work(rig):
        links = await submitted(rig, Script(hold=asyncio.Event()))
        job = rig.orchestrator.jobs[links["job"].rpartition("/")[2]]
        answers = iter([Unavailable("away"), job, job.model_copy(update={"state": State.LOST})])

        async def look():
            answer = next(answers)
            if isinstance(answer, Unavailable):
                raise answer
            return answer

        return b"".join([text async for text in events.stream(job, asyncio.Queue(), look)]).decode()

    text = run(work, tmp_path)
    assert text.count(": still here") == 3
    assert [name for _, name, _ in parsed(text)] == ["submitted", "running", "lost"]


def test_a_follower_who_is_far_behind_still_learns_the_end(tmp_path):
    async def work(rig):
        links = await submitted(rig, Script(hold=asyncio.Event()))
        job = rig.orchestrator.jobs[links["job"].rpartition("/")[2]]
        with rig.desk.events.follow(job.id) as queue:
            for _ in range(events.WAITING_EVENTS + 5):
                rig.desk.events.tell(events.JobEvent(event="running", job=job))
            ended = job.model_copy(update={"state": State.SUCCEEDED})
            rig.desk.events.tell(events.JobEvent(event="succeeded", job=ended))
            return queue.qsize(), [queue.get_nowait().event for _ in range(queue.qsize())][-1]

    assert run(work, tmp_path) == (events.WAITING_EVENTS, "succeeded")


def test_one_trace_goes_from_the_callers_span_to_the_orchestrator(tmp_path):
    trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"

    async def work(rig):
        headers = {**rig.auth(), "traceparent": f"00-{trace}-{span}-01"}
        answer = await rig.client.post("/api/v1/jobs?wait=true", json=upstream(), headers=headers)
        await rig.desk.tracer.flush()
        spans = await rig.client.get(answer.json()["links"]["trace"], headers=rig.auth())
        other = await rig.client.get(answer.json()["links"]["trace"], headers=rig.auth(BOB))
        return answer, rig.orchestrator.submissions[0], spans.json(), other

    answer, submission, body, other = run(work, tmp_path)
    assert answer.headers["dynamos-trace"] == trace
    spans = {found["name"]: found for found in body["spans"]}
    root = spans["POST /api/v1/jobs"]
    assert (root["trace"], root["parent"], root["unit"]) == (trace, span, "api")
    assert spans["submit"]["parent"] == spans["await results"]["parent"] == root["span"]
    assert submission.trace["traceparent"].split("-")[1:3] == [trace, spans["submit"]["span"]]
    assert other.status_code == 404
