"""Starts the orchestrator."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from dynamos.kit.clocks import SystemClock
from dynamos.kit.errors import Unavailable
from dynamos.kit.waits import until
from dynamos.knowledge import jetstream
from dynamos.knowledge.bases import JOBS, PRESENCE, KnowledgeBase
from dynamos.knowledge.presence import Presences
from dynamos.middleware import telemetry
from dynamos.middleware.configs import MeetingsConfig, OrchestratorConfig
from dynamos.middleware.identity.requestors import Requestors
from dynamos.middleware.instances import parsed
from dynamos.middleware.messages import (
    CancelJob,
    Change,
    Check,
    EndPart,
    FindJobs,
    FoundJobs,
    Look,
    Presence,
    Rehearse,
    Submit,
)
from dynamos.middleware.network.meetings import Meetings, PerRequest, Standing
from dynamos.middleware.orchestrator.advisers import Adviser, ByWeights
from dynamos.middleware.orchestrator.curators import Curator
from dynamos.middleware.orchestrator.executions import subject_of
from dynamos.middleware.orchestrator.helms import RECENT, Helm
from dynamos.middleware.orchestrator.jobbooks import JobBook
from dynamos.middleware.orchestrator.lives import Life
from dynamos.middleware.orchestrator.orchestrators import Orchestrator
from dynamos.middleware.orchestrator.overviews import Overview
from dynamos.middleware.steering import Steer, Watch
from dynamos.middleware.views import background
from dynamos.model.jobs import Job
from dynamos.model.values import Value
from dynamos.policy.builtin import BuiltIn

log = logging.getLogger(__name__)
M = TypeVar("M", bound=Value)
SEEDED_SECONDS = 10.0
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
        await _forget(kb, await book.recover(life.there))
        stack.push_async_callback(orchestrator.close)
        watch = lambda: _watch_parties(presences, orchestrator)  # noqa: E731  a work has no arguments
        await stack.enter_async_context(background(watch, orchestrator.enforce, *helm.works))
        await _listen(kb, orchestrator, curator, book, life=life, helm=helm)
        ready(config.bus)
        await stopped.wait()
        await orchestrator.drain(config.drain)


def _helm(config: OrchestratorConfig, kb: KnowledgeBase, overview: Overview, adviser: Adviser) -> Helm:
    clock = SystemClock()
    requestors = Requestors(config.api, open=config.settings.open, clock=clock)
    return Helm(adviser, kb=kb, overview=overview, requestors=requestors, marketplace=config.marketplace, clock=clock)


def _assemble(
    config: OrchestratorConfig, kb: KnowledgeBase, overview: Overview, adviser: Adviser, life: Life
) -> tuple[Orchestrator, Curator, JobBook]:
    clock = SystemClock()
    requestors = Requestors(config.api, open=config.settings.open, clock=clock)
    book = JobBook(kb.store(JOBS), clock)

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


async def _forget(kb: KnowledgeBase, lost: list[Job]) -> None:
    """Tell every party to stop what an earlier life of the orchestrator had started."""
    for job in lost:
        for party in job.plan.parties if job.plan else ():
            message = EndPart(job=job.id, code="lost", reason="the orchestrator was restarted")
            try:
                subject = subject_of(party, job.instances.get(party, ""), "end")
                await kb.bus.request(subject, message.as_json(), within=2.0)
            except (Unavailable, TimeoutError) as error:
                log.warning("end.unheard job=%s party=%s error=%s", job.id, party, error)


async def _watch_parties(presences: Presences[Presence], orchestrator: Orchestrator) -> None:
    """Whenever an agent goes, its parts are lost."""
    async with presences.changes() as changes:
        async for item in changes:
            if item.value is None:
                orchestrator.lose(*parsed(item.name))


async def _listen(
    kb: KnowledgeBase, orchestrator: Orchestrator, curator: Curator, book: JobBook, *, life: Life, helm: Helm
) -> None:
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
    for name, model, handle in handlers:
        await kb.bus.listen(f"orchestrator.{name}", _answer(model, handle), queue="orchestrator")
    await kb.bus.listen("report.*", life.reporting(orchestrator.take_report, book), queue="orchestrator")


def _answer(
    model: type[M], handle: Callable[[M], Awaitable[Value]]
) -> Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]:
    async def answer(_: str, message: dict[str, Any]) -> dict[str, Any]:
        return (await handle(model.model_validate(message))).as_json()

    return answer
