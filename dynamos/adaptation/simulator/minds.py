"""Minds: the planners of the running system, told of a simulated marketplace what they would be told of a real one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from dynamos.adaptation.analysis import Analysis
from dynamos.adaptation.planners import registry
from dynamos.adaptation.simulator.jobs import Job
from dynamos.adaptation.simulator.sites import Sites
from dynamos.adaptation.situations import Experience, Judgement, PartyReading, Situation, options_of
from dynamos.knowledge.layouts import HEARTBEAT
from dynamos.planning.planners import Pick, Planner, Question, Weights

EPOCH = 1_700_000_000.0
"""When simulated time begins, in seconds since 1970: planners know no other time."""
_ROW = 3
"""No more readings in a row decide about a symptom."""


class Mind(Protocol):
    """A planner with what it is told. Only `planned` and `ended` let it learn."""

    @property
    def name(self) -> str: ...

    def pick(self, question: Question, job: Job, at: float) -> Pick:
        """Pick for a job."""
        ...

    def planned(self, job: Job) -> None:
        """Hear that a job runs under what was picked."""
        ...

    def ended(self, job: Job, at: float) -> None:
        """Hear that a job has ended; `failed` tells how."""
        ...


Make = Callable[[Sites], Mind]
"""Makes a mind, which may look at what the orchestrator knows of the sites, and at nothing else of them."""


@dataclass(slots=True)
class Plain:
    """A planner that is told nothing."""

    planner: Planner = field(default_factory=Weights)

    @property
    def name(self) -> str:
        return self.planner.name

    def pick(self, question: Question, job: Job, at: float) -> Pick:  # noqa: ARG002
        return self.planner.pick(question)

    def planned(self, job: Job) -> None: ...

    def ended(self, job: Job, at: float) -> None: ...


def plain(sites: Sites) -> Mind:  # noqa: ARG001
    """Plan by weights, without the loop around it: the fastest that there is."""
    return Plain()


class Minded:
    """A planner of the loop, by name. Raises Mistakes for a wrong name or options.

    A party is looked at when somebody asks about it: of heartbeats that came meanwhile, the last one counts for all.
    """

    def __init__(self, sites: Sites, name: str, options: Mapping[str, Any]) -> None:
        self._sites = sites
        self._learner, self._settings = registry.make(name, options)
        self._analysis = Analysis(self._settings)
        self._heard: dict[str, float] = {}
        self._ours: Counter[str] = Counter()
        self._judged: dict[Job, tuple[Situation, Judgement]] = {}
        self._number = 0
        self.name = name

    def pick(self, question: Question, job: Job, at: float) -> Pick:
        options = options_of(question)
        places = dict.fromkeys(place for option in options for place in option.places)
        readings = {place: self._read(place, at) for place in places}
        self._number += 1
        situation = Situation(
            job=f"s{self._number}",
            at=EPOCH + at,
            type=job.ask.kind,
            shape=f"{job.ask.kind} {'+'.join(sorted(question.choices))} {job.ask.unites}",
            options=options,
            parties=readings,
            symptoms=self._analysis.symptoms(EPOCH + at, places),
        )
        judgement = self._learner.judge(situation)
        self._judged[job] = situation, judgement
        return judgement.option.pick

    def planned(self, job: Job) -> None:
        self._learner.decided(*self._judged[job])
        self._ours.update(job.parties)

    def ended(self, job: Job, at: float) -> None:
        situation, judgement = self._judged.pop(job)
        self._ours.subtract(job.parties)
        if job.failed:
            return
        self._learner.learn(
            Experience(
                job=situation.job,
                type=situation.type,
                shape=situation.shape,
                option=judgement.option,
                seconds=max(0.0, at - job.started),
                way=job.way,
                moved=int(job.moved),
                bytes=int(job.moved),
                cpu=job.cpu,
                joules=job.cpu * self._settings.watts_per_core + job.moved * self._settings.joules_per_byte,
                level=situation.level(judgement.option),
            )
        )

    def _read(self, party: str, at: float) -> PartyReading:
        """Give what the party's last heartbeat said, and have its symptoms follow."""
        parts, places, age = self._sites.known(party, at)
        beat = at - age
        missed = round((beat - self._heard.get(party, beat - HEARTBEAT)) / HEARTBEAT)
        self._heard[party] = beat
        share = min(1.0, parts / places)
        ours = max(0, self._ours[party])
        for _ in range(min(missed, _ROW)):
            self._analysis.take_load(party, max(parts / places, share), 0.0, EPOCH + beat)
        return PartyReading(parts=parts, ours=ours, capacity=places, cpu=share, age=age)


def minded(name: str, options: Mapping[str, Any] | None = None) -> Make:
    """Give what makes the planner of that name, with these options."""
    return lambda sites: Minded(sites, name, options or {})
