"""A real orchestrator over the bus in memory, with agents that do what a script says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dynamos.kit.clocks import SystemClock
from dynamos.kit.errors import DynamosError
from dynamos.kit.waits import until
from dynamos.knowledge.bases import JOBS, PRESENCE, KnowledgeBase
from dynamos.knowledge.memory import MemoryCluster
from dynamos.knowledge.presence import Announcement, Presences, announce
from dynamos.middleware.configs import OrchestratorConfig
from dynamos.middleware.identity import grants
from dynamos.middleware.identity.requestors import Requestors
from dynamos.middleware.instances import key_of
from dynamos.middleware.messages import EndPart, EndParts, Load, Presence, Report, Started, StartPart, Submit
from dynamos.middleware.orchestrator.curators import Curator
from dynamos.middleware.orchestrator.jobbooks import JobBook
from dynamos.middleware.orchestrator.orchestrators import Orchestrator
from dynamos.middleware.orchestrator.overviews import Overview
from dynamos.middleware.views import agreements_of, background, catalogue_of
from dynamos.model.agreements import Agreement
from dynamos.model.jobs import Grant, Job, PartReport, State
from dynamos.model.profiles import Settings
from dynamos.model.requests import Request
from dynamos.policy.builtin import BuiltIn
from support.identities import issue_all
from support.marketplaces import Scene, upstream

BOUND = 10.0
CLOCK = SystemClock()


@dataclass
class ScriptedAgent:
    """Answers starts with `refuses`, or starts and reports `outcome` once `release` is set (at once by default).

    It takes starts and ends once `hears_starts` and `hears_ends` are set, which they are.
    """

    party: str
    kb: KnowledgeBase
    certificate: Path
    instance: str = "first"
    refuses: DynamosError | None = None
    outcome: State = State.SUCCEEDED
    error: dict[str, Any] | None = None
    release: asyncio.Event = field(default_factory=asyncio.Event)
    started: asyncio.Event = field(default_factory=asyncio.Event)
    grants: list[Grant] = field(default_factory=list)
    ended: list[EndPart] = field(default_factory=list)
    hears_starts: asyncio.Event = field(default_factory=asyncio.Event)
    hears_ends: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.hears_starts.set()
        self.hears_ends.set()

    async def listen(self) -> None:
        for instance in (f".{self.instance}", ""):
            await self.kb.bus.listen(f"agent.{self.party}{instance}.end", self._end)
            await self.kb.bus.listen(f"agent.{self.party}{instance}.ends", self._end_all)
        await self.kb.bus.listen(f"agent.{self.party}.{self.instance}.start", self._start)

    async def _start(self, _: str, message: dict[str, Any]) -> dict[str, Any]:
        await self.hears_starts.wait()
        start = StartPart.model_validate(message)
        grant = grants.verify(start.grant, self.certificate, party=self.party, clock=CLOCK)
        self.grants.append(grant)
        self.started.set()
        if self.refuses is not None:
            raise self.refuses
        self._tasks.append(asyncio.create_task(self._work(grant)))
        return Started(start_ms=1.0, isolation=()).as_json()

    async def _work(self, grant: Grant) -> None:
        await self.release.wait()
        await self.tell(grant.job, self.outcome, self.error)

    async def _end(self, _: str, message: dict[str, Any]) -> dict[str, Any]:
        await self.hears_ends.wait()
        self.ended.append(EndPart.model_validate(message))
        self.outcome, self.error = State.CANCELLED, {"code": self.ended[-1].code, "message": self.ended[-1].reason}
        self.release.set()
        return {}

    async def _end_all(self, subject: str, message: dict[str, Any]) -> dict[str, Any]:
        for each in EndParts.model_validate(message).ends:
            await self._end(subject, each.as_json())
        return {}

    async def tell(self, job: str, state: State, error: dict[str, Any] | None = None) -> None:
        """Report the part's end."""
        report = PartReport(job=job, party=self.party, state=state, error=error)
        await self.kb.bus.request(f"report.{self.party}", Report(report=report).as_json(), within=BOUND)


@dataclass
class Orchestra:
    """The orchestrator, its agents by party, and everything that it told."""

    orchestrator: Orchestrator
    curator: Curator
    book: JobBook
    agents: dict[str, ScriptedAgent]
    cluster: MemoryCluster
    scene: Scene
    events: asyncio.Queue[dict[str, Any]]
    announcements: dict[str, Announcement] = field(default_factory=dict)
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def leave(self, party: str) -> None:
        """Have a party's agent say that it leaves and comes back, and the orchestrator hear it."""
        leaving = _presence(party).model_copy(update={"leaving": True})
        await self.announcements[party].update(leaving)
        await until(f"{party} leaves", lambda: self._returns(party), within=BOUND, every=0)

    async def come_back(self, party: str) -> None:
        """Have a party's next agent say that it is there; it does as the first one did."""
        next_one = await self.join(party, "second")
        if self.agents[party].release.is_set():
            next_one.release.set()

    async def join(self, party: str, instance: str, **load: Any) -> ScriptedAgent:
        """Have another agent of a party come, with this load, and the orchestrator see it."""
        kb = self.cluster.connect(party)
        agent = ScriptedAgent(party, kb, self.agents[party].certificate, instance)
        await agent.listen()
        value = _presence(party, instance).model_copy(update={"load": Load(**load) if load else None})
        saying = announce(kb.store(PRESENCE), key_of(party, instance), value)
        self.announcements[instance] = await self.stack.enter_async_context(saying)

        async def seen() -> bool:
            return any(each.instance == instance for each in self.orchestrator._overview.online().get(party, ()))

        await until(f"{instance} of {party} is there", seen, within=BOUND, every=0)
        return agent

    async def _returns(self, party: str) -> bool:
        return party in self.orchestrator._overview.returning()

    async def amend(self, party: str, **changes: Any) -> int:
        """Have a party write another agreement: as `Scene.agreeing` changes it; gives its revision."""
        self.scene = self.scene.agreeing(party, **changes)
        return await agreements_of(self.cluster.connect(party), party).put(party, self.scene.agreements[party])

    async def withdraw(self, party: str) -> int:
        """Have a party permit nobody anything."""
        return await agreements_of(self.cluster.connect(party), party).put(party, Agreement(name=party))

    def release(self, *parties: str) -> None:
        """Let the parts of these parties (of all, if none is named) come to their end."""
        for party in parties or tuple(self.agents):
            self.agents[party].release.set()

    async def submit(self, request: Request, job: str = "job-1") -> Job:
        """Submit and give the record that comes back."""
        message = Submit(job=job, request=request, gateway="grpc+tls://127.0.0.1:1")
        return (await asyncio.wait_for(self.orchestrator.submit(message), BOUND)).job

    async def until_one_waits(self) -> None:
        """Wait until a job waits for a place."""
        await until("a job waits", self._one_waits, within=BOUND, every=0)

    async def _one_waits(self) -> bool:
        return self.orchestrator.waiting > 0

    async def end_of(self, job: str = "job-1") -> Job:
        """Wait for the event that tells the job's final state."""
        while (record := await self.end_of_any()).id != job:
            pass
        return record

    async def end_of_any(self) -> Job:
        """Wait for the next event that tells a final state."""
        async with asyncio.timeout(BOUND):
            while True:
                event = await self.events.get()
                record = Job.model_validate(event["job"])
                if record.state.final:
                    return record


def _presence(party: str, instance: str = "first") -> Presence:
    now = CLOCK.now().isoformat()
    address = f"grpc+tls://127.0.0.1:{10_000 + len(party)}"
    return Presence(party=party, instance=instance, address=address, active_since=now, config_updated=now)


@asynccontextmanager
async def orchestra(folder: Path, *, scene: Scene | None = None, **settings: Any) -> AsyncIterator[Orchestra]:
    """Bring everything up: upstream's marketplace unless another scene is given, everybody online, open mode."""
    scene = scene or upstream()
    parties = tuple(sorted({*scene.online, *scene.agreements}))
    issued = issue_all(folder, "orchestrator", marketplace="m")
    config = OrchestratorConfig(
        name="orchestrator",
        marketplace="m",
        folder=folder / "units" / "orchestrator",
        bus="memory",
        api=folder / "none.pem",
        settings=Settings(open=True, **settings),
        parties=parties,
        archetypes=dict(scene.archetypes),
        request_types=dict(scene.request_types),
        services=dict(scene.services),
    )
    cluster = MemoryCluster(parties)
    async with AsyncExitStack() as stack:
        agents = {}
        announcements: dict[str, Announcement] = {}
        for party in parties:
            kb = cluster.connect(party)
            agreement = scene.agreements.get(party, Agreement(name=party))
            await agreements_of(kb, party).put(party, agreement)
            for name, data_set in scene.catalogue.get(party, {}).items():
                await catalogue_of(kb, party).put(name, data_set)
            agents[party] = ScriptedAgent(party, kb, issued["orchestrator"].certificate)
            await agents[party].listen()
            if party in scene.online:
                saying = announce(kb.store(PRESENCE), key_of(party, "first"), _presence(party))
                announcements[party] = await stack.enter_async_context(saying)
        kb = cluster.connect("orchestrator")
        presences = await stack.enter_async_context(Presences(kb.store(PRESENCE), Presence))
        overview = Overview(kb, parties, presences)
        await stack.enter_async_context(background(*overview.works))
        book = JobBook(kb.store(JOBS), CLOCK)
        requestors = Requestors(config.api, open=True, clock=CLOCK)
        orchestrator = Orchestrator(
            config, kb=kb, overview=overview, engine=BuiltIn(), book=book, requestors=requestors, clock=CLOCK
        )
        curator = Curator(config, kb=kb, overview=overview, requestors=requestors, enforce=orchestrator.enforce_now)
        await curator.seed()

        async def seen() -> bool:
            return (
                len(overview.agreements) == len(parties)
                and set(overview.shared.services) >= set(scene.services)
                and set(overview.shared.request_types) >= set(scene.request_types)
                and set(overview.shared.archetypes) >= set(scene.archetypes)
                and set(overview.online()) == scene.online
                and all(set(overview.catalogue[party]) == set(scene.catalogue.get(party, {})) for party in parties)
            )

        await until("the orchestrator sees the marketplace", seen, within=BOUND, every=0)

        async def report(_: str, message: dict[str, Any]) -> dict[str, Any]:
            orchestrator.take_report(Report.model_validate(message).report)
            return {}

        await kb.bus.listen("report.*", report)
        events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        api = cluster.connect("api")

        async def heard(_: str, message: dict[str, Any]) -> None:
            events.put_nowait(message)

        await api.bus.listen("job.>", heard)
        stack.push_async_callback(orchestrator.close)
        await stack.enter_async_context(background(orchestrator.enforce))
        yield Orchestra(orchestrator, curator, book, agents, cluster, scene, events, announcements, stack)
