"""Which exchange carries the streams of a part: the agent's own, or one in a container, which has another network."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from opentelemetry import trace

from dynamos.kit.errors import DynamosError
from dynamos.middleware.agent.carried import Carried, Nursery, Settings
from dynamos.middleware.agent.exchanges import Exchange
from dynamos.middleware.configs import AgentConfig
from dynamos.middleware.network.desks import Customer
from dynamos.middleware.network.messages import EXCHANGE_PORT
from dynamos.model.jobs import Grant
from dynamos.model.plans import REQUESTOR, Part

log = logging.getLogger(__name__)
tracer = trace.get_tracer("dynamos.agent")


class Ways(Protocol):
    """Gives each part the exchange that its streams go by."""

    @property
    def address(self) -> str:
        """Where the party says that it takes streams."""
        ...

    def of(self, grant: Grant, text: str) -> AbstractAsyncContextManager[Exchange]:
        """Give the exchange of a granted part during the block. Raises DynamosError where there is no way."""
        ...

    async def close(self) -> None: ...


class OneWay:
    """The same exchange for every part."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    @property
    def address(self) -> str:
        return self._exchange.address

    @asynccontextmanager
    async def of(self, grant: Grant, text: str) -> AsyncIterator[Exchange]:  # noqa: ARG002  it needs no opening
        yield self._exchange

    async def close(self) -> None:
        await self._exchange.close()


class StandingWay:
    """A carrier in the party's own container, as long as the agent is there. It is renewed when it was lost."""

    def __init__(self, desk: Customer, nursery: Nursery, config: AgentConfig, local: Exchange) -> None:
        self._desk = desk
        self._nursery = nursery
        self._config = config
        self._local = local
        self._carried: Carried | None = None
        self._renewing = asyncio.Lock()

    @property
    def address(self) -> str:
        return self._carried.address if self._carried else ""

    async def start(self) -> None:
        """Have a carrier listen in the container. Raises Unavailable, TimedOut."""
        given = await self._desk.seat()
        try:
            settings = _settings(self._config, given.words["listen"])
            self._carried = await self._nursery.carrier(settings, given.fds)
        finally:
            given.close()

    @asynccontextmanager
    async def of(self, grant: Grant, text: str) -> AsyncIterator[Exchange]:
        if not exchanges_rows(grant.part):
            yield self._local
            return
        async with self._renewing:
            if self._carried is None or self._carried.lost:
                await self.start()
        carried = self._carried
        assert carried is not None
        with tracer.start_as_current_span("network.open"):
            (await self._desk.open(grant.job, text)).close()
        try:
            yield carried
        finally:
            await _shut(self._desk, grant.job)

    async def close(self) -> None:
        if self._carried:
            await self._carried.close()
        self._desk.close()
        self._nursery.close()
        await self._local.close()


class FreshWays:
    """A carrier for each part, in the container that was made for it."""

    def __init__(self, desk: Customer, nursery: Nursery, config: AgentConfig, local: Exchange) -> None:
        self._desk = desk
        self._nursery = nursery
        self._config = config
        self._local = local

    @property
    def address(self) -> str:
        return self._local.address

    @asynccontextmanager
    async def of(self, grant: Grant, text: str) -> AsyncIterator[Exchange]:
        if not exchanges_rows(grant.part):
            yield self._local
            return
        with tracer.start_as_current_span("network.open"):
            given = await self._desk.open(grant.job, text)
            try:
                carried = await self._nursery.carrier(_settings(self._config, given.words["listen"]), given.fds)
            except BaseException:
                await _shut(self._desk, grant.job)
                raise
            finally:
                given.close()
        try:
            yield carried
        finally:
            await carried.close()
            await _shut(self._desk, grant.job)

    async def close(self) -> None:
        self._desk.close()
        self._nursery.close()
        await self._local.close()


def exchanges_rows(part: Part) -> bool:
    """Tell whether the part gets rows from other parties or gives them some; results are none of these."""
    return bool(part.incoming) or any(edge.target_party != REQUESTOR for edge in part.outgoing)


def _settings(config: AgentConfig, listen: str) -> Settings:
    return Settings(config.name, config.credentials, config.orchestrator, listen, EXCHANGE_PORT)


async def _shut(desk: Customer, job: str) -> None:
    try:
        passed = await desk.shut(job)
    except DynamosError as error:
        log.warning("ways.not-shut job=%s error=%s", job, error)
    else:
        log.info("ways.shut job=%s", job, extra={"passed": passed})
