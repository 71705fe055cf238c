"""The knowledge base in memory: several units in one process, under the same table of rights as the real one."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

from dynamos.kit.clocks import Clock, SystemClock
from dynamos.kit.errors import Conflict, Full, NotFound, Refused, TimedOut, Unauthenticated
from dynamos.knowledge import subjects
from dynamos.knowledge.bases import KnowledgeBase, Log
from dynamos.knowledge.buses import Bus, Handler, Message, Nobody, Unheard
from dynamos.knowledge.envelopes import answer, decode, encode, open_answer
from dynamos.knowledge.layouts import LEDGERS, Bucket, Ledger, buckets
from dynamos.knowledge.listeners import Workers
from dynamos.knowledge.permissions import Rights, rights
from dynamos.knowledge.stores import Entry, Store
from dynamos.knowledge.watches import below


class MemoryCluster:
    """The buckets, the logs and the listeners of one marketplace, with network helpers at `sites`; `clock` tells when
    entries are too old."""

    def __init__(self, parties: Iterable[str], clock: Clock | None = None, *, sites: Iterable[str] = ()) -> None:
        names = tuple(parties)
        clock = clock or SystemClock()
        self.rights = rights(names, sites)
        self.buckets = {bucket.name: _Kept(bucket, clock) for bucket in buckets(names)}
        self.logs = {ledger.name: _Book(ledger) for ledger in LEDGERS}
        self.listeners: list[_Listener] = []
        self._bases: list[MemoryKnowledgeBase] = []

    def connect(self, unit: str) -> KnowledgeBase:
        """Give the knowledge base as `unit` may use it. Raises Unauthenticated for an unknown unit."""
        if unit not in self.rights:
            raise Unauthenticated(f"the bus does not know the unit {unit!r}", where="memory")
        base = MemoryKnowledgeBase(self, unit)
        self._bases.append(base)
        return base

    def interrupt(self) -> None:
        """Have every unit told that its connection was lost and is back."""
        for base in self._bases:
            base.reconnected()


class MemoryKnowledgeBase:
    """One unit's view of the cluster."""

    def __init__(self, cluster: MemoryCluster, unit: str) -> None:
        self._cluster = cluster
        self._unit = unit
        self._rights = cluster.rights[unit]
        self._memory = _Bus(cluster, unit, self._rights)
        self.bus: Bus = self._memory
        self._calls: list[Callable[[], None]] = []
        self._watches: set[_Watch] = set()

    def store(self, bucket: str) -> Store:
        return _Store(self._cluster, subjects.bucket(bucket), self._unit, self._rights, self._watches)

    def log(self, name: str) -> Log:
        """Give the log `audit` or `traces`. Raises NotFound for another name."""
        if name not in self._cluster.logs:
            raise NotFound(f"there is no log {name!r}", hint=f"there are {', '.join(self._cluster.logs)}")
        return _Log(self._cluster.logs[name], self._unit, self._rights)

    def on_reconnect(self, call: Callable[[], None]) -> None:
        self._calls.append(call)

    def reconnected(self) -> None:
        """Tell whoever wants to know that the connection was lost and is back."""
        for call in tuple(self._calls):
            call()

    async def close(self) -> None:
        """Cancel the handlers, end the watches."""
        await self._memory.close()
        for watch in tuple(self._watches):
            watch.end()


def _refuse(unit: str, what: str, where: str) -> Refused:
    return Refused(f"{unit} may not {what}", where=where)


@dataclass(slots=True)
class _Cell:
    payload: bytes | None
    revision: int
    written: float


@dataclass(slots=True)
class _Kept:
    """What one bucket keeps."""

    bucket: Bucket
    clock: Clock
    cells: dict[str, _Cell] = field(default_factory=dict)
    revision: int = 0
    watches: set[_Watch] = field(default_factory=set)

    def last(self, key: str) -> _Cell | None:
        cell = self.cells.get(key)
        if cell and self.bucket.max_age and self.clock.monotonic() - cell.written > self.bucket.max_age:
            del self.cells[key]
            return None
        return cell

    def write(self, key: str, payload: bytes | None, revision: int | None) -> int:
        last = self.last(key)
        if revision is not None and revision != (last.revision if last else 0):
            fresh = revision == 0 and last is not None and last.payload is None
            if not fresh:
                raise Conflict("somebody else changed it first", where=key, code="revision-conflict")
        size = sum(len(cell.payload or b"") for name, cell in self.cells.items() if name != key)
        if size + len(payload or b"") > self.bucket.max_bytes:
            raise Full("no room to keep it", where=self.bucket.name, hint="raise the limit of the bus")
        self.revision += 1
        self.cells[key] = _Cell(payload, self.revision, self.clock.monotonic())
        for watch in self.watches:
            watch.take(self.entry(key, self.cells[key]))
        return self.revision

    def entry(self, key: str, cell: _Cell) -> Entry:
        return Entry(key, None if cell.payload is None else decode(cell.payload, what=key), cell.revision)

    def entries(self) -> list[Entry]:
        """Give what is there, in the order of the revisions."""
        alive = [(key, cell) for key in tuple(self.cells) if (cell := self.last(key)) and cell.payload is not None]
        return [self.entry(key, cell) for key, cell in sorted(alive, key=lambda pair: pair[1].revision)]


class _Store:
    def __init__(self, cluster: MemoryCluster, bucket: str, unit: str, may: Rights, watches: set[_Watch]) -> None:
        self._cluster, self._bucket, self._unit, self._may, self._watches = cluster, bucket, unit, may, watches

    async def get(self, key: str) -> Entry | None:
        kept = self._readable()
        cell = kept.last(subjects.key(key))
        return kept.entry(key, cell) if cell and cell.payload is not None else None

    async def put(self, key: str, value: dict[str, Any], *, revision: int | None = None) -> int:
        payload = encode(value, what=f"{self._bucket}/{subjects.key(key)}")
        return self._writable(key).write(key, payload, revision)

    async def delete(self, key: str, *, revision: int | None = None) -> None:
        kept = self._writable(subjects.key(key))
        last = kept.last(key)
        if revision is not None or (last and last.payload is not None):
            kept.write(key, None, revision)

    async def entries(self, prefix: str = "") -> list[Entry]:
        found = [entry for entry in self._readable().entries() if below(prefix, entry.key)]
        return sorted(found, key=lambda entry: entry.key)

    @asynccontextmanager
    async def watch(self, prefix: str = "") -> AsyncIterator[AsyncIterator[Entry]]:
        kept = self._readable()
        watch = _Watch(prefix)
        for entry in kept.entries():
            watch.take(entry)
        for watches in (kept.watches, self._watches):
            watches.add(watch)
        try:
            yield watch
        finally:
            for watches in (kept.watches, self._watches):
                watches.discard(watch)

    def _readable(self) -> _Kept:
        if not self._may.may_read(self._bucket):
            raise _refuse(self._unit, "read this bucket", self._bucket)
        return self._cluster.buckets[self._bucket]

    def _writable(self, key: str) -> _Kept:
        if not self._may.may_write(self._bucket, key):
            raise _refuse(self._unit, "write this key", f"{self._bucket}/{key}")
        return self._cluster.buckets[self._bucket]


class _Watch:
    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._ready: deque[Entry] = deque()
        self._wake = asyncio.Event()
        self._ended = False

    def take(self, entry: Entry) -> None:
        if below(self._prefix, entry.key):
            self._ready.append(entry)
            self._wake.set()

    def end(self) -> None:
        self._ended = True
        self._wake.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Entry:
        while not self._ready:
            if self._ended:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        return self._ready.popleft()


@dataclass(slots=True)
class _Book:
    """What one log keeps."""

    ledger: Ledger
    records: list[tuple[str, bytes]] = field(default_factory=list)


class _Log:
    def __init__(self, book: _Book, unit: str, may: Rights) -> None:
        self._book, self._unit, self._may = book, unit, may

    async def append(self, subject: str, record: dict[str, Any]) -> int:
        name = self._book.ledger.name
        if not self._may.may_append(name, subjects.literal(subject)):
            raise _refuse(self._unit, "append here", f"{name}/{subject}")
        self._book.records.append((subject, encode(record, what=f"{name}/{subject}")))
        return len(self._book.records)

    async def read(self, subject: str = ">", *, limit: int = 1000) -> list[dict[str, Any]]:
        name = self._book.ledger.name
        if not self._may.may_inspect(name):
            raise _refuse(self._unit, "read this log", name)
        wanted = subjects.pattern(subject)
        newest = (payload for place, payload in reversed(self._book.records) if subjects.covers(wanted, place))
        return [decode(payload, what=name) for payload in itertools.islice(newest, limit)][::-1]


class _Bus:
    def __init__(self, cluster: MemoryCluster, unit: str, may: Rights) -> None:
        self._cluster, self._unit, self._may = cluster, unit, may
        self._turns = itertools.count()

    async def publish(self, subject: str, message: Message) -> None:
        payload = encode(message, what=self._sayable(subject))
        for listener in self._chosen(subject):
            await listener.give(subject, payload)

    async def request(self, subject: str, message: Message, *, within: float) -> Message:
        payload = encode(message, what=self._sayable(subject))
        chosen = self._chosen(subject)
        if not chosen:
            raise Nobody("nobody listens", where=subject)
        try:
            async with asyncio.timeout(within):
                waiting = [await listener.give(subject, payload) for listener in chosen]
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            raise TimedOut(f"no answer within {within:g} s", where=subject) from None
        first = next(future for future in waiting if future.done())
        if first.cancelled():
            raise Unheard("who should answer went away", where=subject)
        return open_answer(first.result(), what=subject)

    async def listen(self, subject: str, handler: Handler, *, queue: str = "") -> _Listener:
        if not self._may.may_listen(subjects.pattern(subject)):
            raise _refuse(self._unit, "listen to this subject", subject)
        listener = _Listener(self._unit, subject, queue, handler, self._cluster.listeners)
        self._cluster.listeners.append(listener)
        return listener

    async def close(self) -> None:
        for listener in [found for found in self._cluster.listeners if found.unit == self._unit]:
            await listener.close()

    def _sayable(self, subject: str) -> str:
        if not self._may.may_publish(subjects.literal(subject)):
            raise _refuse(self._unit, "publish on this subject", subject)
        return subject

    def _chosen(self, subject: str) -> list[_Listener]:
        """Give every listener without a queue, and one of each queue, by turns."""
        alone: list[_Listener] = []
        queues: dict[str, list[_Listener]] = {}
        for listener in self._cluster.listeners:
            if subjects.covers(listener.subject, subject):
                (queues.setdefault(listener.queue, []) if listener.queue else alone).append(listener)
        turn = next(self._turns)
        return [*alone, *(members[turn % len(members)] for members in queues.values())]


class _Listener:
    def __init__(self, unit: str, subject: str, queue: str, handler: Handler, among: list[_Listener]) -> None:
        self.unit, self.subject, self.queue, self._handler = unit, subject, queue, handler
        self._among = among
        self._workers = Workers()

    async def give(self, subject: str, payload: bytes) -> asyncio.Future[bytes]:
        answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def work() -> None:
            try:
                given = await answer(self._handler, subject, payload)
                if not answered.done():
                    answered.set_result(given)
            finally:
                answered.cancel()

        await self._workers.start(work())
        return answered

    async def leave(self) -> None:
        if self in self._among:
            self._among.remove(self)
        await self._workers.settle()

    async def close(self) -> None:
        if self in self._among:
            self._among.remove(self)
        await self._workers.close()
