"""Forecasts: how long the rest of a sweep takes, by what was seen so far, else by what the script says is typical."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable
from typing import TypeAlias

from dynamos.experiments.choices import Prepared
from dynamos.experiments.designs import Trial
from dynamos.experiments.factors import Cell, Level
from dynamos.experiments.records import Record
from dynamos.experiments.scripts import levels_for
from dynamos.model.units import Duration

TESTBED_SECONDS = 5.0
"""What a testbed takes to be there, before one was made."""

Key: TypeAlias = tuple[tuple[str, Level], ...]


class Forecast:
    """What is left of a plan, in seconds."""

    def __init__(self, prepared: Prepared) -> None:
        experiment = prepared.experiment
        self._typical = float(Duration.parse(experiment.typical))
        self._lanes = experiment.parallel
        self._opens = experiment.needs != "nothing"
        self._stretch = _stretches(prepared)
        self._seen: dict[Key, list[float]] = {}
        self._openings: list[float] = []
        self._cells: Counter[Key] = Counter()
        self._stretches: Counter[int] = Counter()
        self._now = 0
        self.expect(prepared.plan.trials)

    def expect(self, trials: Iterable[Trial]) -> None:
        """Have these trials be all that is left."""
        left = list(trials)
        self._cells = Counter(_key(trial.cell) for trial in left)
        self._stretches = Counter(self._stretch[trial.number] for trial in left)

    def saw(self, record: Record) -> None:
        """Learn from a trial that ended, now or in an earlier sitting. One that was not tried teaches nothing."""
        if record.seconds:
            self._seen.setdefault(_key(record.cell), []).append(record.seconds)

    def ended(self, record: Record) -> None:
        """Learn from a trial, which is not left any more."""
        self.saw(record)
        self._now = self._stretch[record.number]
        self._cells[_key(record.cell)] -= 1
        self._stretches[self._now] -= 1

    def opened(self, seconds: float) -> None:
        """Learn what a testbed took to be there."""
        self._openings.append(seconds)

    @property
    def seconds(self) -> float:
        """What is left takes about so long."""
        everything = [value for values in self._seen.values() for value in values]
        usual = statistics.median(everything) if everything else self._typical
        each = sum(many * statistics.median(self._seen.get(key, [usual])) for key, many in self._cells.items() if many)
        openings = sum(1 for stretch, many in self._stretches.items() if many and stretch != self._now)
        opening = statistics.median(self._openings) if self._openings else TESTBED_SECONDS
        return each / self._lanes + (openings * opening if self._opens else 0.0)


def _stretches(prepared: Prepared) -> dict[int, int]:
    """Give for each trial in which stretch of trials on one testbed it is, counted from 1."""
    found: dict[int, int] = {}
    last, stretch = None, 0
    for trial in prepared.plan.trials:
        levels = levels_for(trial.cell, prepared.factors, "testbed")
        stretch += not stretch or levels != last
        last = levels
        found[trial.number] = stretch
    return found


def _key(cell: Cell) -> Key:
    return tuple(cell.items())
