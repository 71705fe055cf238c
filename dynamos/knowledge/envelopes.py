"""Messages as bytes: JSON objects, and answers in an envelope that is either the answer or the error."""

from __future__ import annotations

import json
import logging
from typing import Any

from dynamos.kit import errors
from dynamos.kit.errors import BadInput, Broken, DynamosError
from dynamos.knowledge.buses import Handler, Message

MAX_PAYLOAD = 8 * 1024 * 1024
"""What the server takes at most, in bytes, headers included."""
MAX_MESSAGE = MAX_PAYLOAD - 64 * 1024

_log = logging.getLogger(__name__)
_CLASSES = {
    name: found
    for name, found in vars(errors).items()
    if isinstance(found, type) and issubclass(found, DynamosError) and found is not errors.Mistakes
}
_OWN = ("kind", "message", "where", "hint", "code")


def encode(message: Message, *, what: str) -> bytes:
    """Give the message as JSON. Raises BadInput, naming `what`, where it is not JSON-ready or too large."""
    try:
        payload = json.dumps(message, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise BadInput(f"the message is not JSON: {error}", where=what, code="not-json") from None
    if len(payload) > MAX_MESSAGE:
        raise BadInput(
            f"the message has {len(payload)} bytes, more than {MAX_MESSAGE}",
            where=what,
            code="too-large",
            hint="rows travel by the exchange, not by the bus",
        )
    return payload


def decode(payload: bytes, *, what: str) -> Message:
    """Give the JSON object in `payload`. Raises BadInput, naming `what`, where there is none."""
    try:
        message = json.loads(payload) if payload else {}
    except (ValueError, RecursionError) as error:
        raise BadInput(f"the message is not JSON: {error}", where=what, code="not-json") from None
    if not isinstance(message, dict):
        raise BadInput("the message is not a JSON object", where=what, code="not-json")
    return message


async def answer(handler: Handler, subject: str, payload: bytes) -> bytes:
    """Have the handler work on the message, and give what goes back: its answer, or its error.

    A defect is logged here; the asker learns that there was one, not what the handler knew.
    """
    try:
        given = await handler(subject, decode(payload, what=subject))
        return encode({"answer": given or {}}, what=subject)
    except DynamosError as error:
        return _refusal(error, subject)
    except Exception:  # noqa: BLE001 - the top of a handler's task
        _log.exception("bus.handler.broken", extra={"subject": subject})
        return _refusal(Broken("the handler has a defect", where=subject, hint="see the log of the answering unit"), "")


def open_answer(payload: bytes, *, what: str) -> Message:
    """Give the answer in the envelope, or raise the error in it, as the class that the handler raised."""
    envelope = decode(payload, what=what)
    if isinstance(failed := envelope.get("error"), dict):
        raise _raised(failed)
    given = envelope.get("answer")
    if not isinstance(given, dict):
        raise Broken("the answer is malformed", where=what)
    return given


def _refusal(error: DynamosError, subject: str) -> bytes:
    _log.info("bus.handler.refused", extra={"subject": subject, "code": error.code, "error": str(error)})
    kind = type(error).__name__ if type(error).__name__ in _CLASSES else type(error).__mro__[1].__name__
    try:
        return encode({"error": {**error.as_dict(), "kind": kind}}, what=subject)
    except BadInput:
        _log.warning("bus.error.facts-dropped", extra={"subject": subject, "code": error.code})
        return encode({"error": {"kind": kind, "message": error.message[:1000], "code": error.code}}, what=subject)


def _raised(failed: dict[str, Any]) -> DynamosError:
    made = _CLASSES.get(str(failed.get("kind")), Broken)
    code = str(failed.get("code", ""))
    facts = {name: value for name, value in failed.items() if name not in _OWN}
    return made(
        str(failed.get("message", "")),
        where=str(failed.get("where", "")),
        hint=str(failed.get("hint", "")),
        code="" if code == made.code else code,
        **facts,
    )
