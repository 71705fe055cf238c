"""Adaptation from outside: monitor, options and execute, each with its schema, as exemplars for UPISAS have them.

Only admins of the marketplace: they see what runs, and set how it runs, within what the agreements permit.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from dynamos.kit.errors import BadInput, Mistake, Mistakes
from dynamos.middleware.api import bodies, outcomes
from dynamos.middleware.api.bodies import dumps
from dynamos.middleware.api.callers import Caller
from dynamos.middleware.api.desks import Desk, desk_of
from dynamos.middleware.api.routes import answers, docs
from dynamos.middleware.identity import vouchers
from dynamos.middleware.steering import Monitored, Options, Steer, Steering, Watch
from dynamos.model.documents import json_path
from dynamos.model.explanations import explain
from dynamos.model.values import Value

BASE = f"{outcomes.BASE}/adaptation"
router = APIRouter(prefix=BASE, tags=["adaptation"])
RIGHTS = "how it adapts"
DRAFT = "https://json-schema.org/draft/2020-12/schema"
_NO_STORE = {"cache-control": "no-store"}


def schema_of(model: type[Value]) -> dict[str, Any]:
    """Give the JSON Schema of what is answered: its properties are just the members that are there."""
    made = model.model_json_schema(mode="serialization", schema_generator=docs.Generator)
    return {"$schema": DRAFT, **made, "required": sorted(made["properties"]), "additionalProperties": False}


async def _admin(request: Request) -> tuple[Desk, Caller]:
    desk = desk_of(request)
    caller = await desk.callers.of(request)
    caller.check_administers(desk.config.marketplace, RIGHTS)
    return desk, caller


def _answer(value: Any) -> Response:
    return Response(dumps(value), headers=_NO_STORE, media_type=answers.JSON)


@router.get("", **docs.of(None, {200: docs.OBJECT}))
async def index(request: Request) -> Response:
    """Say what is here: the place that a strategy takes for its exemplar."""
    await _admin(request)
    names = ("monitor", "adaptation_options", "execute")
    return _answer({name: f"{BASE}/{name}" for each in names for name in (each, f"{each}_schema")})


@router.get("/monitor", **docs.of(None, {200: docs.MONITORED}))
async def monitor(request: Request) -> Response:
    """Tell what is monitored: parties with their loads, ways between them, symptoms, jobs, and what is set."""
    desk, caller = await _admin(request)
    return _answer((await desk.orchestrator.monitor(Watch(voucher=_may(caller, "monitor")))).as_json())


@router.get("/monitor_schema", **docs.of(None, {200: docs.OBJECT}))
async def monitor_schema(request: Request) -> Response:
    """Give the JSON Schema of `monitor`."""
    await _admin(request)
    return _answer(schema_of(Monitored))


@router.get("/adaptation_options", **docs.of(None, {200: docs.OPTIONS}))
async def adaptation_options(request: Request) -> Response:
    """Tell what can be set, by the names of `execute`: planners, their options, and pins that agreements permit."""
    desk, caller = await _admin(request)
    return _answer((await desk.orchestrator.options(Watch(voucher=_may(caller, "options")))).as_json())


@router.get("/adaptation_options_schema", **docs.of(None, {200: docs.OBJECT}))
async def adaptation_options_schema(request: Request) -> Response:
    """Give the JSON Schema of `adaptation_options`."""
    await _admin(request)
    return _answer(schema_of(Options))


@router.put("/execute", **docs.of(docs.ref("Steer"), {200: docs.STEERING}))
async def execute(request: Request) -> Response:
    """Set it, from the next request on. What is left out stays. Answers with all that is set then.

    With `revision`, only if nothing was set since. What no agreement permits is refused (403). It survives a restart.
    """
    desk, caller = await _admin(request)
    message = _read(await bodies.read(request))
    voucher = caller.voucher(vouchers.to_steer(message.as_json()))
    return _answer((await desk.orchestrator.steer(message.model_copy(update={"voucher": voucher}))).as_json())


@router.get("/execute_schema", **docs.of(None, {200: docs.OBJECT}))
async def execute_schema(request: Request) -> Response:
    """Give the JSON Schema of what `execute` answers; its body has the same members, and needs none of them."""
    await _admin(request)
    return _answer(schema_of(Steering))


def _may(caller: Caller, what: str) -> str:
    return caller.voucher(vouchers.to_watch(what))


def _read(body: Any) -> Steer:
    """Give what is to be set. Raises Mistakes with JSON paths."""
    if not isinstance(body, dict):
        raise BadInput("the body is not an object", where="$")
    if "voucher" in body:
        raise BadInput("there is no member 'voucher'", where="$.voucher")
    try:
        return Steer.model_validate(body)
    except ValidationError as invalid:
        found = invalid.errors(include_url=False)
        mistakes = [Mistake(json_path(error["loc"]), *explain(error, Steer)) for error in found]
        raise Mistakes(mistakes, subject="what is to be set") from None
