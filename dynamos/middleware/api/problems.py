"""Problem documents (RFC 9457): every answer that is not a success has this one form, and no traceback."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

from dynamos.kit.errors import BadInput, Broken, DynamosError, NotFound
from dynamos.middleware.api.bodies import dumps
from dynamos.middleware.api.errors import UnknownMethod

MEDIA_TYPE = "application/problem+json"
_RESERVED = {"type", "title", "status", "detail", "instance", "code", "message", "kind"}
_LOWEST_ERROR, _BEYOND_ERRORS = 400, 600


def document(error: DynamosError, *, instance: str = "", **more: Any) -> dict[str, Any]:
    """Give the problem document of an error. `reasons` are lifted out of a decision that comes with it."""
    facts = error.as_dict()
    members: dict[str, Any] = {
        "type": f"urn:dynamos:error:{facts['code']}",
        "title": title(type(error)),
        "status": error.status,
        "detail": error.message,
        "code": facts["code"],
        "where": error.where,
        "hint": error.hint,
        "reasons": error.facts.get("reasons") or reasons_of(error.facts.get("decision")),
        "instance": instance,
    }
    members |= {name: value for name, value in facts.items() if name not in _RESERVED and name not in members}
    members |= more
    return {name: value for name, value in members.items() if value not in ("", None, [], {})}


def title(kind: type[DynamosError]) -> str:
    """Give the first sentence of the kind's docstring: what such an error means."""
    return (kind.__doc__ or kind.__name__).strip().splitlines()[0].split(". ")[0].split("; ")[0].rstrip(".")


def reasons_of(decision: object) -> list[dict[str, Any]]:
    """Collect the reasons of every provider in the JSON form of a decision."""
    if not isinstance(decision, Mapping):
        return []
    providers: Mapping[str, Any] = decision.get("providers") or {}
    return [reason for answer in providers.values() for reason in answer.get("reasons") or []]


def response(error: DynamosError, *, instance: str = "", **more: Any) -> Response:
    """Give the HTTP answer that tells of the error."""
    headers = {"cache-control": "no-store"}
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    if error.status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.CONFLICT) and "retry_after" in error.facts:
        headers["retry-after"] = str(error.facts["retry_after"])
    if "allow" in error.facts:
        headers["allow"] = str(error.facts["allow"])
    if "location" in error.facts:
        headers["location"] = str(error.facts["location"])
    status = error.status if _LOWEST_ERROR <= error.status < _BEYOND_ERRORS else HTTPStatus.INTERNAL_SERVER_ERROR
    return Response(dumps(document(error, instance=instance, **more)), status, headers, MEDIA_TYPE)


def of_http(status: int, detail: str, headers: Mapping[str, str] | None = None) -> DynamosError:
    """Give our error for one that the HTTP framework raises by itself."""
    if status == HTTPStatus.NOT_FOUND:
        return NotFound("there is no such path", hint="GET /openapi.json lists every path")
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        allow = (headers or {}).get("Allow") or (headers or {}).get("allow", "")
        return UnknownMethod(
            "this path does not know the method", hint=f"it knows {allow}" if allow else "", allow=allow
        )
    if _LOWEST_ERROR <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return BadInput(detail or HTTPStatus(status).phrase)
    return Broken(detail or "the API failed")
