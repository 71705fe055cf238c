"""Who is there: each unit renews its own key; who does not renew it is gone.

A bucket drops what is too old without telling anybody, so the view keeps the time of the last renewal itself. Time in
which this process did not get to look, on a busy machine, counts against nobody: renewals may be waiting, unread.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

from pydantic import ValidationError

from dynamos.kit.clocks import Clock, SystemClock
from dynamos.kit.errors import DynamosError
from dynamos.knowledge.layouts import HEARTBEAT, PRESENCE_AGE
from dynamos.knowledge.shelves import Item
from dynamos.knowledge.stores import Entry, Store
from dynamos.model.values import Value

T = TypeVar("T", bound=Value)

_log = logging.getLogger(__name__)
_GOODBYE = 2.0


class Announcement:
    """What a unit says of itself. `update` says something else. `fresh` gives what is said each time, from that."""

    def __init__(self, store: Store, key: str, value: Value) -> None:
        self._store = store
        self._key = key
        self._value = value
        self.fresh: Callable[[Value], Value] = lambda value: value

    async def update(self, value: Value) -> None:
        """Say this from now on. Raises what the store's `put` raises."""
        self._value = value
        await self.renew()

    async def renew(self) -> None:
        """Say it again."""
        await self._store.put(self._key, self.fresh(self._value).as_json())


@asynccontextmanager
async def announce(store: Store, key: str, value: Value, *, every: float = HEARTBEAT) -> AsyncIterator[Announcement]:
    """Say that we are there, again every `every` seconds, until the context ends; then say that we are gone.

    Raises what the store's `put` raises if the first time fails; later failures are logged and tried again.
    """
    announcement = Announcement(store, key, value)
    await announcement.renew()
    renewing = asyncio.create_task(_keep(announcement, every))
    try:
        yield announcement
    finally:
        renewing.cancel()
        await asyncio.wait((renewing,))
        with suppress(DynamosError, TimeoutError):
            async with asyncio.timeout(_GOODBYE):
                await store.delete(key)


async def _keep(announcement: Announcement, every: float) -> None:
    while True:
        await asyncio.sleep(every)
        try:
            await announcement.renew()
        except DynamosError as error:
            _log.warning("presence.not-renewed", extra={"error": str(error)})


@dataclass(slots=True)
class _Sight(Generic[T]):
    value: T
    revision: int
    at: float


class Presences(Generic[T]):
    """A view of who is there, by key. Use it as a context; it follows the store as long as the context lasts.

    The key is what the server lets only its owner write; do not trust a name inside the value.
    """

    def __init__(
        self,
        store: Store,
        model: type[T],
        *,
        age: float = PRESENCE_AGE,
        clock: Clock | None = None,
        awake: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._model = model
        self._age = age
        self._clock = clock or SystemClock()
        self._awake = awake
        self._looked = awake()
        self._seen: dict[str, _Sight[T]] = {}
        self._listeners: set[asyncio.Queue[Item[T]]] = set()
        self._hearers: list[Callable[[str, T | None], None]] = []
        self._stack = AsyncExitStack()

    def online(self) -> dict[str, T]:
        """Give the values of who renewed its key less than `age` seconds ago, by key."""
        self.sweep()
        return {key: self._seen[key].value for key in sorted(self._seen)}

    def on_heard(self, call: Callable[[str, T | None], None]) -> None:
        """Call, from the event loop, with every renewal from now on, and with None for who goes."""
        self._hearers.append(call)

    @asynccontextmanager
    async def changes(self) -> AsyncIterator[AsyncIterator[Item[T]]]:
        """Give who is there now, then who comes, changes what it says, or goes (value None). Renewals are not told."""
        queue: asyncio.Queue[Item[T]] = asyncio.Queue()
        self.sweep()
        for key, sight in sorted(self._seen.items()):
            queue.put_nowait(Item(key, sight.value, sight.revision))
        self._listeners.add(queue)
        try:
            yield _Queued(queue)
        finally:
            self._listeners.discard(queue)

    def sweep(self) -> None:
        """Let go of who did not renew in time. Happens by itself several times in `age` seconds."""
        self._forgive()
        now = self._clock.monotonic()
        for key in [key for key, sight in self._seen.items() if now - sight.at >= self._age]:
            self._gone(key, self._seen[key].revision)

    def _forgive(self) -> None:
        """Take the time in which we did not look from everybody's age."""
        now, often = self._awake(), self._age / 10
        missed, self._looked = now - self._looked - often, now
        if missed > often:
            for sight in self._seen.values():
                sight.at += missed

    async def __aenter__(self) -> Self:
        entries = await self._stack.enter_async_context(self._store.watch())
        for work in (self._follow(entries), self._sweep_often()):
            task = asyncio.create_task(work)
            self._stack.push_async_callback(asyncio.wait, (task,))
            self._stack.callback(task.cancel)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _follow(self, entries: AsyncIterator[Entry]) -> None:
        async for entry in entries:
            self._take(entry)

    async def _sweep_often(self) -> None:
        while True:
            await asyncio.sleep(self._age / 10)
            self.sweep()

    def _take(self, entry: Entry) -> None:
        try:
            value = None if entry.value is None else self._model.model_validate(entry.value)
        except ValidationError as error:
            _log.warning("presence.malformed", extra={"key": entry.key, "mistakes": error.error_count()})
            value = None
        if value is None:
            self._gone(entry.key, entry.revision)
            return
        self._forgive()
        before, now = self._seen.get(entry.key), self._clock.monotonic()
        if before is not None and now - before.at >= self._age:  # the others wait for the next sweep
            self._gone(entry.key, before.revision)
            before = None
        self._seen[entry.key] = _Sight(value, entry.revision, now)
        for call in self._hearers:
            call(entry.key, value)
        if before is None or before.value != value:
            self._tell(Item(entry.key, value, entry.revision))

    def _gone(self, key: str, revision: int) -> None:
        if self._seen.pop(key, None) is not None:
            for call in self._hearers:
                call(key, None)
            self._tell(Item(key, None, revision))

    def _tell(self, item: Item[T]) -> None:
        for queue in self._listeners:
            queue.put_nowait(item)


class _Queued(Generic[T]):
    def __init__(self, queue: asyncio.Queue[Item[T]]) -> None:
        self._queue = queue

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item[T]:
        return await self._queue.get()
