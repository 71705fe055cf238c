"""Bounded waits that name their condition."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from dynamos.kit.errors import TimedOut

T = TypeVar("T")


async def until(condition: str, probe: Callable[[], Awaitable[T | None]], *, within: float, every: float = 0.02) -> T:
    """Wait until `probe` gives something that is not None or False, and give that.

    Raises TimedOut after `within` seconds, naming the condition and what was last seen.
    """
    end = time.monotonic() + within
    last: object = "nothing"
    while True:
        try:
            found = await probe()
            if found is not None and found is not False:
                return found
        except OSError as error:
            last = error
        if time.monotonic() >= end:
            raise TimedOut(f"{condition} did not happen within {within:g} s; last seen: {last}")
        await asyncio.sleep(every)


async def bounded(condition: str, work: Awaitable[T], *, within: float) -> T:
    """Await `work`, at most `within` seconds. Raises TimedOut that names the condition."""
    try:
        async with asyncio.timeout(within):
            return await work
    except TimeoutError as error:
        if isinstance(error, TimedOut):
            raise
        raise TimedOut(f"{condition} did not happen within {within:g} s") from None
