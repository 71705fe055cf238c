"""Analyses: one measure cell by cell, each cell beside its baseline, and what each factor does. Pure."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

from dynamos.experiments.designs import is_baseline
from dynamos.experiments.factors import Cell, Factor, Level
from dynamos.experiments.measures import Measure
from dynamos.experiments.outcomes import Outcomes
from dynamos.experiments.records import Record
from dynamos.experiments.statistics import (
    Contrast,
    Sample,
    Spread,
    Summary,
    aligned,
    contrast,
    corrected,
    spread,
    summarise,
)

Key = tuple[tuple[str, Level], ...]
"""A cell that can be looked up."""


@dataclass(frozen=True, slots=True)
class Row:
    """One cell: what its readings come to, beside those of its baseline. Of words and truths there are only counts."""

    cell: Cell
    values: tuple[float, ...]
    summary: Summary | None
    counts: Mapping[str, int]
    baseline: bool
    against: Cell | None = None
    contrast: Contrast | None = None


@dataclass(frozen=True, slots=True)
class Effect:
    """What a level does beside the reference level of its factor, all other factors and the repetition being equal."""

    factor: Factor
    level: Level
    reference: Level
    contrast: Contrast


@dataclass(frozen=True, slots=True)
class Analysis:
    """Everything that is told of one measure."""

    measure: Measure
    rows: tuple[Row, ...]
    effects: tuple[Effect, ...]
    spreads: Mapping[str, Spread]
    """By factor that has several levels: whether it matters at all."""
    baseline: Cell
    n: int
    """How many readings there are."""


def analyse(
    outcomes: Outcomes,
    factors: Sequence[Factor],
    measure: Measure,
    baseline: Cell,
    *,
    seed: int = 0,
    cells: bool = True,
) -> Analysis:
    """Tell all of one measure: its cells in the order of the factors' levels, and the factors' effects.

    Without `cells`, which take time where they are hundreds, only the effects of a measure of numbers.
    """
    n = sum(value is not None for value in outcomes.readings(measure.name))
    if not measure.numeric:
        grouped = by_cell(outcomes.done, factors)
        return Analysis(measure, tuple(_counted(*each, measure, baseline) for each in grouped), (), {}, baseline, n)
    rows = _compared(by_cell(outcomes.done, factors), measure, baseline, seed) if cells else ()
    varied = [factor for factor in factors if len(outcomes.done.levels(factor.name)) > 1]
    found = [effect for factor in varied for effect in _effects(outcomes, factor, measure, baseline, seed)]
    contrasts = corrected([effect.contrast for effect in found])
    effects = tuple(replace(effect, contrast=each) for effect, each in zip(found, contrasts, strict=True) if each)
    spreads = {factor.name: _spread(outcomes, factor.name, measure.name) for factor in varied}
    return Analysis(measure, rows, effects, spreads, baseline, n)


def by_cell(outcomes: Outcomes, factors: Sequence[Factor]) -> list[tuple[Cell, Outcomes]]:
    """Group by cell, in the order in which the factors and their levels are declared; numbers ascend."""
    found: dict[Key, list[int]] = {}
    for at, record in enumerate(outcomes):
        found.setdefault(key(record.cell), []).append(at)
    names = [factor.name for factor in factors]
    groups = [
        (
            dict(sorted(each, key=lambda level: names.index(level[0]) if level[0] in names else len(names))),
            Outcomes(tuple(outcomes.records[at] for at in some)),
        )
        for each, some in found.items()
    ]
    return sorted(groups, key=lambda group: _place(group[0], factors))


def key(cell: Cell) -> Key:
    """Give a cell as a key, the same whatever the order of its factors."""
    return tuple(sorted(cell.items()))


def baseline_of(cell: Cell, cells: Sequence[Cell], baseline: Cell) -> Cell | None:
    """Give the cell with the baseline's levels and otherwise those of `cell`; factors that only one of the two has do
    not count. None where there is no one such cell, or it is `cell` itself."""
    if not baseline or is_baseline(cell, baseline):
        return None
    shared = [
        each
        for each in cells
        if is_baseline(each, baseline)
        and all(each[name] == level for name, level in cell.items() if name in each and name not in baseline)
    ]
    return shared[0] if len(shared) == 1 else None


def sample(outcomes: Outcomes, measure: str, *, but: str = "") -> Sample:
    """Give a measure's readings by repetition and cell, the factor named in `but` left out."""
    found: dict[Hashable, float] = {}
    for record in outcomes.done:
        if (value := _number(record, measure)) is not None:
            rest = {name: level for name, level in record.cell.items() if name != but}
            found[record.repetition, key(rest)] = value
    return found


def _blocks(outcomes: Outcomes, measure: str) -> Sample:
    """Give the readings of one cell by their repetition."""
    return {record.repetition: value for record in outcomes.done if (value := _number(record, measure)) is not None}


def _number(record: Record, measure: str) -> float | None:
    value = record.measures.get(measure)
    return None if value is None or isinstance(value, str) else float(value)


def _compared(grouped: Sequence[tuple[Cell, Outcomes]], measure: Measure, baseline: Cell, seed: int) -> tuple[Row, ...]:
    samples = {key(cell): _blocks(some, measure.name) for cell, some in grouped}
    cells = [cell for cell, _ in grouped]
    against = [baseline_of(cell, cells, baseline) for cell in cells]
    family = sum(each is not None for each in against)
    contrasts = corrected([
        contrast(samples[key(cell)], samples[key(base)], family=family, seed=seed) if base is not None else None
        for cell, base in zip(cells, against, strict=True)
    ])  # fmt: skip
    return tuple(
        Row(
            cell=cell,
            values=tuple(some.values(measure.name)),
            summary=summarise(some.values(measure.name), seed=seed),
            counts={},
            baseline=is_baseline(cell, baseline),
            against=base,
            contrast=each,
        )
        for (cell, some), base, each in zip(grouped, against, contrasts, strict=True)
    )


def _counted(cell: Cell, outcomes: Outcomes, measure: Measure, baseline: Cell) -> Row:
    words = {True: "yes", False: "no"}
    readings = [value for value in outcomes.readings(measure.name) if value is not None]
    told = [words[value] if isinstance(value, bool) else str(value) for value in readings]
    return Row(cell, (), None, dict(Counter(sorted(told))), is_baseline(cell, baseline))


def _effects(outcomes: Outcomes, factor: Factor, measure: Measure, baseline: Cell, seed: int) -> list[Effect]:
    """Compare every level with the baseline's, or with the first where there is no baseline."""
    name = factor.name
    levels = sorted(outcomes.done.levels(name), key=lambda level: _rank(factor, level))
    reference = baseline[name] if baseline.get(name) in levels else levels[0]
    found = []
    for level in levels:
        if level != reference:
            mine, other = _matched(outcomes, measure.name, {name: level}, {name: reference})
            each = contrast(mine, other, pooled=True, seed=seed)
            found += [Effect(factor, level, reference, each)] if each else []
    return found


def _matched(outcomes: Outcomes, measure: str, mine: Cell, other: Cell) -> tuple[Sample, Sample]:
    """Give readings at one level, and beside each that of the same repetition and otherwise the same cell at another
    level. Factors that only one of the two cells has do not count: of several readings beside one, the median."""
    groups: dict[Key, list[Record]] = {}
    for record in outcomes.where(**other).done:
        groups.setdefault(key(record.cell), []).append(record)
    theirs = {each: _blocks(Outcomes(tuple(some)), measure) for each, some in groups.items()}
    cells = [dict(each) for each in theirs]
    bases: dict[Key, Cell | None] = {}
    found: dict[Hashable, list[float]] = {}
    beside: dict[Hashable, float] = {}
    for record in outcomes.where(**mine).done:
        if (own := key(record.cell)) not in bases:
            bases[own] = baseline_of(record.cell, cells, other)
        base, value = bases[own], _number(record, measure)
        reference = theirs[key(base)].get(record.repetition) if base is not None else None
        if base is not None and value is not None and reference is not None:
            block = (record.repetition, key(base))
            found.setdefault(block, []).append(value)
            beside[block] = reference
    return {block: statistics.median(values) for block, values in found.items()}, beside


def _spread(outcomes: Outcomes, factor: str, measure: str) -> Spread:
    """Tell whether a factor matters: over readings that were set beside the others of their block and other levels."""
    blocks: dict[Hashable, list[tuple[Level, float]]] = {}
    for level in outcomes.done.levels(factor):
        for block, value in sample(outcomes.where(**{factor: level}), measure, but=factor).items():
            blocks.setdefault(block, []).append((level, value))
    whole = [block for block in blocks.values() if len(block) > 1]
    sides = aligned([[value for _, value in block] for block in whole])
    levels: dict[Level, list[float]] = {}
    for whole_block, values in zip(whole, sides, strict=True):
        for (level, _), value in zip(whole_block, values, strict=True):
            levels.setdefault(level, []).append(value)
    return spread(list(levels.values()))


def _place(cell: Cell, factors: Sequence[Factor]) -> tuple[tuple[float, str], ...]:
    return tuple(_rank(factor, cell[factor.name]) if factor.name in cell else (-1.0, "") for factor in factors)


def _rank(factor: Factor, level: Level) -> tuple[float, str]:
    """Give where a level stands: numbers by size, others as declared."""
    if factor.open and isinstance(level, int | float):
        return (float(level), "")
    known = list(factor.all)
    return (float(known.index(level)) if level in known else float(len(known)), str(level))
