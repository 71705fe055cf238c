"""The knowledge paths, in upstream's JSON: what the marketplace shares, and the parties' agreements.

A change needs an admin: of the marketplace for what it shares, of the party for its agreement. Of an agreement,
everybody sees what it allows themselves; only the party's admins see all of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from dynamos.kit.errors import BadInput, Conflict, Mistake, Mistakes, NotFound
from dynamos.kit.words import suggest
from dynamos.middleware.api import bodies, outcomes
from dynamos.middleware.api.bodies import dumps
from dynamos.middleware.api.callers import Caller
from dynamos.middleware.api.desks import Desk, desk_of
from dynamos.middleware.api.errors import Gone, Outdated
from dynamos.middleware.api.routes import answers, docs
from dynamos.middleware.identity import vouchers
from dynamos.middleware.messages import Change, Kind, Look
from dynamos.model.agreements import Agreement
from dynamos.model.archetypes import Archetype
from dynamos.model.documents import json_path
from dynamos.model.explanations import explain
from dynamos.model.request_types import RequestType
from dynamos.model.services import Service
from dynamos.model.values import Value

router = APIRouter(prefix=outcomes.BASE, tags=["knowledge"])
AGREEMENTS: Kind = "policyEnforcer"
MODELS: dict[Kind, type[Value]] = {
    "archetypes": Archetype,
    "requestTypes": RequestType,
    "microservices": Service,
    AGREEMENTS: Agreement,
}
# Path -> kind. Upstream has requestTypes in both spellings, and agreements one level deeper when one is read.
LISTS: dict[str, Kind] = {
    "archetypes": "archetypes",
    "requestTypes": "requestTypes",
    "requesttypes": "requestTypes",
    "microservices": "microservices",
    "policyEnforcer": AGREEMENTS,
    "policyEnforcer/agreements": AGREEMENTS,
}
SHARED_RIGHTS = "what the marketplace shares"


def seen_by(caller: Caller, agreement: Mapping[str, Any]) -> dict[str, Any]:
    """Give what a caller may see of an agreement: all of it as an admin, else only the relation that is about them."""
    if caller.administers(str(agreement["name"])):
        return dict(agreement)
    relations = {user: relation for user, relation in (agreement.get("relations") or {}).items() if user == caller.user}
    return {**agreement, "relations": relations}


async def _list(request: Request, kind: Kind) -> Response:
    desk = desk_of(request)
    caller = await desk.callers.of(request)
    seen = await desk.orchestrator.look(Look(kind=kind))
    items = [seen_by(caller, item) if kind == AGREEMENTS else item for item in seen.items]
    return Response(dumps(items), headers={"cache-control": "no-store"}, media_type=answers.JSON)


async def _one(request: Request, kind: Kind, name: str) -> Response:
    desk = desk_of(request)
    caller = await desk.callers.of(request)
    seen = await desk.orchestrator.look(Look(kind=kind, name=name))
    if not seen.items:
        raise NotFound(f"there is no {name!r} among {kind}")
    item = seen_by(caller, seen.items[0]) if kind == AGREEMENTS else seen.items[0]
    tag = etag(seen.revisions[0]) if seen.revisions else ""
    headers = {"etag": tag, "cache-control": "no-cache"}
    if tag and tag in _tags(request.headers.get("if-none-match", "")):
        return Response(status_code=304, headers=headers)
    return Response(dumps(item), headers=headers, media_type=answers.JSON)


def etag(revision: int) -> str:
    """Give the entity tag of a revision."""
    return f'"{revision}"'


def _tags(header: str) -> list[str]:
    return [tag.strip().removeprefix("W/") for tag in header.split(",") if tag.strip()]


async def _put(request: Request, kind: Kind, name: str = "") -> Response:
    caller = await desk_of(request).callers.of(request)
    value = read_value(await bodies.read(request), kind, name)
    revision = await _change(request, caller, kind, str(value["name"]), value)
    return Response(b"OK", headers={"etag": etag(revision)}, media_type="text/plain")


async def _delete(request: Request, kind: Kind, name: str) -> Response:
    caller = await desk_of(request).callers.of(request)
    await _change(request, caller, kind, name, None)
    return Response(status_code=204)


async def _change(request: Request, caller: Caller, kind: Kind, name: str, value: dict[str, Any] | None) -> int:
    desk = desk_of(request)
    if kind == AGREEMENTS:
        check_party(desk, name)
        caller.check_administers(name, "its agreement")
    else:
        caller.check_administers(desk.config.marketplace, SHARED_RIGHTS)
    revision = await _expected(request, desk, kind, name)
    if value is None and revision is None:
        await desk.orchestrator.look(Look(kind=kind, name=name))  # there is nothing to remove: NotFound
    voucher = caller.voucher(vouchers.to_change(kind, name, value, revision))
    message = Change(kind=kind, name=name, value=value, revision=revision, voucher=voucher)
    try:
        return (await desk.orchestrator.change(message)).revision
    except Conflict as error:
        if revision is None:
            raise
        raise Outdated(error.message, where=name, hint="read it again (ETag), and change what is there now") from error


def check_party(desk: Desk, name: str) -> None:
    if name not in desk.config.parties:
        raise NotFound(f"there is no party {name!r}", where="$.name", hint=suggest(name, desk.config.parties))


async def _expected(request: Request, desk: Desk, kind: Kind, name: str) -> int | None:
    """Give the revision that a change is about: by `If-Match`, or 0 (there must be none) by `If-None-Match: *`."""
    if request.headers.get("if-none-match", "").strip() == "*":
        return 0
    tags = _tags(request.headers.get("if-match", ""))
    if not tags:
        return None
    if tags == ["*"]:
        try:
            return (await desk.orchestrator.look(Look(kind=kind, name=name))).revisions[0]
        except NotFound as error:
            raise Outdated(error.message, where=name, hint="there is nothing that If-Match could match") from error
    try:
        return int(tags[0].strip('"')) if len(tags) == 1 else _no_tag(tags[0])
    except ValueError:
        return _no_tag(tags[0])


def _no_tag(tag: str) -> int:
    raise BadInput(f"{tag[:80]} is not an entity tag of this API", where="If-Match", hint="send the ETag of a GET")


def read_value(body: Any, kind: Kind, name: str) -> dict[str, Any]:
    """Give the value in a body, validated. Raises Mistakes with JSON paths, BadInput where the path names another."""
    model = MODELS[kind]
    if not isinstance(body, dict):
        raise BadInput("the body is not an object", where="$")
    try:
        value = model.model_validate(body)
    except ValidationError as invalid:
        found = invalid.errors(include_url=False)
        paths = [json_path([step for step in error["loc"] if step != "[key]"]) for error in found]
        mistakes = [Mistake(path, *explain(error, model)) for path, error in zip(paths, found, strict=True)]
        raise Mistakes(list(dict.fromkeys(mistakes)), subject=f"this value of {kind}") from None
    read = value.as_json()
    if name and read["name"] != name:
        raise BadInput(
            f"the name in the body is {read['name']!r}, in the path {name!r}", where="$.name", hint="make them equal"
        )
    return read


def _routes(path: str, kind: Kind) -> None:
    """Add the routes of one kind under one path."""
    schema = docs.ref(MODELS[kind].__name__)

    @router.get(f"/{path}", name=f"list {path}", **docs.of(None, {200: docs.LIST}))
    async def listed(request: Request) -> Response:
        return await _list(request, kind)

    @router.put(f"/{path}", name=f"put into {path}", **docs.of(schema, {200: docs.OK}))
    async def put(request: Request) -> Response:
        return await _put(request, kind)

    @router.get(f"/{path}/{{name}}", name=f"one of {path}", **docs.of(None, {200: docs.ONE}))
    async def one(request: Request, name: str) -> Response:
        return await _one(request, kind, name)

    @router.put(f"/{path}/{{name}}", name=f"put one of {path}", **docs.of(schema, {200: docs.OK}))
    async def put_one(request: Request, name: str) -> Response:
        return await _put(request, kind, name)

    @router.delete(f"/{path}/{{name}}", name=f"delete one of {path}", **docs.of(None, {204: docs.GONE}))
    async def delete(request: Request, name: str) -> Response:
        return await _delete(request, kind, name)


# The deeper path first: "agreements" is no party.
for _path in sorted(LISTS, key=len, reverse=True):
    _routes(_path, LISTS[_path])


@router.get("/microservices/{name}/chainMetadata", **docs.of(None, {200: docs.ONE}))
async def chain_metadata(request: Request, name: str) -> Response:
    """Give one service, under the key that upstream has for it."""
    return await _one(request, "microservices", name)


@router.get("/datasets", **docs.of(None, {200: docs.LIST}))
async def data_sets(request: Request) -> Response:
    """List the data sets, as the parties' agents found them in their data. They cannot be written here."""
    desk = desk_of(request)
    await desk.callers.of(request)
    return Response(
        dumps(list((await _data_sets(desk)).values())), headers={"cache-control": "no-store"}, media_type=answers.JSON
    )


@router.get("/datasets/{name}", **docs.of(None, {200: docs.OBJECT}))
async def data_set(request: Request, name: str) -> Response:
    """Give one data set: upstream's members, and which party has it with which columns."""
    desk = desk_of(request)
    await desk.callers.of(request)
    known = await _data_sets(desk)
    if name not in known:
        raise NotFound(f"there is no data set {name!r}", hint=suggest(name, known))
    return Response(dumps(known[name]), headers={"cache-control": "no-store"}, media_type=answers.JSON)


async def _data_sets(desk: Desk) -> dict[str, dict[str, Any]]:
    """Give the data sets by name in upstream's form, with the columns of each party's tables beside it."""
    found: dict[str, dict[str, Any]] = {}
    for item in (await desk.orchestrator.look(Look(kind="datasets"))).items:
        tables = item.get("tables") or {}
        entry = found.setdefault(
            str(item["name"]),
            {"name": item["name"], "type": item["type"], "delimiter": item["delimiter"], "tables": [], "parties": {}},
        )
        entry["tables"] = sorted({*entry["tables"], *tables})
        if item.get("description"):
            entry.setdefault("description", item["description"])
        entry["parties"][str(item.get("party", ""))] = {
            table: (facts or {}).get("columns", {}) for table, facts in tables.items()
        }
    return found


@router.api_route("/updateEtc", methods=["GET", "POST", "PUT"], include_in_schema=False)
async def update(request: Request) -> Response:
    """Upstream read its launch files again here. This API holds no files: say what to do instead."""
    await desk_of(request).callers.of(request)
    raise Gone(
        "launch files are not read again here: the marketplace is read by `dynamos up`",
        hint="write single values with PUT on /api/v1/archetypes, requestTypes, microservices or policyEnforcer",
    )
