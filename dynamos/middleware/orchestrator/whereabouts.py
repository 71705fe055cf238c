"""Whereabouts: the meetings of parties that need none made for them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dynamos.middleware.network.meetings import Announced, Meeting
from dynamos.middleware.orchestrator.overviews import Overview
from dynamos.model.plans import Plan


class WhereTheySay:
    """Meetings of parties that take streams where they say so: they reach each other as it is."""

    def __init__(self, overview: Overview) -> None:
        self._overview = overview

    @asynccontextmanager
    async def of(self, plan: Plan) -> AsyncIterator[Meeting]:
        online = self._overview.online()
        yield Announced({party: online[party].address for party in plan.parties if party in online})

    async def close(self) -> None:
        return
