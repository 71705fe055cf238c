"""The desk: everything that the endpoints work with."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from starlette.requests import Request

from dynamos.kit.clocks import Clock, SystemClock
from dynamos.knowledge.bases import PRESENCE, KnowledgeBase
from dynamos.knowledge.presence import Presences
from dynamos.middleware import telemetry
from dynamos.middleware.api import handovers
from dynamos.middleware.api.callers import Callers, callers_of
from dynamos.middleware.api.events import Events
from dynamos.middleware.api.gateway import Gateway
from dynamos.middleware.api.metrics import Metrics
from dynamos.middleware.api.orchestrators import Orchestrator
from dynamos.middleware.api.peers import Peers
from dynamos.middleware.api.results import Results
from dynamos.middleware.api.spools import Store
from dynamos.middleware.api.submissions import Submissions
from dynamos.middleware.configs import ApiConfig
from dynamos.middleware.instances import fresh
from dynamos.middleware.messages import Presence

log = logging.getLogger(__name__)
SWEEP_SECONDS = 5.0
RESULTS = "results"


@dataclass(slots=True)
class Desk:
    """One API's state; the endpoints find it in the application."""

    config: ApiConfig
    kb: KnowledgeBase
    callers: Callers
    orchestrator: Orchestrator
    results: Results
    submissions: Submissions
    events: Events
    presences: Presences[Presence]
    tracer: telemetry.Tracer
    peers: Peers
    metrics: Metrics = field(default_factory=Metrics)
    leaving: bool = False


def results_of(config: ApiConfig, clock: Clock) -> Results:
    """Make the keeper of results, with the bounds that the settings give."""
    settings = config.settings
    store = Store(config.folder / RESULTS, memory=settings.result_memory, disk=settings.result_disk)
    return Results(store, clock, age=float(settings.result_age), longest=float(settings.max_deadline))


@asynccontextmanager
async def open_desk(
    config: ApiConfig,
    kb: KnowledgeBase,
    *,
    listen: Callable[[Gateway], AbstractAsyncContextManager[str]],
    clock: Clock | None = None,
    results: Results | None = None,
) -> AsyncIterator[Desk]:
    """Put the API together, hear the bus, and clean up at the end.

    `listen` is given the gateway, opens it to the parties, and gives its address.
    """
    clock = clock or SystemClock()
    kept = results or results_of(config, clock)
    if config.drain and (taken := handovers.load(kept, config.folder)):
        log.info("results.taken jobs=%d", taken)
    async with AsyncExitStack() as stack:
        stack.callback(kept.close)
        address = await stack.enter_async_context(listen(Gateway(kept, config.orchestrator, clock)))
        orchestrator = Orchestrator(kb.bus, patience=config.patience)
        events = Events()
        instance = fresh()
        submissions = Submissions(config.settings, orchestrator, kept, events, gateway=address, name=instance)
        tracer = telemetry.setup(config.name, kb, collector=config.settings.telemetry)
        stack.push_async_callback(tracer.close)
        stack.push_async_callback(submissions.close)
        presences = await stack.enter_async_context(Presences(kb.store(PRESENCE), Presence))
        heard = await kb.bus.listen("job.*", submissions.hear)
        stack.push_async_callback(heard.close)
        kb.on_reconnect(submissions.look_again)
        peers = Peers(config.credentials, instance, presences.online)
        stack.push_async_callback(peers.close)
        sweeping = asyncio.create_task(_sweep(kept), name="sweep of results")
        stack.callback(sweeping.cancel)
        yield Desk(config, kb, callers_of(config), orchestrator, kept, submissions, events, presences, tracer, peers)


async def _sweep(results: Results) -> None:
    """Remove old results, again and again."""
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        if removed := results.sweep():
            log.info("results.removed jobs=%d", removed)


def desk_of(request: Request) -> Desk:
    """Give the desk of the application that answers this request."""
    found = request.app.state.desk
    assert isinstance(found, Desk)
    return found
