"""Monitoring: what the orchestrator learns of parties and ways by itself, each reading with the time it was made."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dynamos.adaptation.analysis import Analysis
from dynamos.adaptation.failures import blamed
from dynamos.adaptation.settings import LoopSettings
from dynamos.adaptation.situations import LinkReading, PartyReading, Symptom
from dynamos.middleware.messages import Load
from dynamos.model.jobs import Job, PartReport, State
from dynamos.model.plans import REQUESTOR, Plan

LEAST_BYTES = 256 << 10
"""A stream of fewer bytes fits into buffers, and tells nothing of its way."""
REMEMBERED = 256


@dataclass(frozen=True, slots=True)
class Stages:
    """How long the stages of an ended job took, in milliseconds, and when it ended."""

    job: str
    at: float
    timings: dict[str, float]


class Monitor:
    """Takes readings as they come, and gives them with their ages. Times are seconds since 1970, handed in."""

    def __init__(self, settings: LoopSettings) -> None:
        self._settings = settings
        self.analysis = Analysis(settings)
        self._loads: dict[str, tuple[Load, float]] = {}
        self._rates: dict[str, tuple[float, float]] = {}
        self._ours: Counter[str] = Counter()
        self._under_way: dict[str, tuple[str, ...]] = {}
        self.stages: deque[Stages] = deque(maxlen=REMEMBERED)
        self.revisions: deque[tuple[float, str]] = deque(maxlen=REMEMBERED)

    def hear(self, party: str, load: Load | None, at: float) -> None:
        """Take what a party says of itself."""
        if load is None:
            self.analysis.regain(party)
            return
        self._loads[party] = load, at
        self.analysis.take_load(party, load.level, load.memory_share, at)

    def lose(self, party: str, at: float) -> None:
        """Take note that a party has gone: what it has said says nothing any more."""
        self._loads.pop(party, None)
        self.analysis.lose(party, at)

    def revise(self, revision: str, at: float) -> None:
        """Take note of the policy's revision."""
        if not self.revisions or self.revisions[-1][1] != revision:
            self.revisions.append((at, revision))

    def begin(self, job: str, parties: tuple[str, ...]) -> None:
        """Count a job's parts as under way, in place of those that it had."""
        self.forget(job)
        self._under_way[job] = parties
        self._ours.update(parties)

    def forget(self, job: str) -> None:
        """Count a job's parts no more."""
        self._ours.subtract(self._under_way.pop(job, ()))

    def end(self, job: Job, at: float) -> None:
        """Take how a job went: its stages, what its streams say of the ways they went, and who failed at it."""
        self.forget(job.id)
        for place, code in blamed(job).items():
            self.analysis.take_failure(place, code, at)
        if job.state == State.SUCCEEDED and job.plan is not None:
            for place in set(job.plan.compute.values()):
                self.analysis.take_success(place, at)
        self.stages.append(Stages(job.id, at, dict(job.timings)))
        for report in job.parts.values():
            for way, rate in rates(job.plan, report):
                self._rates[way] = rate, at
                self.analysis.take_rate(way, rate, at)

    def parties(self, at: float, names: Iterable[str] | None = None) -> dict[str, PartyReading]:
        """Give the reading of every party (or of these) that says how busy it is."""
        bound, found = float(self._settings.stale), {}
        for party in self._loads if names is None else names:
            if (told := self._loads.get(party)) is not None:
                load, since = told
                found[party] = PartyReading(
                    parts=load.parts,
                    ours=max(0, self._ours[party]),
                    capacity=load.capacity,
                    cpu=load.cpu,
                    memory=load.memory_share,
                    age=round(max(0.0, at - since), 3),
                    stale=at - since > bound,
                )
        return found

    def links(self, at: float, ways: Iterable[str] | None = None) -> dict[str, LinkReading]:
        """Give the reading of every way (or of these) that a large stream went.

        Of one that is too old, its symptom goes too: the next stream is sent uncompressed, and tells again.
        """
        bound, found = float(self._settings.stale_link), {}
        for way in self._rates if ways is None else ways:
            if (told := self._rates.get(way)) is not None:
                rate, since = told
                if at - since > bound:
                    self.analysis.drop("slow-link", way)
                age = round(max(0.0, at - since), 3)
                found[way] = LinkReading(rate=round(rate, 1), age=age, stale=at - since > bound)
        return found

    def symptoms(self, at: float, subjects: Iterable[str] | None = None) -> tuple[Symptom, ...]:
        """Give every symptom (or those of these), and which loads are too old to rely on."""
        bound = float(self._settings.stale)
        asked = None if subjects is None else set(subjects)
        stale = [
            Symptom(kind="stale", subject=party, since=since, fact=f"said nothing for {at - since:.1f} s")
            for party in (self._loads if asked is None else sorted(asked))
            if (since := self._loads.get(party, (None, at))[1]) + bound < at
        ]
        return (*self.analysis.symptoms(at, asked), *stale)

    def as_json(self, at: float) -> dict[str, Any]:
        """Give everything that is known now."""
        return {
            "at": at,
            "parties": {name: reading.as_json() for name, reading in self.parties(at).items()},
            "links": {name: reading.as_json() for name, reading in self.links(at).items()},
            "symptoms": [symptom.as_json() for symptom in self.symptoms(at)],
            "jobs": [{"job": each.job, "at": each.at, "timings": each.timings} for each in self.stages],
            "revisions": [{"at": moment, "revision": revision} for moment, revision in self.revisions],
        }


def rates(plan: Plan | None, report: PartReport) -> list[tuple[str, float]]:
    """Give the bytes per second of every large uncompressed stream to another party, by its way."""
    targets = {edge.name: edge.target_party for edge in plan.edges if edge.crosses} if plan else {}
    return [
        (f"{report.party}>{targets[sent.edge]}", sent.bytes / sent.way_ms * 1e3)
        for sent in report.transfers
        if targets.get(sent.edge, REQUESTOR) != REQUESTOR
        and sent.bytes >= LEAST_BYTES
        and sent.way_ms > 0
        and sent.compression == "none"
    ]
