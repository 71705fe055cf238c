"""`POST /api/v1/requestApproval`: upstream's one call, from request to results."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from dynamos.middleware.api import bodies, outcomes
from dynamos.middleware.api.asks import Ask
from dynamos.middleware.api.asks import read as read_ask
from dynamos.middleware.api.callers import Caller
from dynamos.middleware.api.desks import desk_of
from dynamos.middleware.api.routes import answers, docs
from dynamos.middleware.api.routes.waits import unless_gone

router = APIRouter(prefix=outcomes.BASE, tags=["requests"])


async def asked(request: Request) -> tuple[Ask, Caller]:
    """Give the request in the body, and who sent it. Raises Unauthenticated, Mistakes, Refused (other-user)."""
    caller = await desk_of(request).callers.of(request)
    ask = read_ask(await bodies.read(request), user=caller.user, user_id=caller.user_id)
    caller.check_asks(ask)
    return ask, caller


@router.post("/requestApproval", **docs.of(docs.ASK, {200: docs.APPROVAL}))
async def request_approval(request: Request) -> Response:
    """Run a request to its end and give every result as a text, as upstream does, with the outcome of each provider.

    A client that goes away cancels the job.
    """
    ask, caller = await asked(request)
    delivery = await unless_gone(request, desk_of(request).submissions.run(ask, caller))
    return answers.approval(delivery)
