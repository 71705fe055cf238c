"""Errors over the wire: a DynamosError keeps its kind, code, message and hint on its way to the other party."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
from pyarrow import flight

from dynamos.kit.errors import (
    Broken,
    Cancelled,
    DynamosError,
    JobFailed,
    Mistakes,
    Refused,
    TimedOut,
    Unauthenticated,
    Unavailable,
)

_TEXT_LIMIT = 1000
# gRPC allows 8 KiB of trailers in all, and the text travels twice.
_FACTS_LIMIT = 2000
_MEMBERS = ("kind", "code", "message", "where", "hint")
_CARRIERS: dict[type[DynamosError], type[flight.FlightError]] = {
    Unauthenticated: flight.FlightUnauthenticatedError,
    Refused: flight.FlightUnauthorizedError,
    Unavailable: flight.FlightUnavailableError,
    TimedOut: flight.FlightTimedOutError,
    Cancelled: flight.FlightCancelledError,
}
# What gRPC says when the peer has shown the wrong certificate, or did not like ours.
_HANDSHAKE = (
    "is not in peer certificate",
    "handshake failed",
    "CERTIFICATE_VERIFY_FAILED",
    "certificate verify failed",
)
_MEETINGS: tuple[tuple[type[Exception], type[DynamosError], str, str], ...] = (
    (flight.FlightUnavailableError, Unavailable, "peer-away", "the peer cannot be reached, or went away"),
    (flight.FlightCancelledError, Cancelled, "", "the stream was cancelled"),
    (flight.FlightTimedOutError, TimedOut, "", "the peer did not answer in time"),
    (flight.FlightError, JobFailed, "stream-broke", "the stream broke"),
    (pa.ArrowException, JobFailed, "stream-broke", "the stream broke"),
    (OSError, JobFailed, "stream-broke", "the stream broke"),
)


def pack(error: DynamosError) -> dict[str, Any]:
    """Give the error as JSON-ready members, long texts cut."""
    members = error.as_dict()
    facts = {name: value for name, value in members.items() if name not in _MEMBERS}
    packed: dict[str, Any] = {name: str(members.get(name, ""))[:_TEXT_LIMIT] for name in _MEMBERS[1:]}
    if facts and len(json.dumps(facts, default=str)) <= _FACTS_LIMIT:
        packed["facts"] = facts
    return {"kind": error.code, **packed}


def unpack(members: object) -> DynamosError | None:
    """Give the error that `pack` was given, or None where the members are none."""
    if not isinstance(members, dict) or members.get("kind") not in _kinds():
        return None
    texts = {name: members.get(name, "") for name in _MEMBERS}
    facts = members.get("facts", {})
    if not all(isinstance(text, str) for text in texts.values()) or not isinstance(facts, dict):
        return None
    kind = texts["kind"]
    code = texts["code"] if texts["code"] != kind else ""
    known = {name: value for name, value in facts.items() if name not in {*_MEMBERS, "self"}}
    return _kinds()[kind](texts["message"], where=texts["where"], hint=texts["hint"], code=code, **known)


def to_flight(error: DynamosError) -> flight.FlightError:
    """Give the Flight error that carries `error` to the peer."""
    kind = next((kind for kind in _CARRIERS if isinstance(error, kind)), None)
    carrier = _CARRIERS[kind] if kind is not None else flight.FlightServerError
    return carrier(error.message[:_TEXT_LIMIT], json.dumps(pack(error), default=str).encode())


def from_flight(error: Exception, *, peer: str) -> DynamosError:
    """Give what the peer meant, else what the transport met: Unauthenticated for a certificate, Unavailable for a
    peer that is not there or went away, JobFailed for anything else."""
    if isinstance(error, DynamosError):
        return error
    extra = getattr(error, "extra_info", None)
    if extra:
        try:
            carried = unpack(json.loads(extra))
        except ValueError:
            carried = None
        if carried is not None:
            return carried
    text = " ".join(str(error).split())[:_TEXT_LIMIT]
    if any(sign in text for sign in _HANDSHAKE):
        message = f"who answers at the address of {peer} is not {peer}, or does not accept us: {text}"
        return Unauthenticated(message, code="wrong-peer", where=peer)
    for carrier, kind, code, message in _MEETINGS:
        if isinstance(error, carrier):
            return kind(f"{message}: {text}", code=code, where=peer)
    return Broken(f"{type(error).__name__}: {text}", where=peer)


def _kinds() -> dict[str, type[DynamosError]]:
    return {kind.code: kind for kind in DynamosError.__subclasses__() if kind is not Mistakes}
