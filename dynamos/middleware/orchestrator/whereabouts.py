"""Whereabouts: the meetings of parties that need none made for them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from dynamos.middleware.messages import Presence
from dynamos.middleware.network.meetings import Announced, Meeting
from dynamos.model.plans import Plan


class WhereTheySay:
    """Meetings of parties that take streams where they say so: they reach each other as it is.

    `places` gives the agents that run the parts of a job.
    """

    def __init__(self, places: Callable[[str], Mapping[str, Presence]]) -> None:
        self._places = places

    @asynccontextmanager
    async def of(self, plan: Plan) -> AsyncIterator[Meeting]:
        yield Announced({party: place.address for party, place in self._places(plan.job).items()})

    async def close(self) -> None:
        return
