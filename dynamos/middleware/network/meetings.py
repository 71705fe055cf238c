"""How the orchestrator sees to it that the parties of a job can reach each other, before their parts start."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

from opentelemetry import trace

from dynamos.kit.errors import DynamosError, Refused, TimedOut, Unavailable
from dynamos.knowledge.buses import Bus
from dynamos.middleware.network.messages import (
    EXCHANGE_PORT,
    RENEWAL,
    Flow,
    Join,
    Leave,
    Left,
    Prepare,
    Prepared,
    Renew,
)
from dynamos.model.plans import Plan

log = logging.getLogger(__name__)
tracer = trace.get_tracer("dynamos.orchestrator")
ASK_SECONDS = 60.0
LEAVE_SECONDS = 20.0
CLOSE_SECONDS = 1.0
"""Helpers may be stopping too; they remove by themselves what they have not been told to."""


class Meeting(Protocol):
    """Where the parties of one job take streams."""

    def address(self, source: str, target: str) -> str:
        """Give where `target` takes streams of `source`. Raises Refused where no network joins them."""
        ...


class Meetings(Protocol):
    """Makes meetings possible."""

    def of(self, plan: Plan) -> AbstractAsyncContextManager[Meeting]:
        """Have the parties of the plan reach each other during the block. Raises DynamosError that names the site."""
        ...

    async def close(self) -> None:
        """Wait until nothing is left of past meetings, for some seconds."""
        ...


class Announced:
    """Parties take streams where they say so: there is one network for all, or none of ours."""

    def __init__(self, addresses: Mapping[str, str]) -> None:
        self._addresses = addresses

    def address(self, source: str, target: str) -> str:  # noqa: ARG002  whoever it is
        return self._addresses[target]


class Standing:
    """Networks that are there as long as the testbed: each a mapping of its parties to their addresses."""

    def __init__(self, networks: Sequence[Mapping[str, str]]) -> None:
        self._networks = networks

    @asynccontextmanager
    async def of(self, plan: Plan) -> AsyncIterator[Meeting]:
        for flow in flows_of(plan):
            self.address(flow.source, flow.target)
        yield self

    def address(self, source: str, target: str) -> str:
        found = next((each[target] for each in self._networks if source in each and target in each), None)
        if found is None:
            hint = "put both into one group, or choose another scope of the overlay"
            raise Refused(f"no network joins {source} and {target}", code="no-network", hint=hint)
        return _receiver(found)

    async def close(self) -> None:
        return


class PerRequest:
    """A network for each job, made at the sites of the parties that exchange rows, and removed after the job.

    `sites` gives the site of each party. `slots` is how many such networks there can be at once.
    """

    def __init__(self, bus: Bus, sites: Mapping[str, str], slots: int) -> None:
        self._bus = bus
        self._sites = sites
        self._free = deque(range(slots))
        self._live: dict[str, tuple[str, ...]] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._renewing: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def of(self, plan: Plan) -> AsyncIterator[Meeting]:
        flows = flows_of(plan)
        parties = tuple(dict.fromkeys(party for flow in flows for party in (flow.source, flow.target)))
        if not parties:
            yield Announced({})
            return
        slot = self._take(plan.job)
        sites = tuple(dict.fromkeys(self._sites[party] for party in parties))
        self._live[plan.job] = sites
        self._renewing = self._renewing or asyncio.create_task(self._renew(), name="leases of networks")
        try:
            with tracer.start_as_current_span("network", attributes={"job": plan.job, "sites": len(sites)}):
                addresses = await self._bring(Prepare(job=plan.job, slot=slot, parties=parties, flows=flows), sites)
            yield Announced({party: _receiver(address) for party, address in addresses.items()})
        finally:
            del self._live[plan.job]
            task = asyncio.create_task(self._leave(plan.job, slot, sites), name=f"network of {plan.job} goes")
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def close(self) -> None:
        if self._renewing:
            self._renewing.cancel()
        if self._leaving:
            await asyncio.wait(self._leaving, timeout=CLOSE_SECONDS)

    def _take(self, job: str) -> int:
        if not self._free:
            raise Unavailable(
                "all networks of requests are in use", code="busy", hint="try again a little later", job=job
            )
        return self._free.popleft()

    async def _bring(self, prepare: Prepare, sites: Sequence[str]) -> dict[str, str]:
        """Have all sites prepare, then join, all at once each. Gives the address of every party."""
        began = time.monotonic()
        told = await self._ask_all(sites, "prepare", prepare.as_json())
        prepared = [Prepared.model_validate(each) for each in told]
        between = time.monotonic()
        material = {name: words for each in prepared for name, words in each.material.items()}
        await self._ask_all(sites, "join", Join(job=prepare.job, material=material).as_json())
        ended = time.monotonic()
        took = {"prepare_ms": (between - began) * 1e3, "join_ms": (ended - between) * 1e3}
        log.info("network.up job=%s slot=%d", prepare.job, prepare.slot, extra=took)
        return {party: address for each in prepared for party, address in each.addresses.items()}

    async def _ask_all(self, sites: Sequence[str], what: str, message: dict[str, Any]) -> list[dict[str, Any]]:
        """Ask all sites at once, and give what they answer. The first that fails ends it: those that are still at it
        give up when they are told to remove what they have."""
        tasks = [asyncio.ensure_future(self._ask(site, what, message)) for site in sites]
        try:
            for next_one in asyncio.as_completed(tasks):
                if isinstance(told := await next_one, DynamosError):
                    raise told
        finally:
            for task in tasks:
                task.cancel()
        return [given for task in tasks if isinstance(given := task.result(), dict)]

    async def _ask(self, site: str, what: str, message: dict[str, Any]) -> dict[str, Any] | DynamosError:
        """Ask one site. An error is given and not raised, so that it is looked at where all are."""
        try:
            return await self._bus.request(f"network.{site}.{what}", message, within=ASK_SECONDS)
        except DynamosError as error:
            error.where = error.where or site
            if isinstance(error, Unavailable | TimedOut):
                return type(error)(f"the network of site {site}: {error.message}", where=site, code="site-away")
            return error

    async def _leave(self, job: str, slot: int, sites: Sequence[str]) -> None:
        """Have every site remove what it has of the network. The slot is free again when all did; a site that is away
        removes it by itself when its lease ends."""
        message = Leave(job=job).as_json()
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                told = await asyncio.gather(*(self._ask(site, "leave", message) for site in sites))
        except TimeoutError:
            told = [TimedOut("the sites did not remove the network", where=job)]
        for site, each in zip(sites, told, strict=False):
            if isinstance(each, DynamosError):
                log.warning("network.stays job=%s site=%s error=%s", job, site, each)
            elif left := Left.model_validate(each).left:
                log.error("network.left job=%s site=%s left=%s", job, site, left)
            else:
                log.info("network.gone job=%s site=%s", job, site, extra={"passed": each.get("passed", {})})
        self._free.append(slot)

    async def _renew(self) -> None:
        """Tell every site what is under way, again and again."""
        while True:
            await asyncio.sleep(RENEWAL)
            jobs: dict[str, list[str]] = {}
            for job, sites in self._live.items():
                for site in sites:
                    jobs.setdefault(site, []).append(job)
            told = (self._ask(site, "renew", Renew(jobs=tuple(each)).as_json()) for site, each in jobs.items())
            await asyncio.gather(*told)


def flows_of(plan: Plan) -> tuple[Flow, ...]:
    """Give who sends rows to whom, each pair once; results to the requestor are none of them."""
    pairs = dict.fromkeys(
        (edge.source_party, edge.target_party)
        for edge in plan.edges
        if edge.crosses and edge.target_party in plan.parties
    )
    return tuple(Flow(source=source, target=target) for source, target in pairs)


def _receiver(address: str) -> str:
    return f"grpc+tls://{address}:{EXCHANGE_PORT}"
