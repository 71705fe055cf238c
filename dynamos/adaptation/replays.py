"""Replays: the recorded log through a planner, again. The same planner decides the same; another one, as it would."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dynamos.adaptation import decisions
from dynamos.adaptation.decisions import Decision, Effect, Record, Started
from dynamos.adaptation.planners import registry
from dynamos.adaptation.planners.protocol import Learner
from dynamos.adaptation.situations import Judgement


@dataclass(frozen=True, slots=True)
class Replayed:
    """One decision, and what the planner says now. `problem` tells why it cannot be compared."""

    recorded: Decision
    now: Judgement | None
    problem: str = ""

    @property
    def same(self) -> bool:
        return self.now is not None and self.now.option.name == self.recorded.judgement.option.name


@dataclass(frozen=True, slots=True)
class Summary:
    """How many decisions were the same, which differed, and which could not be compared, with the reason."""

    same: int
    different: tuple[Replayed, ...]
    skipped: tuple[Replayed, ...]
    picks: dict[str, int]


def replay(records: Iterable[Record], *, planner: str = "", options: Mapping[str, Any] | None = None) -> list[Replayed]:
    """Give every decision of a log with what the planner says now: the recorded one, or `planner` with `options`.

    Each life of the orchestrator begins with what was known then; another planner begins with nothing, and learns what
    the log lets it learn: only of the options that were really taken. Raises Mistakes for a wrong planner.
    """
    found: list[Replayed] = []
    for life in _lives(records):
        found += _Life(life, planner, options or {}).play()
    return found


def summary(replayed: Iterable[Replayed]) -> Summary:
    """Sum a replay up."""
    rows = list(replayed)
    compared = [row for row in rows if not row.problem]
    return Summary(
        same=sum(row.same for row in compared),
        different=tuple(row for row in compared if not row.same),
        skipped=tuple(row for row in rows if row.problem),
        picks=dict(Counter(row.now.option.name for row in compared if row.now)),
    )


class _Life:
    """The records from one start of a planner to the next."""

    def __init__(self, records: list[Record], planner: str, options: Mapping[str, Any]) -> None:
        self._records = records
        self._started = records[0] if isinstance(records[0], Started) else None
        self._other = bool(planner)
        self._problem = ""
        self._learner = self._make(planner, options)
        self._memory = self._started.memory_digest if self._started else ""

    def play(self) -> list[Replayed]:
        """Ask and tell the planner in the order in which it was asked and told."""
        asked = sorted(
            (record for record in self._records if isinstance(record, Decision)),
            key=lambda record: (record.seen, record.number),
        )
        told = sorted(
            (r for r in self._records if isinstance(r, Decision) or (isinstance(r, Effect) and r.experience)),
            key=lambda record: record.number,
        )
        found, place = [], 0
        for decision in asked:
            while place < len(told) and told[place].number <= decision.seen:
                self._tell(told[place])
                place += 1
            found.append(self._ask(decision))
        return found

    def _make(self, planner: str, options: Mapping[str, Any]) -> Learner | None:
        if self._other:
            return registry.make(planner, options)[0]
        if self._started is None:
            self._problem = "the log does not have the start of this planner"
            return None
        if self._started.planner not in registry.known():
            self._problem = f"the planner {self._started.planner!r} is not installed here"
            return None
        learner = registry.make(self._started.planner, self._started.options)[0]
        if learner.version != self._started.version:
            self._problem = f"{learner.name} has version {learner.version} now, and had {self._started.version}"
        registry.recalled(learner, self._started.memory)
        return learner

    def _ask(self, decision: Decision) -> Replayed:
        if self._learner is None:
            return Replayed(decision, None, self._problem)
        now = self._learner.judge(decision.situation)
        if self._other:
            return Replayed(decision, now)
        if decision.refused:
            return Replayed(decision, now, f"then: {decision.refused}")
        if decision.memory != self._memory:
            return Replayed(decision, now, "the log lacks something that the planner had learned")
        return Replayed(decision, now, self._problem)

    def _tell(self, record: Record) -> None:
        if self._learner is None:
            return
        if isinstance(record, Decision):
            self._learner.decided(record.situation, record.judgement)
        elif isinstance(record, Effect) and record.experience is not None:
            self._learner.learn(record.experience)
            self._memory = decisions.chained(self._memory, record.experience)


def _lives(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Give the records of each start apart; several orchestrators may have written at once."""
    current: dict[str, list[Record]] = {}
    for record in records:
        if isinstance(record, Started) and record.life in current:
            yield current.pop(record.life)
        current.setdefault(record.life, []).append(record)
    yield from current.values()
