"""Is it alive, is it ready, what does it count, which keys does it believe, and what is here."""

from __future__ import annotations

import time

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

import dynamos
from dynamos.kit.errors import DynamosError, NotFound, TimedOut, Unavailable
from dynamos.middleware.api import outcomes
from dynamos.middleware.api.bodies import dumps, parse
from dynamos.middleware.api.desks import Desk, desk_of
from dynamos.middleware.api.metrics import MEDIA_TYPE
from dynamos.middleware.api.routes import answers, docs
from dynamos.middleware.messages import FindJobs
from dynamos.model.values import Value

router = APIRouter(tags=["operation"])
READY_SECONDS = 2.0
REMEMBERED_SECONDS = 0.5
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


class Readiness(Value):
    """When the orchestrator was last seen to answer: a probe that comes too often gets the former answer."""

    at: float = 0.0


@router.get("/", **docs.of(None, {200: docs.OBJECT}))
async def index(request: Request) -> Response:
    """Say what this is and where to go on."""
    desk = desk_of(request)
    body = {
        "name": "DYNAMOS",
        "version": dynamos.__version__,
        "marketplace": desk.config.marketplace,
        "mode": "open" if desk.config.settings.open else "tokens",
        "links": {"openapi": "/openapi.json", "health": "/healthz", "ready": "/readyz", "api": outcomes.BASE},
    }
    return Response(dumps(body), media_type=answers.JSON)


@router.get("/healthz", **docs.of(None, {200: docs.OBJECT}))
async def alive() -> Response:
    """Say that the process is alive."""
    return Response(b'{"status":"ok"}', media_type=answers.JSON)


@router.get("/readyz", **docs.of(None, {200: docs.OBJECT}))
async def ready(request: Request) -> Response:
    """Say whether requests can be taken: the bus is there and the orchestrator answers."""
    desk = desk_of(request)
    if desk.leaving:
        raise Unavailable("the API is stopping", code="stopping")
    last: Readiness = getattr(request.app.state, "readiness", Readiness())
    if time.monotonic() - last.at > REMEMBERED_SECONDS:
        await _ask(desk)
        request.app.state.readiness = Readiness(at=time.monotonic())
    return Response(b'{"status":"ready"}', media_type=answers.JSON)


async def _ask(desk: Desk) -> None:
    try:
        await desk.orchestrator.jobs(FindJobs(user="@nobody", limit=1), within=READY_SECONDS)
    except (Unavailable, TimedOut) as error:
        raise Unavailable(f"the orchestrator does not answer: {error.message}", code="not-ready") from error
    except DynamosError:
        return  # it answers


@router.get("/metrics", **docs.of(None, {200: docs.TEXT}))
async def metrics(request: Request) -> Response:
    """Give metrics for Prometheus. Needs a token, like everything that tells about requests."""
    desk = desk_of(request)
    await desk.callers.of(request)
    store = desk.results.store
    desk.metrics.jobs.set(len(desk.results.all()))
    desk.metrics.kept.labels("memory").set(store.in_memory)
    desk.metrics.kept.labels("disk").set(store.on_disk)
    desk.metrics.spans_dropped.set(desk.tracer.dropped)
    return Response(desk.metrics.text(), headers={"content-type": MEDIA_TYPE})


@router.get("/.well-known/jwks.json", **docs.of(None, {200: docs.OBJECT}))
async def keys(request: Request) -> Response:
    """Give the public keys with which tokens are verified here."""
    path = desk_of(request).config.jwks
    if not path.exists():
        raise NotFound("no keys are kept here", hint="tokens are verified with the keys of their issuer")
    found = parse(path.read_bytes())
    public = [{name: value for name, value in key.items() if name not in _PRIVATE} for key in found.get("keys", [])]
    return Response(dumps({"keys": public}), headers={"cache-control": "max-age=60"}, media_type=answers.JSON)
