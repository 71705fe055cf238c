"""The loop: Monitor, Analyse, Plan, Execute over Knowledge, as the adviser of the running orchestrator."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dynamos.adaptation import decisions, execution
from dynamos.adaptation.decisions import Decision, Effect, Started
from dynamos.adaptation.guards import Guard
from dynamos.adaptation.knowledge import Knowledge, Memory
from dynamos.adaptation.monitors import Monitor
from dynamos.adaptation.planners import registry
from dynamos.adaptation.planners.experiences import Experiences
from dynamos.adaptation.planners.protocol import Learner, judged
from dynamos.adaptation.settings import LoopSettings, Weighing
from dynamos.adaptation.situations import AVOIDED, Judgement, Situation, options_of, shape_of
from dynamos.kit.clocks import Clock, SystemClock
from dynamos.kit.errors import DynamosError, Refused
from dynamos.knowledge.bases import KnowledgeBase
from dynamos.middleware.configs import OrchestratorConfig
from dynamos.middleware.messages import Presence
from dynamos.middleware.orchestrator.overviews import Overview
from dynamos.middleware.views import Work
from dynamos.model.jobs import Job
from dynamos.model.plans import Compression, Plan
from dynamos.model.requests import Request
from dynamos.planning.planners import Pick, Question

log = logging.getLogger(__name__)
REMEMBERED = 4096
RECALL_SECONDS = 1.0
SAVE_SECONDS = 5.0


@dataclass(slots=True)
class Mind:
    """A planner at work: in its guard, with how much it was told and the digest of that."""

    learner: Learner
    settings: LoopSettings
    options: dict[str, Any]
    guard: Guard
    number: int = 0
    memory: str = ""


class Advice:
    """The planner of one deliberation: asks the mind, and falls back on weights."""

    name = "adaptation"

    def __init__(self, loop: Loop, request: Request, job: str) -> None:
        self._loop = loop
        self._request = request
        self._job = job
        self.mind = loop.mind
        self.situation: Situation | None = None
        self.judgement: Judgement | None = None
        self.refused = ""
        self.seen = 0
        self.memory = ""
        self.took = 0.0
        self.streams: dict[str, Compression] = {}

    @property
    def notes(self) -> tuple[str, ...]:
        return (f"{self.refused}: weights decided",) if self.refused else ()

    def pick(self, question: Question) -> Pick:
        began = time.monotonic()
        mind = self.mind
        situation = self.situation = self._loop.situation(self._request, question, self._job)
        self.seen, self.memory = mind.number, mind.memory
        try:
            judgement = mind.guard.ask(lambda: mind.learner.judge(situation), within=float(mind.settings.budget))
            self.judgement = checked(judgement, question, mind.learner.name)
        except DynamosError as error:
            log.warning("planner.refused planner=%s job=%s error=%s", mind.learner.name, self._job, error)
            self.refused = error.message
            self.judgement = judged(situation, situation.usual, "by weights, since the planner failed")
        self.took = time.monotonic() - began
        return self.judgement.option.pick

    def compression(self, plan: Plan) -> Mapping[str, Compression]:
        self.streams = execution.compression(plan, self._loop.monitor.analysis, self.mind.settings)
        return self.streams


class Loop:
    """Advises the orchestrator with one planner. Make it with `begin`."""

    def __init__(
        self, knowledge: Knowledge, overview: Overview, clock: Clock, mind: Mind, memories: Mapping[str, Memory]
    ) -> None:
        self._knowledge = knowledge
        self._overview = overview
        self._clock = clock
        self._life = uuid.uuid4().hex
        self._own = (mind.learner.name, mind.options)
        self._memories = dict(memories)
        self._saved = 0
        self.mind = mind
        self.monitor = Monitor(mind.settings)
        self._expects = Experiences(mind.settings, Weighing())
        self._advice: OrderedDict[str, Advice] = OrderedDict()
        self._decided: OrderedDict[str, Decision] = OrderedDict()
        overview.on_heard(self._hear)
        self._recall()

    @classmethod
    async def begin(
        cls, kb: KnowledgeBase, overview: Overview, name: str, options: Mapping[str, Any], *, clock: Clock | None = None
    ) -> Loop:
        """Make a loop whose planner knows what it had learned before. Raises Mistakes for wrong options."""
        mind, knowledge = think(name, options), Knowledge(kb)
        return cls(knowledge, overview, clock or SystemClock(), mind, await knowledge.load())

    @property
    def planners(self) -> dict[str, dict[str, Any]]:
        """The planners that there are, each with the JSON Schema of its options."""
        return {name: kind.Options.model_json_schema(by_alias=True) for name, kind in registry.known().items()}

    def use(self, planner: str, options: Mapping[str, Any]) -> None:
        """Have this planner decide from now on; "" is that of the settings. Raises Mistakes for a wrong one.

        When something counts as a symptom is as it was: readings and their history go on.
        """
        name, wanted = (planner, dict(options)) if planner else self._own
        if (name, wanted) == (self.mind.learner.name, self.mind.options):
            return
        mind = think(name, wanted)
        if (memory := self._memory()) is not None:
            self._memories[memory["planner"]] = memory
        self.mind.guard.close()
        mind.number = self.mind.number
        self.mind = mind
        self._recall()

    def monitored(self) -> dict[str, Any]:
        """Give everything that is known now: `parties` and `links` by name, `symptoms`, and what came last."""
        return self.monitor.as_json(self.now)

    @property
    def works(self) -> Sequence[Work]:
        return (self._knowledge.follow, self._keep)

    @property
    def now(self) -> float:
        """Seconds since 1970."""
        return self._clock.now().timestamp()

    def planner(self, request: Request, job: str) -> Advice:
        advice = self._advice[job] = Advice(self, request, job)
        self._advice.move_to_end(job)
        _bound(self._advice)
        return advice

    def situation(self, request: Request, question: Question, job: str) -> Situation:
        """Give what is known of everything that the question is about."""
        at = self.now
        options = options_of(question)
        places = {place for option in options for place in option.places}
        ways = {way for option in options for way in option.ways}
        revision = self._overview.revision
        self.monitor.revise(revision, at)
        return Situation(
            job=job,
            at=at,
            type=request.type,
            shape=shape_of(request),
            options=options,
            parties=self.monitor.parties(at, places),
            links=self.monitor.links(at, ways),
            symptoms=self.monitor.symptoms(at, places | ways),
            revision=revision,
        )

    def planned(self, job: Job) -> None:
        advice = self._advice.pop(job.id, None)
        if job.plan is None or advice is None or advice.situation is None or advice.judgement is None:
            return
        self.monitor.begin(job.id, job.plan.parties)
        mind, situation, judgement = advice.mind, advice.situation, advice.judgement
        if mind is self.mind:
            mind.number += 1
            mind.guard.tell(lambda: mind.learner.decided(situation, judgement))
        expected = judgement.predictions.get(judgement.option.name)
        decision = Decision(
            life=self._life,
            at=situation.at,
            number=mind.number,
            seen=advice.seen,
            job=job.id,
            user=job.user,
            planner=mind.learner.name,
            version=mind.learner.version,
            memory=advice.memory,
            revision=job.decision.revision,
            situation=situation,
            judgement=judgement,
            refused=advice.refused,
            again=job.id in self._decided,
            compression=dict(advice.streams),
            expected=expected or self._expects.predict(situation, judgement.option),
            took_ms=round(advice.took * 1e3, 3),
        )
        self._decided[job.id] = decision
        _bound(self._decided)
        self._knowledge.write(decision)

    def outdated(self, job: Job) -> bool:
        """A job that waits is planned again where something speaks against its places that did not before."""
        decision = self._decided.get(job.id)
        if decision is None:
            return False
        before = {(each.kind, each.subject) for each in decision.situation.symptoms}
        places = decision.judgement.option.places
        return any(
            each.kind in AVOIDED and (each.kind, each.subject) not in before
            for each in self.monitor.symptoms(self.now, places)
        )

    def ended(self, job: Job) -> None:
        at, mind = self.now, self.mind
        self._advice.pop(job.id, None)
        self.monitor.end(job, at)
        decision = self._decided.pop(job.id, None)
        if decision is None:
            return
        option, situation = decision.judgement.option, decision.situation
        experience = execution.experience_of(job, situation, option, mind.settings)
        if experience is not None:
            mind.number += 1
            mind.memory = decisions.chained(mind.memory, experience)
            mind.guard.tell(lambda: mind.learner.learn(experience))
            self._expects.add(experience)
        error = (job.error or {}).get("message", "")
        self._knowledge.write(
            Effect(
                life=self._life, at=at, number=mind.number, job=job.id, state=str(job.state), experience=experience,
                error=str(error),
            )
        )  # fmt: skip

    async def close(self) -> None:
        await self._knowledge.close(self._memory())
        self.mind.guard.close()

    def _recall(self) -> None:
        """Have the planner know what it had learned, and write down what it begins with."""
        mind = self.mind
        kept = self._memories.get(mind.learner.name, {})
        memory = dict(kept.get("memory") or {}) if kept.get("version") == mind.learner.version else {}
        try:
            mind.guard.ask(lambda: registry.recalled(mind.learner, memory), within=RECALL_SECONDS)
        except DynamosError as error:
            log.warning("planner.forgot planner=%s error=%s", mind.learner.name, error)
            memory = {}
            mind.guard.tell(lambda: mind.learner.recall({}))
        started = Started(
            life=self._life,
            at=self.now,
            number=mind.number,
            planner=mind.learner.name,
            version=mind.learner.version,
            options=mind.options,
            memory=memory,
        )
        mind.memory = started.memory_digest
        self._knowledge.write(started)

    async def _keep(self) -> None:
        """Save what was learned every few seconds where there was something, until cancelled."""
        while True:
            await asyncio.sleep(SAVE_SECONDS)
            mind, number = self.mind, self.mind.number
            if number == self._saved:
                continue
            answer = asyncio.wrap_future(mind.guard.promise(mind.learner.remember))
            try:
                async with asyncio.timeout(SAVE_SECONDS):
                    memory = await answer
            except Exception as error:  # noqa: BLE001  whatever a planner raises, or nothing at all
                log.warning("planner.dumb planner=%s error=%r", mind.learner.name, error)
                continue
            if await self._knowledge.save(kept(mind.learner, memory)):
                self._saved = number

    def _memory(self) -> Memory | None:
        """Give what the planner has learned, as it is saved; None where it cannot tell."""
        mind = self.mind
        try:
            return kept(mind.learner, mind.guard.ask(mind.learner.remember, within=RECALL_SECONDS))
        except DynamosError as error:
            log.warning("planner.dumb planner=%s error=%s", mind.learner.name, error)
            return None

    def _hear(self, party: str, presence: Presence | None) -> None:
        if presence is None:
            self.monitor.lose(party, self.now)
        else:
            self.monitor.hear(party, presence.load, self.now)


def kept(learner: Learner, memory: Memory) -> Memory:
    """Give what a planner has learned as it is saved."""
    return {"planner": learner.name, "version": learner.version, "memory": memory}


def think(name: str, options: Mapping[str, Any]) -> Mind:
    """Give a planner at work that has learned nothing. Raises Mistakes for a wrong name or options."""
    learner, settings = registry.make(name, options)
    return Mind(learner, settings, dict(options), Guard(name))


def checked(judgement: Judgement, question: Question, planner: str) -> Judgement:
    """Give the judgement. Raises Refused for one that picks what is not permitted, or is none."""
    if not isinstance(judgement, Judgement):
        raise Refused(f"the planner {planner!r} answered with no judgement", code="planner-forbidden")
    if not question.permits(judgement.option.pick):
        what = f"the planner {planner!r} picked {judgement.option.pick.name}, which is not permitted"
        raise Refused(what, code="planner-forbidden")
    return judgement


async def advise(config: OrchestratorConfig, kb: KnowledgeBase, overview: Overview) -> Loop:
    """Give the orchestrator's adviser, with the planner of its settings."""
    return await Loop.begin(kb, overview, config.settings.planner, config.settings.planner_options)


def _bound(kept: OrderedDict[str, Any]) -> None:
    while len(kept) > REMEMBERED:
        kept.popitem(last=False)
