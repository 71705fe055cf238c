"""Adaptation: what was decided, why, and what came of it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from dynamos.kit.errors import NotFound
from dynamos.knowledge.bases import ADAPTATION
from dynamos.middleware.api import outcomes
from dynamos.middleware.api.bodies import dumps
from dynamos.middleware.api.callers import Caller
from dynamos.middleware.api.desks import Desk, desk_of
from dynamos.middleware.api.routes import answers, docs

router = APIRouter(prefix=f"{outcomes.BASE}/adaptation", tags=["adaptation"])
WRITER = "orchestrator"
MOST_RECORDS = 10_000
DECISION, EFFECT = "decision", "effect"
Limit = Annotated[int, Query(ge=1, le=MOST_RECORDS, description="At most so many, the newest.")]


@router.get("/decisions", **docs.of(None, {200: docs.LIST}))
async def decisions(
    request: Request,
    job: Annotated[str, Query(pattern=r"^[A-Za-z0-9_-]{0,63}$", description="Only those about this job.")] = "",
    planner: Annotated[str, Query(description="Only those of this planner.")] = "",
    limit: Limit = 100,
) -> Response:
    """List adaptation decisions, the newest first, each with what came of it.

    Admins of the marketplace see all, others those about their own jobs.
    """
    desk = desk_of(request)
    caller = await desk.callers.of(request)
    records = await _read(desk, job or ">", MOST_RECORDS if planner or not _sees_all(desk, caller) else 2 * limit)
    found = [
        each
        for each in reversed(joined(records))
        if planner in ("", each["planner"]) and (_sees_all(desk, caller) or each["user"] == caller.user)
    ][:limit]
    if job and not found:
        raise NotFound(f"there is no adaptation decision about a job {job!r}", hint="they are kept for 30 days")
    return Response(dumps(found), headers={"cache-control": "no-store"}, media_type=answers.JSON)


@router.get("/records", **docs.of(None, {200: docs.LIST}))
async def records(request: Request, limit: Limit = 1000) -> Response:
    """List the log of adaptation as it was written, the oldest first: what is needed to replay it.

    For admins of the marketplace only.
    """
    desk = desk_of(request)
    caller = await desk.callers.of(request)
    caller.check_administers(desk.config.marketplace, "its log of adaptation")
    found = await _read(desk, ">", limit)
    return Response(dumps(found), headers={"cache-control": "no-store"}, media_type=answers.JSON)


def joined(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give the decisions in order, each with its effect. Of a job that was planned again, the last one has it."""
    last: dict[str, dict[str, Any]] = {}
    found = []
    for record in records:
        if record.get("kind") == DECISION:
            last[record["job"]] = dict(record)
            found.append(last[record["job"]])
        elif record.get("kind") == EFFECT and record["job"] in last:
            last[record["job"]]["effect"] = record
    return found


async def _read(desk: Desk, rest: str, limit: int) -> list[dict[str, Any]]:
    return await desk.kb.log(ADAPTATION).read(f"{WRITER}.{rest}", limit=limit)


def _sees_all(desk: Desk, caller: Caller) -> bool:
    return caller.administers(desk.config.marketplace)
