"""Reading and writing one JetStream stream with plain requests, which need no right to make consumers."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from nats.aio.msg import Msg

from dynamos.kit.errors import BadInput, Broken, Conflict, DynamosError, Full, TimedOut, Unavailable
from dynamos.knowledge.buses import Nobody
from dynamos.knowledge.connections import Connection
from dynamos.knowledge.subjects import fetched

T = TypeVar("T")
WITHIN = 5.0
"""Seconds that one operation on a stream may take."""

STORE_WITHIN = 15.0
"""Seconds that keeping something may take: of several servers, those that are left elect a leader first."""
_TRY = 3.0
"""Seconds after which something is sent again: it may have gone to a server that died. It is kept once."""
_PAGE = 1000
_AGAIN = 0.1
_ONCE = "Nats-Msg-Id"
_CONFLICTS = frozenset({10071, 10164})
_FULL = frozenset({10023, 10047, 10077, 10122})
_TOO_LARGE = 10054


async def store(connection: Connection, subject: str, payload: bytes, headers: dict[str, str] | None = None) -> int:
    """Have the stream of `subject` keep the payload, once, and give its sequence number.

    A server that is away is tried again: it knows the message by its id if it kept it before.

    Raises Conflict, Full, Refused, Unavailable, TimedOut, BadInput (too large).
    """
    try:
        given = await _kept(connection, subject, payload, {**(headers or {}), _ONCE: uuid.uuid4().hex})
    except Unavailable:
        connection.reached(hub=False)
        raise
    except TimedOut:
        connection.reached(hub=False)
        # A server whose disk is full neither keeps nor refuses: it says nothing.
        raise TimedOut(
            f"the bus did not confirm within {STORE_WITHIN:g} s that it keeps this",
            where=subject,
            hint="is its disk full?",
        ) from None
    connection.reached(hub=True)
    try:
        receipt = json.loads(given.data)
        failed, sequence = receipt.get("error"), int(receipt.get("seq", 0))
    except (ValueError, AttributeError, TypeError):
        raise Broken("the receipt is malformed", where=subject) from None
    if failed:
        raise failure(failed, subject)
    return sequence


async def _kept(connection: Connection, subject: str, payload: bytes, headers: dict[str, str]) -> Msg:
    end = time.monotonic() + STORE_WITHIN
    while True:
        left = end - time.monotonic()
        try:
            return await connection.request(subject, payload, within=max(min(left, _TRY), _AGAIN), headers=headers)
        except (Unavailable, TimedOut):
            if connection.closed or left <= 2 * _AGAIN or end - time.monotonic() <= _AGAIN:
                raise
            connection.reached(hub=False)
        await asyncio.sleep(_AGAIN)


def failure(failed: dict[str, Any], where: str) -> DynamosError:
    """Give JetStream's error as ours."""
    code, said = int(failed.get("err_code", 0)), str(failed.get("description", "the bus failed"))
    if code in _CONFLICTS:
        return Conflict("somebody else changed it first", where=where, code="revision-conflict")
    if code in _FULL:
        return Full(f"no room to keep it: {said}", where=where, hint="free space, or raise the limit of the bus")
    if code == _TOO_LARGE:
        return BadInput(said, where=where, code="too-large")
    return Unavailable(said, where=where)


async def messages(
    connection: Connection, stream: str, subject: str, *, first: int = 1, limit: int | None = None
) -> list[Msg]:
    """Give the messages whose subject matches, from sequence number `first` on, in order, at most `limit`."""
    found: list[Msg] = []
    while limit is None or len(found) < limit:
        page = _PAGE if limit is None else min(_PAGE, limit - len(found))
        ask = json.dumps({"seq": first, "batch": page, "next_by_subj": subject}).encode()
        *got, end = await _patiently(connection, partial(_batch, connection, stream, ask))
        found.extend(got)
        headers = end.headers or {}
        if headers["Status"] not in ("204", "404"):
            raise Broken(f"the bus did not understand: {headers}", where=stream)
        if not got or headers.get("Nats-Num-Pending", "0") == "0":
            break
        first = sequence(got[-1]) + 1
    return found


async def last_sequence(connection: Connection, stream: str, subject: str) -> int:
    """Give the sequence number of the newest message whose subject matches; 0 if there is none."""
    ask = json.dumps({"last_by_subj": subject}).encode()
    given = await _patiently(connection, partial(connection.request, fetched(stream), ask, within=WITHIN))
    return sequence(given)


async def _batch(connection: Connection, stream: str, ask: bytes) -> list[Msg]:
    got = await connection.fetch(fetched(stream), ask, within=WITHIN)
    if (got[-1].headers or {})["Status"] == "503":
        raise Nobody("the bus does not keep this now", where=stream)
    return got


async def _patiently(connection: Connection, read: Callable[[], Awaitable[T]]) -> T:
    """Read; where nobody answers for the stream, again for a while: a server has just died, and others take over."""
    end = time.monotonic() + WITHIN
    while True:
        try:
            return await read()
        except Nobody:
            if connection.closed or time.monotonic() + _AGAIN >= end:
                raise
        await asyncio.sleep(_AGAIN)


def sequence(message: Msg) -> int:
    """Give the sequence number of a stored message; 0 for an answer that there is none."""
    return int((message.headers or {}).get("Nats-Sequence", 0))
