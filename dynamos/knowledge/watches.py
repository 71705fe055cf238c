"""A watch: what a bucket holds, then its changes, from two sources that are both unreliable alone.

The server tells of each change once (and of none while we are away); reading the bucket gives the last value of each
key. The numbers of the changes have no holes, so a hole means that one was missed, and then the bucket is read again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Self

from dynamos.kit.errors import TimedOut, Unavailable
from dynamos.knowledge.stores import Entry

_log = logging.getLogger(__name__)
_WAITING = 4096
_PAUSE = 0.1


def below(prefix: str, key: str) -> bool:
    """Tell whether the key begins with the tokens of the prefix."""
    return not prefix or key == prefix or key.startswith(f"{prefix}.")


class Watch:
    """An iterator over the entries of a bucket below a prefix. `read` gives the whole bucket, deleted keys too.

    A reader that is more than a few thousand changes behind gets the last value of each key instead of every one.
    """

    def __init__(self, prefix: str, read: Callable[[], Awaitable[list[Entry]]]) -> None:
        self._prefix = prefix
        self._read = read
        self._told: deque[Entry] = deque()
        self._ready: deque[Entry] = deque()
        self._known: dict[str, int] = {}
        self._seen = 0
        self._doubtful = False
        self._ended = False
        self._wake = asyncio.Event()

    async def begin(self) -> None:
        """Read the bucket. Raises Refused, Unavailable, TimedOut."""
        await self._reread()

    def take(self, entry: Entry) -> None:
        """Take a change that the server tells of."""
        if len(self._told) < _WAITING:
            self._told.append(entry)
            self._wake.set()
        else:
            self.doubt()

    def doubt(self) -> None:
        """Take note that changes may have been missed."""
        self._doubtful = True
        self._wake.set()

    @property
    def seen(self) -> int:
        """The newest revision that is known here."""
        return self._seen

    def end(self) -> None:
        """Let the iteration end: there is no more connection."""
        self._ended = True
        self._wake.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Entry:
        while True:
            if self._ready:
                return self._ready.popleft()
            if self._told:
                self._follow(self._told.popleft())
            elif self._ended:
                raise StopAsyncIteration
            elif self._doubtful:
                await self._catch_up()
            else:
                self._wake.clear()
                await self._wake.wait()

    def _follow(self, entry: Entry) -> None:
        if entry.revision <= self._seen:
            return
        if entry.revision != self._seen + 1:
            self._doubtful = True
            self._told.clear()
            return
        self._seen = entry.revision
        self._note(entry)

    async def _catch_up(self) -> None:
        """Read the bucket again, as often as it takes; the server may be on its way back."""
        try:
            await self._reread()
        except (Unavailable, TimedOut) as error:
            _log.info("store.watch.waits", extra={"error": str(error)})
            await asyncio.sleep(_PAUSE)

    async def _reread(self) -> None:
        self._doubtful = False
        try:
            now = await self._read()
        except BaseException:
            self._doubtful = True
            raise
        self._seen = max((entry.revision for entry in now), default=0)
        last = {entry.key: entry for entry in now}
        for key in [key for key in self._known if key not in last]:
            self._note(Entry(key, None, self._seen))
        for entry in sorted(last.values(), key=lambda entry: entry.revision):
            if self._known.get(entry.key, 0) != entry.revision:
                self._note(entry)

    def _note(self, entry: Entry) -> None:
        if not below(self._prefix, entry.key):
            return
        if entry.value is not None:
            self._known[entry.key] = entry.revision
        elif self._known.pop(entry.key, None) is None:
            return
        self._ready.append(entry)
