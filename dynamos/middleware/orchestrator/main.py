"""Starts the orchestrator."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from dynamos.kit.clocks import SystemClock
from dynamos.kit.waits import until
from dynamos.knowledge import jetstream
from dynamos.knowledge.bases import JOBS, PRESENCE, KnowledgeBase
from dynamos.knowledge.buses import Subscription, leave
from dynamos.knowledge.permissions import ORCHESTRATOR
from dynamos.knowledge.presence import Presences
from dynamos.middleware import telemetry
from dynamos.middleware.configs import MeetingsConfig, OrchestratorConfig
from dynamos.middleware.identity.requestors import Requestors
from dynamos.middleware.messages import (
    CancelJob,
    Change,
    Check,
    FindJobs,
    FoundJobs,
    Look,
    Presence,
    Rehearse,
    Submit,
)
from dynamos.middleware.network.meetings import Meetings, PerRequest, Standing
from dynamos.middleware.orchestrator import leases
from dynamos.middleware.orchestrator.advisers import Adviser, ByWeights
from dynamos.middleware.orchestrator.curators import Curator
from dynamos.middleware.orchestrator.heirs import Heirs, bury
from dynamos.middleware.orchestrator.helms import RECENT, Helm
from dynamos.middleware.orchestrator.jobbooks import JobBook
from dynamos.middleware.orchestrator.lives import Life
from dynamos.middleware.orchestrator.orchestrators import Orchestrator
from dynamos.middleware.orchestrator.overviews import Overview
from dynamos.middleware.orchestrator.silences import Silences
from dynamos.middleware.steering import Steer, Watch
from dynamos.middleware.views import background
from dynamos.model.values import Value
from dynamos.policy.builtin import BuiltIn

log = logging.getLogger(__name__)
M = TypeVar("M", bound=Value)
SEEDED_SECONDS = 10.0
SUBMITTED_SECONDS = 1.0
"""How long a submission that has just come may take until its job runs; then it is waited for with the others."""
END_SECONDS = 2.0
Advise = Callable[[OrchestratorConfig, KnowledgeBase, Overview], Awaitable[Adviser]]
"""Makes the adviser of an orchestrator."""


def serve(config: OrchestratorConfig, ready: Callable[[str], None], advise: Advise | None = None) -> None:
    """Run the orchestrator until SIGTERM; call `ready` once it takes requests. Without an adviser, weights decide."""
    asyncio.run(_serve(config, ready, advise))


async def _serve(config: OrchestratorConfig, ready: Callable[[str], None], advise: Advise | None) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with AsyncExitStack() as stack:
        kb = await jetstream.connect(config.bus, config.credentials, config.name, server=config.server)
        stack.push_async_callback(kb.close)
        stack.push_async_callback(telemetry.setup(config.name, kb, collector=config.settings.telemetry).close)
        presences = await stack.enter_async_context(Presences(kb.store(PRESENCE), Presence))
        overview = Overview(kb, config.parties, presences, awaits=config.drain > 0)
        await stack.enter_async_context(background(*overview.works))
        adviser = await advise(config, kb, overview) if advise else ByWeights()
        stack.push_async_callback(adviser.close)
        life = Life(kb.bus)
        helm = _helm(config, kb, overview, adviser)
        await helm.load()
        orchestrator, curator, book = _assemble(config, kb, overview, helm, life)
        helm.jobs = lambda: book.find(FindJobs(limit=RECENT))
        await curator.seed()
        await until("the marketplace's own values in the view", _seeded(config, overview), within=SEEDED_SECONDS)
        await life.begin(orchestrator.cancel, orchestrator.take_report)
        await leases.check_alone(config.meetings, kb, life)
        await stack.enter_async_context(leases.lease(kb, life))
        await bury(kb, await book.recover(leases.held(kb, life)))
        stack.push_async_callback(orchestrator.close)
        silences = Silences(kb.bus, presences, orchestrator.lose)
        heirs = Heirs(life, book, presences.online, lambda lost: bury(kb, lost))
        works = (silences.follow, book.follow, heirs.follow, orchestrator.enforce, *helm.works)
        await stack.enter_async_context(background(*works))
        ears = await _listen(kb, orchestrator, curator, book, life=life, helm=helm)
        ready(config.bus)
        await stopped.wait()
        await _drain(config, orchestrator, ears)


async def _drain(config: OrchestratorConfig, orchestrator: Orchestrator, ears: Mapping[str, Subscription]) -> None:
    """Hear of no new job, see those that there are to their end, then answer what else has come: another one takes
    what comes from then on."""
    if config.drain > 0:
        await leave(ears["submit"], within=SUBMITTED_SECONDS)
    await orchestrator.drain(config.drain)
    if config.drain > 0:
        await leave(*ears.values())


def _helm(config: OrchestratorConfig, kb: KnowledgeBase, overview: Overview, adviser: Adviser) -> Helm:
    clock = SystemClock()
    requestors = Requestors(config.api, open=config.settings.open, clock=clock)
    return Helm(adviser, kb=kb, overview=overview, requestors=requestors, marketplace=config.marketplace, clock=clock)


def _assemble(
    config: OrchestratorConfig, kb: KnowledgeBase, overview: Overview, adviser: Adviser, life: Life
) -> tuple[Orchestrator, Curator, JobBook]:
    clock = SystemClock()
    requestors = Requestors(config.api, open=config.settings.open, clock=clock)
    book = JobBook(kb.store(JOBS), clock, life=life.name)

    orchestrator = Orchestrator(
        config,
        kb=kb,
        overview=overview,
        engine=BuiltIn(),
        book=book,
        requestors=requestors,
        clock=clock,
        meetings=_meetings(config.meetings, kb),
        adviser=adviser,
        life=life.name,
    )
    curator = Curator(config, kb=kb, overview=overview, requestors=requestors, enforce=orchestrator.enforce_now)
    return orchestrator, curator, book


def _seeded(config: OrchestratorConfig, overview: Overview) -> Callable[[], Awaitable[bool]]:
    async def probe() -> bool:
        shared = overview.shared
        return all(
            set(wanted) <= set(found)
            for wanted, found in (
                (config.archetypes, shared.archetypes),
                (config.request_types, shared.request_types),
                (config.services, shared.services),
            )
        )

    return probe


def _meetings(config: MeetingsConfig | None, kb: KnowledgeBase) -> Meetings | None:
    if config is None:
        return None
    if config.scope == "request":
        return PerRequest(kb.bus, config.sites, config.slots)
    return Standing(config.networks)


async def _listen(
    kb: KnowledgeBase, orchestrator: Orchestrator, curator: Curator, book: JobBook, *, life: Life, helm: Helm
) -> dict[str, Subscription]:
    """Take what any orchestrator can answer, each message by one of them."""

    async def find(message: FindJobs) -> FoundJobs:
        return FoundJobs(jobs=tuple(await book.find(message)))

    handlers: list[tuple[str, type[Value], Callable[[Any], Awaitable[Value]]]] = [
        ("submit", Submit, orchestrator.submit),
        ("check", Check, orchestrator.check),
        ("cancel", CancelJob, life.passing_on(orchestrator.cancel, book)),
        ("jobs", FindJobs, find),
        ("look", Look, curator.look),
        ("change", Change, curator.change),
        ("rehearse", Rehearse, orchestrator.rehearser().rehearse),
        ("monitor", Watch, helm.monitor),
        ("options", Watch, helm.options),
        ("steer", Steer, helm.steer),
    ]
    ears = {
        name: await kb.bus.listen(f"orchestrator.{name}", _answer(model, handle), queue=ORCHESTRATOR)
        for name, model, handle in handlers
    }
    reports = life.reporting(orchestrator.take_report, book)
    return {**ears, "report": await kb.bus.listen("report.*", reports, queue=ORCHESTRATOR)}


def _answer(
    model: type[M], handle: Callable[[M], Awaitable[Value]]
) -> Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]:
    async def answer(_: str, message: dict[str, Any]) -> dict[str, Any]:
        return (await handle(model.model_validate(message))).as_json()

    return answer
