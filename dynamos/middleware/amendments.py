"""Amendments: when what parties permit may have changed, because somebody told so or because time has passed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta

from dynamos.kit.clocks import Clock
from dynamos.model.agreements import Agreement

LOOK_SECONDS = 5.0
"""At least so often the time of day is looked at: a machine's clock may be set."""
MOMENT = timedelta(milliseconds=1)


class Amendments:
    """Gathers parties whose answers may have changed. `agreements` gives those whose relations may run out."""

    def __init__(self, agreements: Callable[[], Mapping[str, Agreement]], clock: Clock) -> None:
        self._agreements = agreements
        self._clock = clock
        self._seen = clock.now()
        self._told: set[str] = set()
        self._wake = asyncio.Event()

    def tell(self, *parties: str) -> None:
        """Say that what these parties permit may have changed."""
        self._told.update(parties)
        self._wake.set()

    async def next(self) -> set[str]:
        """Wait for the next change, and give the parties that it is about."""
        while True:
            self._wake.clear()
            now = self._clock.now()
            changed = self._told | run_out(self._agreements(), self._seen, now)
            self._seen, self._told = max(now, self._seen), set()
            if changed:
                return changed
            await self._sleep(now)

    async def _sleep(self, now: datetime) -> None:
        end = next_end(self._agreements(), now)
        left = LOOK_SECONDS if end is None else min(LOOK_SECONDS, (end - now + MOMENT).total_seconds())
        try:
            async with asyncio.timeout(left):
                await self._wake.wait()
        except TimeoutError:
            return


def next_end(agreements: Mapping[str, Agreement], now: datetime) -> datetime | None:
    """Give when the next relation ends that has not ended yet."""
    return min((end for _, end in _ends(agreements) if end >= now), default=None)


def run_out(agreements: Mapping[str, Agreement], since: datetime, now: datetime) -> set[str]:
    """Give the parties of which a relation held at `since` and does not hold `now`."""
    return {party for party, end in _ends(agreements) if since <= end < now}


def _ends(agreements: Mapping[str, Agreement]) -> Iterator[tuple[str, datetime]]:
    for party, agreement in agreements.items():
        for relation in agreement.relations.values():
            if relation.valid_until is not None:
                yield party, relation.valid_until
