"""The store over a JetStream bucket, laid out as NATS KV does, so that NATS' own tools can read it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from nats.aio.msg import Msg

from dynamos.kit.errors import BadInput, Conflict, DynamosError
from dynamos.knowledge import subjects
from dynamos.knowledge.connections import Connection
from dynamos.knowledge.envelopes import decode, encode
from dynamos.knowledge.stores import Entry
from dynamos.knowledge.streams import WITHIN, last_sequence, messages, sequence, store
from dynamos.knowledge.watches import Watch

_EXPECTED = "Nats-Expected-Last-Subject-Sequence"
_OPERATION = "KV-Operation"
_DELETION = {_OPERATION: "DEL", "Nats-TTL": "1h"}
"""What a deletion leaves, for whoever watches; without an end, a bucket would fill with what is no longer there."""

_FIRST_PROBE, _PROBE = 1.0, 5.0

_log = logging.getLogger(__name__)


class JetStreamStore:
    """One bucket."""

    def __init__(self, connection: Connection, bucket: str) -> None:
        self._connection = connection
        self._bucket = bucket
        self._stream = subjects.bucket_stream(bucket)

    async def get(self, key: str) -> Entry | None:
        """Give the entry, or None where there is none (or none that is a JSON object)."""
        found = await self._last(key)
        return found if found and found.value is not None else None

    async def put(self, key: str, value: dict[str, Any], *, revision: int | None = None) -> int:
        """Write the value and give its revision. Raises Conflict, Refused, Unavailable, Full, TimedOut, BadInput."""
        payload = encode(value, what=f"{self._bucket}/{subjects.key(key)}")
        try:
            return await self._write(key, payload, revision)
        except Conflict:
            deleted = await self._last(key) if revision == 0 else None
            if deleted is None or deleted.value is not None:
                raise
            return await self._write(key, payload, deleted.revision)

    async def delete(self, key: str, *, revision: int | None = None) -> None:
        """Remove the key, if it is there. Raises Conflict with a `revision` that is not the last one."""
        if revision is not None or await self._last(subjects.key(key)) is not None:
            await self._write(key, b"", revision, _DELETION)

    async def entries(self, prefix: str = "") -> list[Entry]:
        """Give every entry whose key begins with the tokens of `prefix`, sorted by key."""
        alive = {entry.key: entry for entry in await self._read(prefix) if entry.value is not None}
        return [alive[key] for key in sorted(alive)]

    @asynccontextmanager
    async def watch(self, prefix: str = "") -> AsyncIterator[AsyncIterator[Entry]]:
        """Give what is there now, then every change, in order, without a gap, also over a reconnect."""
        watch = Watch(prefix, self._read)

        async def told(message: Msg) -> None:
            watch.take(self._entry(message))

        sub = await self._connection.subscribe(subjects.changed(self._bucket), told, within=WITHIN)
        forget = self._connection.on_reconnect(watch.doubt), self._connection.on_close(watch.end)
        probing = asyncio.create_task(self._probe(watch, prefix))
        try:
            await watch.begin()
            yield watch
        finally:
            probing.cancel()
            for call in forget:
                call()
            await self._connection.unsubscribe(sub)

    async def _probe(self, watch: Watch, prefix: str) -> None:
        """Have a watch look again where it knows less than is kept: of several servers, the one that was read may have
        been behind, and the one that would have told a change may have died. A single one does neither."""
        wanted = subjects.written(self._bucket, f"{prefix}.>" if prefix else ">")
        pause = _FIRST_PROBE
        while True:
            await asyncio.sleep(pause)
            pause = _PROBE
            if not self._connection.several:
                continue
            try:
                newest = await last_sequence(self._connection, self._stream, wanted)
            except DynamosError:
                continue
            if newest > watch.seen:
                watch.doubt()

    async def _write(
        self, key: str, payload: bytes, revision: int | None, headers: dict[str, str] | None = None
    ) -> int:
        headers = dict(headers or {})
        if revision is not None:
            headers[_EXPECTED] = str(revision)
        return await store(self._connection, subjects.written(self._bucket, key), payload, headers or None)

    async def _last(self, key: str) -> Entry | None:
        subject = subjects.last(self._stream, subjects.written(self._bucket, subjects.key(key)))
        found = await self._connection.request(subject, within=WITHIN)
        return self._entry(found) if sequence(found) else None

    async def _read(self, prefix: str = "") -> list[Entry]:
        """Give the last entry of every key, deleted ones too, in the order of their revisions."""
        if not prefix:
            found = await messages(self._connection, self._stream, subjects.written(self._bucket))
            return [self._entry(message) for message in found]
        below = subjects.written(self._bucket, f"{subjects.key(prefix)}.>")
        exact = await self._last(prefix)
        found = await messages(self._connection, self._stream, below)
        return [*([exact] if exact else []), *(self._entry(message) for message in found)]

    def _entry(self, message: Msg) -> Entry:
        headers = message.headers or {}
        key = headers.get("Nats-Subject", "").removeprefix(subjects.written(self._bucket, ""))
        value = None
        if _OPERATION not in headers:
            try:
                value = decode(message.data, what=f"{self._bucket}/{key}")
            except BadInput:
                _log.warning("store.malformed", extra={"bucket": self._bucket, "key": key})
        return Entry(key, value, sequence(message))
