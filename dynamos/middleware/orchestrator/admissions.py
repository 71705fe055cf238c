"""How many jobs run at once. Only the orchestrator limits them: a limit at every party could deadlock a job that holds
a place at one party while it waits for another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dynamos.kit.errors import TimedOut, Unavailable


class Admission:
    """Lets `running` jobs in at once, first come first served, while at most `waiting` wait."""

    def __init__(self, *, running: int, waiting: int) -> None:
        self._places = asyncio.Semaphore(running)
        self._limit = waiting
        self.waiting = 0

    @asynccontextmanager
    async def place(self, *, within: float) -> AsyncIterator[None]:
        """Hold a place during the block. Raises Unavailable if too many wait, TimedOut after `within` seconds."""
        await self._acquire(within)
        try:
            yield
        finally:
            self._places.release()

    async def _acquire(self, within: float) -> None:
        if not self._places.locked():
            await self._places.acquire()
            return
        if self.waiting >= self._limit:
            raise Unavailable(f"{self.waiting} jobs wait already", code="busy", hint="try again a little later")
        self.waiting += 1
        try:
            async with asyncio.timeout(within):
                await self._places.acquire()
        except TimeoutError:
            raise TimedOut(f"the job got no place within its deadline of {within:g} s", code="deadline") from None
        finally:
            self.waiting -= 1
