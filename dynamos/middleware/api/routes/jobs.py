"""Jobs: submit, list, look at, cancel; their results, events and traces."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from dynamos.kit.errors import NotFound
from dynamos.middleware import telemetry
from dynamos.middleware.api import events, media, outcomes
from dynamos.middleware.api.bodies import dumps
from dynamos.middleware.api.callers import Caller
from dynamos.middleware.api.desks import Desk, desk_of
from dynamos.middleware.api.results import Delivery
from dynamos.middleware.api.routes import answers, docs
from dynamos.middleware.api.routes.approval import asked
from dynamos.middleware.api.routes.waits import unless_gone, wanted
from dynamos.middleware.messages import FindJobs
from dynamos.model.jobs import Job, State

router = APIRouter(prefix=outcomes.BASE, tags=["jobs"])
LONGEST_WAIT_SECONDS = 600.0
FLUSH_SECONDS = 0.5
Wait = Annotated[str | None, Query(description="How long to wait for the end: true, or a time such as 30s.")]
Format = Annotated[str | None, Query(description="arrow, parquet, csv, json, ndjson or image; else by Accept.")]
Which = Annotated[str | None, Query(description="Which result, by its name or its party's, where there are several.")]


def record(job: Job, delivery: Delivery | None) -> dict[str, Any]:
    """Give a job as the API shows it: its record, and what came of it."""
    return {**job.as_json(), **outcomes.summary(job, delivery), "decision": job.decision.as_json()}


def answer(job: Job, delivery: Delivery | None, status: int = HTTPStatus.OK, **headers: str) -> Response:
    """Answer with one job."""
    return Response(dumps(record(job, delivery)), status, {"cache-control": "no-store", **headers}, answers.JSON)


@router.post("/jobs", **docs.of(docs.ASK, {200: docs.RESULT, 201: docs.JOB, 202: docs.JOB}))
async def submit(request: Request, wait: Wait = None, format: Format = None, name: Which = None) -> Response:  # noqa: A002
    """Submit a request. Answers as soon as the job runs; with `wait`, when it has ended.

    With `wait` and an `Accept` (or `format`) other than JSON, the answer is the result itself. A client that goes away
    while it waits cancels the job, unless it chose the job's id (`jobId`, `Idempotency-Key`).
    """
    desk = desk_of(request)
    ask, caller = await asked(request)
    key = request.headers.get("idempotency-key", "")
    seconds = wanted(wait, request.headers.get("prefer", ""), desk.submissions.longest(ask.request))
    look = partial(desk.peers.look, request)
    if seconds is None:
        work = desk.submissions.submit(ask, caller, key=key, look=look)
    else:
        work = desk.submissions.run(ask, caller, key=key, within=seconds, look=look)
    delivery = await unless_gone(request, work)
    job = delivery.record
    assert job is not None
    here = outcomes.links(job.id)["job"]
    if seconds is None or not delivery.complete:
        return answer(job, delivery, HTTPStatus.ACCEPTED, location=here)
    error = outcomes.failure(delivery)
    if error is not None:
        return answers.failed(delivery, error)
    accept = request.headers.get("accept", "")
    if format or _rows_before_json(accept):
        found = answers.one_result(job, delivery, name or "")
        return answers.representation(job, delivery, found, accept=accept, name=format or "")
    return answer(job, delivery, location=here)


async def _ends(request: Request, desk: Desk, delivery: Delivery, seconds: float) -> bool:
    """Wait a while for the end; tells whether it came."""
    try:
        await unless_gone(request, desk.submissions.finish(delivery, within=seconds))
    except TimeoutError:
        return False
    return True


def _rows_before_json(accept: str) -> bool:
    """Tell whether the client asks for rows rather than for the job: JSON could be either, and means the job."""
    rows = max(media.quality(form.media_type, accept) for form in (*media.FORMS[1:], media.SVG))
    return rows > media.quality(media.FORMS[0].media_type, accept)


@router.get("/jobs", **docs.of(None, {200: docs.JOBS}))
async def list_jobs(
    request: Request,
    state: Annotated[State | None, Query(description="Only jobs in this state.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="At most so many, the newest.")] = 100,
) -> Response:
    """List one's own jobs, newest first; everybody's where the API is open and no token came."""
    desk = desk_of(request)
    caller = await desk.callers.of(request)
    found = await desk.orchestrator.jobs(FindJobs(user=caller.user, state=state or "", limit=limit))
    kept = [job for job in found if state in (None, job.state) and caller.user in ("", job.user)][:limit]
    listed = [
        {
            "id": job.id,
            "user": job.user,
            "state": str(job.state),
            "type": job.request.type,
            "providers": list(job.request.providers),
            "archetypes": dict(job.plan.archetypes) if job.plan else {},
            "submitted": job.submitted.isoformat(),
            "ended": job.ended.isoformat() if job.ended else None,
            "error": job.error,
            "links": outcomes.links(job.id),
        }
        for job in kept
    ]
    return Response(dumps({"jobs": listed}), headers={"cache-control": "no-store"}, media_type=answers.JSON)


async def _job(request: Request, job: str, *, here: bool = False) -> tuple[Desk, Caller, Job, Delivery | None]:
    """Give a job of the caller's own. Raises NotFound also for somebody else's, and Elsewhere for one whose results
    another API has, unless what is asked can be answered `here`."""
    desk = desk_of(request)
    caller = await desk.callers.of(request)
    delivery = desk.results.find(job)
    if delivery is not None:
        caller.check_owns(job, delivery.user)
        if delivery.record is not None and delivery.record.state.final:
            return desk, caller, delivery.record, delivery
    found = await desk.orchestrator.job(job, caller.user)
    if delivery is not None:
        delivery.learn(found)
    elif not here:
        desk.peers.look(request, found.api)
    return desk, caller, found, delivery


@router.get("/jobs/{job}", **docs.of(None, {200: docs.JOB}))
async def show(request: Request, job: str) -> Response:
    """Show a job: request, decision, plan, parts, results, timings."""
    _, _, found, delivery = await _job(request, job)
    return answer(found, delivery)


@router.delete("/jobs/{job}", **docs.of(None, {200: docs.JOB}))
async def stop(request: Request, job: str) -> Response:
    """Cancel a job that is under way; remove the results of one that has ended. Gives the job as it is then."""
    desk, caller, found, delivery = await _job(request, job)
    if found.state.final:
        desk.results.forget(job)
        return answer(found, None)
    try:
        found = await desk.orchestrator.cancel(job, f"cancelled by {caller.user or 'its user'}")
    except NotFound:
        found = await desk.orchestrator.job(job)
    if delivery is not None:
        delivery.learn(found)
    return answer(found, delivery)


@router.get("/jobs/{job}/result", **docs.of(None, {200: docs.RESULT}))
async def result(
    request: Request,
    job: str,
    name: Which = None,
    format: Format = None,  # noqa: A002 - the name in the query
    wait: Wait = None,
) -> Response:
    """Give a result: Arrow, Parquet, CSV, JSON or NDJSON, or the picture of a chart; by `format`, else by `Accept`."""
    desk, _, found, delivery = await _job(request, job)
    seconds = wanted(wait, request.headers.get("prefer", ""), LONGEST_WAIT_SECONDS)
    if delivery is not None and seconds is not None and not delivery.complete:
        await _ends(request, desk, delivery, seconds)
        found = delivery.record or found
    if delivery is not None and delivery.fault is not None:
        raise delivery.fault
    one = answers.one_result(found, delivery, name or "")
    assert delivery is not None
    return answers.representation(found, delivery, one, accept=request.headers.get("accept", ""), name=format or "")


@router.get("/jobs/{job}/events", **docs.of(None, {200: docs.EVENTS}))
async def follow(request: Request, job: str) -> Response:
    """Follow a job: server-sent events, first what is over, then what happens, until the job has ended."""
    desk, caller, _, _ = await _job(request, job, here=True)

    async def written() -> AsyncIterator[bytes]:
        with desk.events.follow(job) as queue:
            look = partial(desk.orchestrator.job, job, caller.user)
            async for text in events.stream(await look(), queue, look):
                yield text

    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(written(), headers=headers, media_type="text/event-stream")


@router.get("/jobs/{job}/trace", **docs.of(None, {200: docs.SPANS}))
async def trace(request: Request, job: str) -> Response:
    """Give the spans of a job's trace, from every unit, by their start."""
    desk, _, found, _ = await _job(request, job, here=True)
    await desk.tracer.flush(within=FLUSH_SECONDS)
    identifier = telemetry.trace_of(found.trace)
    spans = await telemetry.spans(desk.kb, identifier) if identifier else []
    body = {"job": job, "trace": identifier, "spans": spans}
    return Response(dumps(body), headers={"cache-control": "no-store"}, media_type=answers.JSON)
