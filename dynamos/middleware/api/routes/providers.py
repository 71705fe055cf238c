"""Who is there, who takes part, and whether a request would run."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from dynamos.kit.credentials import dns_name
from dynamos.middleware.api import outcomes
from dynamos.middleware.api.bodies import dumps
from dynamos.middleware.api.desks import desk_of
from dynamos.middleware.api.problems import reasons_of
from dynamos.middleware.api.routes import answers, docs
from dynamos.middleware.api.routes.approval import asked
from dynamos.middleware.identity import vouchers
from dynamos.middleware.instances import parties as parties_of
from dynamos.middleware.instances import together
from dynamos.middleware.messages import Check, Look

router = APIRouter(prefix=outcomes.BASE, tags=["requests"])


@router.get("/getAvailableProviders", **docs.of(None, {200: docs.OBJECT}))
async def available(request: Request) -> Response:
    """List the parties that are online, in upstream's form with what we know beside it."""
    desk = desk_of(request)
    await desk.callers.of(request)
    online = {
        party: {
            "name": party,
            "ActiveSince": presence.active_since,
            "ConfigUpdated": presence.config_updated,
            "routingKey": f"{party}-in",
            "dns": dns_name(party),
            "isolation": list(presence.isolation),
            "version": presence.version,
            "instances": [each.instance for each in there],
        }
        for party, there in parties_of(desk.presences.online()).items()
        for presence in (together(there),)
    }
    return Response(dumps(online), headers={"cache-control": "no-store"}, media_type=answers.JSON)


@router.get("/parties", **docs.of(None, {200: docs.LIST}))
async def parties(request: Request) -> Response:
    """List all parties of the marketplace, and which of them are online."""
    desk = desk_of(request)
    await desk.callers.of(request)
    seen = await desk.orchestrator.look(Look(kind="parties"))
    return Response(dumps(list(seen.items)), headers={"cache-control": "no-store"}, media_type=answers.JSON)


@router.post("/check", **docs.of(docs.ASK, {200: docs.CHECKED}))
async def check(request: Request) -> Response:
    """Tell whether a request would run, and how: decision and plan. Nothing runs."""
    desk = desk_of(request)
    ask, caller = await asked(request)
    voucher = caller.voucher(vouchers.to_check(ask.request))
    checked = await desk.orchestrator.check(Check(request=ask.request, voucher=voucher))
    decision = checked.decision.as_json()
    body = {
        "runs": checked.plan is not None,
        "permitted": list(checked.decision.permitted),
        "reasons": reasons_of(decision),
        "decision": decision,
        "plan": checked.plan.as_json() if checked.plan else None,
        "error": checked.error,
    }
    return Response(dumps(body), headers={"cache-control": "no-store"}, media_type=answers.JSON)
