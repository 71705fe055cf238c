"""What another agreement would do, before it is written: to jobs that run, and to requests that came."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from dynamos.middleware.api import bodies, outcomes
from dynamos.middleware.api.bodies import dumps
from dynamos.middleware.api.desks import desk_of
from dynamos.middleware.api.routes import answers, docs
from dynamos.middleware.api.routes.knowledge import AGREEMENTS, check_party, read_value
from dynamos.middleware.identity import vouchers
from dynamos.middleware.messages import Rehearse

router = APIRouter(prefix=outcomes.BASE, tags=["knowledge"])
MOST_PAST = 10_000
PAST = 1000


@router.post("/policyEnforcer/agreements/{name}/simulate", **docs.of(docs.ref("Agreement"), {200: docs.REHEARSED}))
async def simulate(
    request: Request,
    name: str,
    past: Annotated[int, Query(ge=0, le=MOST_PAST, description="How many decisions of the past to look at.")] = PAST,
) -> Response:
    """Tell what an agreement would do: what it would stop, allow, or have run in another way. Nothing changes."""
    desk = desk_of(request)
    caller = await desk.callers.of(request)
    check_party(desk, name)
    caller.check_administers(name, "its agreement")
    value = read_value(await bodies.read(request), AGREEMENTS, name)
    voucher = caller.voucher(vouchers.to_rehearse(name, value, past))
    told = await desk.orchestrator.rehearse(Rehearse(party=name, value=value, past=past, voucher=voucher))
    body = {
        "party": name,
        "summary": {
            "running": Counter(each.effect for each in told.running),
            "past": Counter(each.effect for each in told.past),
        },
        **told.as_json(),
    }
    return Response(dumps(body), headers={"cache-control": "no-store"}, media_type=answers.JSON)
