"""Comparisons: two runs of one experiment side by side: what was different, and what changed by more than noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dynamos.experiments import environments, pages, wordings
from dynamos.experiments.analyses import by_cell, key
from dynamos.experiments.factors import Cell, Factor, written
from dynamos.experiments.measures import Measure
from dynamos.experiments.outcomes import Outcomes
from dynamos.experiments.runs import Run
from dynamos.experiments.scripts import Experiment
from dynamos.experiments.statistics import Contrast, Sample, Summary, contrast, corrected, summarise
from dynamos.kit.errors import BadInput, Mistake, Mistakes


@dataclass(frozen=True, slots=True)
class Side:
    """A run with the experiment that its own script declares."""

    run: Run
    experiment: Experiment

    @property
    def outcomes(self) -> Outcomes:
        return Outcomes.of(self.run.records())


@dataclass(frozen=True, slots=True)
class Pair:
    """A measure in a cell that both runs have: before, after, and the change. Words and truths have only counts."""

    measure: Measure
    cell: Cell
    before: Summary | None
    after: Summary | None
    counts: tuple[Mapping[str, int], Mapping[str, int]]
    contrast: Contrast | None

    @property
    def differs(self) -> bool:
        """Tell whether the change exceeds noise; of words and truths, whether others were read."""
        if self.measure.numeric:
            return wordings.verdict(self.contrast, self.measure)[1] in ("better", "worse", "other")
        return set(self.counts[0]) != set(self.counts[1])


@dataclass(frozen=True, slots=True)
class Difference:
    """Something beside the readings that is not the same in both runs."""

    what: str
    before: str
    after: str


@dataclass(frozen=True)
class Comparison:
    """Two runs side by side, the older as it was given first."""

    before: Side
    after: Side
    differences: tuple[Difference, ...]
    pairs: tuple[Pair, ...]
    only_before: tuple[Cell, ...] = ()
    only_after: tuple[Cell, ...] = ()
    factors: Sequence[Factor] = field(default=())

    @property
    def exceeding(self) -> tuple[Pair, ...]:
        """The changes that exceed noise."""
        return tuple(pair for pair in self.pairs if pair.differs)

    @property
    def untold(self) -> tuple[Pair, ...]:
        """Where there are too few readings to tell."""
        return tuple(pair for pair in self.pairs if wordings.verdict(pair.contrast, pair.measure)[1] == "few")

    def of(self, measure: Measure) -> tuple[Pair, ...]:
        return tuple(pair for pair in self.pairs if pair.measure == measure)

    @property
    def measures(self) -> tuple[Measure, ...]:
        """What both runs measure, the main ones first."""
        found = dict.fromkeys(pair.measure for pair in self.pairs)
        return tuple(sorted(found, key=lambda measure: not measure.main))

    def as_dict(self) -> dict[str, Any]:
        """Give JSON-ready members."""
        return {
            "experiment": self.before.experiment.name,
            "runs": [side.run.folder.name for side in (self.before, self.after)],
            "differences": [{"what": d.what, "before": d.before, "after": d.after} for d in self.differences],
            "onlyBefore": [dict(cell) for cell in self.only_before],
            "onlyAfter": [dict(cell) for cell in self.only_after],
            "exceeding": len(self.exceeding),
            "cells": [_as_dict(pair) for pair in self.pairs],
        }


def compare(before: Side, after: Side) -> Comparison:
    """Set two runs side by side, cell by cell. Readings of one are no pairs of the other's: Mann and Whitney's test.

    Raises BadInput where they are of different experiments, Mistakes where a measure has another unit in each.
    """
    names = [side.experiment.name for side in (before, after)]
    if names[0] != names[1]:
        raise BadInput(
            f"these are runs of different experiments: {names[0]} and {names[1]}",
            where=after.run.folder.name,
            hint="compare two runs of one experiment",
        )
    measures = _measures(before.experiment, after.experiment)
    factors = _factors(before.experiment, after.experiment)
    cells = [{key(cell): some.done for cell, some in by_cell(side.outcomes, factors)} for side in (before, after)]
    order = [cell for cell, _ in by_cell(Outcomes((*before.outcomes, *after.outcomes)), factors)]
    both = [cell for cell in order if all(key(cell) in some for some in cells)]
    pairs = [pair for measure in measures for pair in _pairs(measure, both, *cells, seed=before.run.plan.seed)]
    return Comparison(
        before, after, tuple(_differences(before, after)), tuple(pairs),
        tuple(cell for cell in order if key(cell) not in cells[1]),
        tuple(cell for cell in order if key(cell) not in cells[0]), factors,
    )  # fmt: skip


def write(comparison: Comparison, path: Path) -> Path:
    """Write the page of a comparison. Raises Full."""
    return pages.write(path, "comparison.html.j2", c=comparison, experiment=comparison.before.experiment,
                       names=[side.run.folder.name for side in (comparison.before, comparison.after)],
                       change=wordings.change, verdict=wordings.verdict)  # fmt: skip


def _pairs(
    measure: Measure,
    cells: Sequence[Cell],
    before: Mapping[Any, Outcomes],
    after: Mapping[Any, Outcomes],
    *,
    seed: int,
) -> list[Pair]:
    found = []
    for cell in cells:
        old, new = before[key(cell)], after[key(cell)]
        if not measure.numeric:
            found.append(Pair(measure, cell, None, None, (_counts(old, measure), _counts(new, measure)), None))
            continue
        samples = [some.values(measure.name) for some in (old, new)]
        blocks: list[Sample] = [
            {(side, at): value for at, value in enumerate(some)} for side, some in enumerate(samples)
        ]
        one, other = (summarise(some, seed=seed) for some in samples)
        found.append(Pair(measure, cell, one, other, ({}, {}), contrast(blocks[1], blocks[0], seed=seed)))
    contrasts = corrected([pair.contrast for pair in found])
    return [replace(pair, contrast=each) for pair, each in zip(found, contrasts, strict=True)]


def _counts(outcomes: Outcomes, measure: Measure) -> dict[str, int]:
    words = {True: "yes", False: "no"}
    read = [value for value in outcomes.readings(measure.name) if value is not None]
    told = [words[value] if isinstance(value, bool) else str(value) for value in read]
    return {word: told.count(word) for word in sorted(set(told))}


def _measures(before: Experiment, after: Experiment) -> list[Measure]:
    theirs = {measure.name: measure for measure in after.measures}
    shared = [measure for measure in before.measures if measure.name in theirs]
    wrong = [
        Mistake(each.name, f"{each.name!r} is in {each.unit} in one run, in {theirs[each.name].unit} in the other")
        for each in shared
        if theirs[each.name].unit != each.unit
    ]
    if wrong:
        raise Mistakes(wrong, subject="the comparison")
    return shared


def _factors(before: Experiment, after: Experiment) -> list[Factor]:
    known = [factor.name for factor in before.factors]
    return [*before.factors, *(factor for factor in after.factors if factor.name not in known)]


def _differences(before: Side, after: Side) -> list[Difference]:
    """Give what else differs: how the runs were planned, what they ran on, and with which versions."""
    plans = [_planned(side.run) for side in (before, after)]
    surroundings = [
        {name: told for name, told in (environments.read(side.run) or {}).items() if name in _SURROUNDINGS}
        for side in (before, after)
    ]
    told = [*environments.changes(plans[0], plans[1]), *environments.changes(surroundings[0], surroundings[1])]
    return [Difference(each["what"], _said(each["was"]), _said(each["is"])) for each in told]


_SURROUNDINGS = ("machine", "kernel", "python", "packages", "programs", "source", "policy")


def _planned(run: Run) -> dict[str, Any]:
    choices = {name: value for name, value in run.choices.items() if name != "seed"}
    return {"seed": run.plan.seed, "repetitions": run.plan.repetitions, **run.plan.settings, "choices": choices}


def _said(value: Any) -> str:
    if value in (None, "", [], {}):
        return wordings.NOTHING
    if isinstance(value, bool):
        return written(value)
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return f"{text[:12]}…" if len(text) == 64 and text.isalnum() else text  # noqa: PLR2004  a digest


def _as_dict(pair: Pair) -> dict[str, Any]:
    told: dict[str, Any] = {"measure": pair.measure.name, "unit": pair.measure.unit, "cell": dict(pair.cell)}
    if not pair.measure.numeric:
        return told | {"before": dict(pair.counts[0]), "after": dict(pair.counts[1]), "differs": pair.differs}
    for name, side in (("before", pair.before), ("after", pair.after)):
        low_high = [side.median.low, side.median.high] if side else None
        told[name] = {"n": side.n, "median": side.median.value, "interval": low_high} if side else None
    found = pair.contrast
    if found:
        told |= {
            "ratio": found.ratio._asdict() if found.ratio else None,
            "difference": found.difference._asdict(),
            "delta": found.delta,
            "p": found.p,
            "adjusted": found.adjusted,
            "verdict": str(found.verdict),
        }
    return told | {"differs": pair.differs}
