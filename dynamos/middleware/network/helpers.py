"""The network helper of a site: the one unit there that may change networks. It does what the orchestrator asks for in
its own site, for a time; it opens ways for parts that the orchestrator granted, and for nothing else.

What it knows of networks is behind the protocol `Site`; here is who may have what, and for how long.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

from opentelemetry import trace

from dynamos.kit.clocks import SystemClock
from dynamos.kit.errors import BadInput, Conflict, DynamosError, NotFound
from dynamos.knowledge.bases import KnowledgeBase
from dynamos.knowledge.buses import Message
from dynamos.middleware.configs import HelperConfig
from dynamos.middleware.identity import grants
from dynamos.middleware.network.desks import Desk, Given
from dynamos.middleware.network.messages import LEASE, Join, Leave, Left, Passed, Prepare, Prepared, Renew
from dynamos.model.jobs import Grant
from dynamos.model.values import Value

log = logging.getLogger(__name__)
tracer = trace.get_tracer("dynamos.network")
M = TypeVar("M", bound=Value)
SWEEP_SECONDS = 1.0


class Site(Protocol):
    """The networks of one site. Every call may be repeated after an interruption anywhere."""

    async def prepare(self, message: Prepare) -> Prepared:
        """Make containers with rules that let nothing through, and keys. Raises BadInput, Unavailable."""
        ...

    async def join(self, message: Join) -> None:
        """Bring them in, wait until all members are reached, and open the job's ways. Raises TimedOut, BadInput."""
        ...

    def abandon(self, job: str) -> None:
        """Let a `join` of the job that waits for others give up: the network is to go."""
        ...

    async def leave(self, job: str) -> Left:
        """Remove what there is of a job's network, and tell what passed and what is left."""
        ...

    async def seat(self, party: str) -> Given:
        """Give a party's own container, with rules that let nothing through unless they are there."""
        ...

    async def open(self, party: str, grant: Grant) -> Given:
        """Open the ways that a granted part needs at its party's container. Raises Refused for a way that leads to
        where no network of the party's does."""
        ...

    async def shut(self, party: str, job: str) -> Passed:
        """Close the ways of a part again."""
        ...

    async def clear(self) -> None:
        """Remove the networks of all jobs, also those of an earlier life, and close all ways."""
        ...


class Helper:
    """Serves the orchestrator over the bus, and the agents of the site's parties at their desks."""

    def __init__(self, config: HelperConfig, site: Site, *, now: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._site = site
        self._now = now
        self._until: dict[str, float] = {}
        self._open: dict[str, set[str]] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._desks: list[Desk] = []

    async def start(self, kb: KnowledgeBase) -> None:
        """Remove what an earlier life left, then serve."""
        await self._site.clear()
        handlers: list[tuple[str, type[Value], Callable[[Any], Awaitable[Value | None]]]] = [
            ("prepare", Prepare, self.prepare),
            ("join", Join, self.join),
            ("leave", Leave, self.leave),
            ("renew", Renew, self.renew),
        ]
        for name, model, handle in handlers:
            await kb.bus.listen(f"network.{self._config.site}.{name}", _answer(name, model, handle))
        for party in self._config.profile.sites[self._config.site].parties:
            user = self._config.users.get(party, "")
            desk = Desk(self._config.desk(party), party, self.serve, self.gone, user=user)
            desk.open()
            self._desks.append(desk)

    async def close(self) -> None:
        """Serve no more, and remove the networks of all jobs."""
        for desk in self._desks:
            await desk.close()
        await self._site.clear()

    async def prepare(self, message: Prepare) -> Prepared:
        """Make what a job's network needs here, and hold it for a time."""
        if message.job in self._until:
            raise Conflict(f"job {message.job!r} has a network already", where=self._config.site)
        self._until[message.job] = self._now() + LEASE
        async with self._alone(message.job):
            return await self._site.prepare(message)

    async def join(self, message: Join) -> None:
        """Bring a job's members in."""
        self._hold(message.job)
        async with self._alone(message.job):
            await self._site.join(message)
        self._hold(message.job)

    async def leave(self, message: Leave) -> Left:
        """Remove a job's network, also while it is made. One that is not there is no obstacle."""
        self._site.abandon(message.job)
        async with self._alone(message.job):
            left = await self._site.leave(message.job)
            self._until.pop(message.job, None)
        self._locks.pop(message.job, None)
        return left

    async def renew(self, message: Renew) -> None:
        """Hold the networks of these jobs for longer."""
        for job in message.jobs:
            if job in self._until:
                self._hold(job)

    async def sweep(self) -> None:
        """Remove the networks that nobody renews, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            for job in [job for job, until in self._until.items() if until < self._now()]:
                log.warning("network.expired", extra={"job": job, "site": self._config.site})
                try:
                    await self.leave(Leave(job=job))
                except DynamosError as error:
                    log.warning("network.stays", extra={"job": job, "error": str(error)})
                    self._hold(job)  # tried again then

    async def serve(self, party: str, message: dict[str, Any]) -> Given:
        """Do what the agent of a party asks for at its desk."""
        match message:
            case {"do": "seat"}:
                return await self._site.seat(party)
            case {"do": "open", "grant": str(text)}:
                grant = grants.verify(text, self._config.orchestrator, party=party, clock=SystemClock())
                self._open.setdefault(party, set()).add(grant.job)
                return await self._site.open(party, grant)
            case {"do": "close", "job": str(job)}:
                self._open.get(party, set()).discard(job)
                return Given((await self._site.shut(party, job)).as_json())
        raise BadInput("a desk knows seat, open and close")

    async def gone(self, party: str) -> None:
        """Close the ways that an agent had open who is gone."""
        for job in self._open.pop(party, set()):
            await self._site.shut(party, job)

    def _hold(self, job: str) -> None:
        if job not in self._until:
            raise NotFound(f"job {job!r} has no network here", where=self._config.site, code="no-network")
        self._until[job] = self._now() + LEASE

    @asynccontextmanager
    async def _alone(self, job: str) -> AsyncIterator[None]:
        """One thing at a time for one job: a network is not removed while it is made."""
        async with self._locks.setdefault(job, asyncio.Lock()):
            yield


def _answer(
    name: str, model: type[M], handle: Callable[[M], Awaitable[Value | None]]
) -> Callable[[str, Message], Awaitable[Message]]:
    async def answer(_: str, message: Message) -> Message:
        with tracer.start_as_current_span(f"network.{name}"):
            given = await handle(model.model_validate(message))
        return given.as_json() if given is not None else {}

    return answer
