"""Handlers at work: concurrently, at most so many at once, and none left when the listener is closed."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

AT_ONCE = 256
"""Messages of one subscription that are worked on at the same time; the others wait."""


class Workers:
    """Runs work as tasks. `close` cancels what still runs, and waits for it."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(at_once)

    async def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run the work as soon as there is room for it; return once it has begun."""
        try:
            await self._room.acquire()
        except BaseException:
            work.close()
            raise
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def settle(self) -> None:
        """Wait until everything that runs has ended."""
        while others := [task for task in self._tasks if task is not asyncio.current_task()]:
            await asyncio.wait(others)

    async def close(self) -> None:
        """Cancel everything that runs and wait until it has ended. A handler that closes its own listener goes on."""
        others = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._room.release()
