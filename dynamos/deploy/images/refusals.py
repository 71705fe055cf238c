"""Refusals: what a registry's answer means for a person, as one of the project's errors. Pure."""

from __future__ import annotations

import httpx

from dynamos.deploy.images.logins import USER
from dynamos.kit.errors import DynamosError, Full, JobFailed, NotFound, Refused, Unauthenticated, Unavailable

_NO_TLS = ("wrong_version_number", "wrong version number", "record layer")
_NO_ROOM = ("no space left", "quota", "disk full")
_FULL = frozenset({httpx.codes.INSUFFICIENT_STORAGE, httpx.codes.REQUEST_ENTITY_TOO_LARGE})
_FORBIDDEN = frozenset({httpx.codes.FORBIDDEN, httpx.codes.METHOD_NOT_ALLOWED})
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})


def may_pass(answer: httpx.Response) -> bool:
    """Tell whether the same request may work a moment later."""
    return answer.status_code in _PASSING and not isinstance(explain(answer, ""), Full)


def explain(answer: httpx.Response, where: str) -> DynamosError:
    """Give the error that fits an answer, with what the registry says in it."""
    said = _said(answer)
    status = answer.status_code
    if status == httpx.codes.UNAUTHORIZED:
        hint = f"docker login, or set {USER} and its password"
        return Unauthenticated(f"the registry does not know who asks: {said}", where=where, hint=hint)
    if status in _FULL or any(word in said.lower() for word in _NO_ROOM):
        return Full(f"the registry has no room for it: {said}", where=where)
    if status in _PASSING or httpx.codes.is_redirect(status):
        return Unavailable(f"the registry is busy or broken, or is none: {said}", where=where)
    if status == httpx.codes.NOT_FOUND:
        hint = "is the path right, and does the repository have to be made first?"
        return NotFound(f"the registry has no such place: {said}", where=where, hint=hint)
    kind = Refused if status in _FORBIDDEN else JobFailed
    return kind(f"the registry does not permit it: {said}", where=where)


def lasts(words: str) -> bool:
    """Tell whether a connection that failed with these words will fail again: its certificate is not trusted, or there
    is no TLS at all."""
    return any(each in words.lower() for each in (*_NO_TLS, "certificate"))


def advice(words: str) -> str:
    """Give what to do about a connection that failed with these words."""
    if any(each in words.lower() for each in _NO_TLS):
        return "it speaks no TLS; --plain-http is for registries on this machine"
    return "name the authority of its certificate with --ca" if lasts(words) else "is it up, and is its address right?"


def _said(answer: httpx.Response) -> str:
    """Give what an answer says in words: its errors by the specification, or its status."""
    try:
        parts = ((each.get("code"), each.get("message"), each.get("detail")) for each in answer.json()["errors"])
        words = [" ".join(str(part) for part in each if part) for each in parts]
    except (ValueError, KeyError, TypeError, AttributeError, httpx.ResponseNotRead):
        words = []
    return "; ".join(words) or f"{answer.status_code} {answer.reason_phrase}"
