"""Designs: from factors to an ordered list of trials, the same for the same seed. Pure.

A randomised complete block design, split by cost: every repetition is a block that has every cell once; within it,
the levels that are dear to change are in random order, and within each of them the cheaper ones (R. A. Fisher, *The
Design of Experiments*, 1935; F. Yates, 1935, for split plots). The baseline's cells are spread evenly among the rest.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dynamos.experiments.factors import CHANGES, Cell, Factor, Level, written
from dynamos.kit.digests import digest
from dynamos.kit.errors import Mistake, Mistakes
from dynamos.kit.words import suggest


@dataclass(frozen=True, slots=True)
class Trial:
    """One planned run of the trial function. Warm-up trials are not in any figure."""

    number: int
    repetition: int
    cell: Mapping[str, Level]
    warmup: bool = False
    baseline: bool = False

    @property
    def name(self) -> str:
        kind = "w" if self.warmup else "t"
        return f"{kind}{self.number:05d}"

    def as_dict(self) -> dict[str, Any]:
        told = {"number": self.number, "repetition": self.repetition, "cell": dict(self.cell)}
        return told | ({"warmup": True} if self.warmup else {}) | ({"baseline": True} if self.baseline else {})

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Trial:
        flags = {name: bool(told.get(name)) for name in ("warmup", "baseline")}
        return cls(told["number"], told["repetition"], dict(told["cell"]), **flags)


@dataclass(frozen=True, slots=True)
class Plan:
    """The trials in their order. Its digest is that of everything that decides about the order."""

    experiment: str
    seed: int
    repetitions: int
    trials: tuple[Trial, ...]
    settings: Mapping[str, str]
    """What else decides what a trial does: digests of the resolved profile and of the script."""

    @property
    def digest(self) -> str:
        return digest(self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        return {
            "experiment": self.experiment,
            "seed": self.seed,
            "repetitions": self.repetitions,
            "settings": dict(self.settings),
            "trials": [trial.as_dict() for trial in self.trials],
        }

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Plan:
        trials = tuple(Trial.of(each) for each in told["trials"])
        return cls(told["experiment"], told["seed"], told["repetitions"], trials, dict(told["settings"]))


def cells(factors: Sequence[Factor]) -> list[dict[str, Level]]:
    """Cross the factors: every combination that has a meaning, in the order of the levels."""
    found: list[dict[str, Level]] = [{}]
    for factor in factors:
        found = [wider for cell in found for wider in _widened(cell, factor)]
    return found


def chosen(factors: Sequence[Factor], picks: Mapping[str, Sequence[str]], *, quick: bool) -> tuple[Factor, ...]:
    """Give the factors with the levels that somebody picked, else those of a quick run.

    Raises Mistakes that names every unknown factor and level.
    """
    known = {factor.name: factor for factor in factors}
    mistakes = [
        Mistake("--set", f"there is no factor {name!r}", suggest(name, known) or f"there are {', '.join(known)}")
        for name in picks
        if name not in known
    ]
    found = []
    for factor in factors:
        levels: Sequence[Level] = factor.quick if quick else ()
        if factor.name in picks:
            levels = list(_parsed(factor, picks[factor.name], mistakes))
        found.append(_limited(factor, levels) if levels else factor)
    if mistakes:
        raise Mistakes(mistakes, subject="--set")
    return tuple(found)


def plan(
    experiment: str,
    factors: Sequence[Factor],
    *,
    repetitions: int,
    seed: int,
    warmups: int = 1,
    baseline: Cell | None = None,
    settings: Mapping[str, str] | None = None,
) -> Plan:
    """Put the trials in order: warm-ups at each change of testbed, blocks of all cells, dear levels changed least."""
    dice = random.Random(seed)  # noqa: S311  an order, not a secret
    everything = cells(factors)
    ranks = [[f.name for f in factors if f.changes == change] for change in CHANGES]
    trials: list[Trial] = []
    warm: Cell = {}
    for repetition in range(1, repetitions + 1):
        for dear in _shuffled(dice, _grouped(everything, ranks[0])):
            ordered = [cell for group in _shuffled(dice, _grouped(dear, ranks[1])) for cell in _shuffled(dice, group)]
            ordered = _spread(ordered, baseline or {})
            cold = not trials or any(warm.get(name) != ordered[0].get(name) for name in ranks[0])
            warm = ordered[0]
            for cell in (ordered * warmups)[: warmups if cold else 0]:
                trials.append(Trial(len(trials) + 1, repetition, cell, warmup=True))
            for cell in ordered:
                trials.append(Trial(len(trials) + 1, repetition, cell, baseline=is_baseline(cell, baseline or {})))
    return Plan(experiment, seed, repetitions, tuple(trials), dict(settings or {}))


def is_baseline(cell: Cell, baseline: Cell) -> bool:
    """Tell whether a cell belongs to the baseline: it has all of its levels."""
    return bool(baseline) and all(cell.get(name) == level for name, level in baseline.items())


def shown(cell: Cell) -> str:
    """Give a cell in one line: rows=1000 archetype=computeToData."""
    return " ".join(f"{name}={written(level)}" for name, level in cell.items())


def _widened(cell: dict[str, Level], factor: Factor) -> Iterator[dict[str, Level]]:
    levels = factor.levels_in(cell)
    if not levels:
        yield cell
    for level in levels:
        yield {**cell, factor.name: level}


def _parsed(factor: Factor, texts: Iterable[str], mistakes: list[Mistake]) -> Iterator[Level]:
    for text in texts:
        try:
            yield factor.parse(text)
        except ValueError as error:
            mistakes.append(Mistake("--set", str(error)))


def _limited(factor: Factor, levels: Sequence[Level]) -> Factor:
    """Give the factor with these levels only; of nested ones, those that are left beside each outer level."""
    own = factor.levels
    if isinstance(own, Mapping):
        new = [level for level in levels if level not in factor.all]  # a number of somebody's own goes with each
        kept = {outer: [level for level in some if level in levels] + new for outer, some in own.items()}
        return replace(factor, levels=kept, quick=())
    return replace(factor, levels=tuple(levels), quick=())


def _grouped(some: Iterable[Mapping[str, Level]], names: Sequence[str]) -> list[list[Mapping[str, Level]]]:
    groups: dict[tuple[Level | None, ...], list[Mapping[str, Level]]] = {}
    for cell in some:
        groups.setdefault(tuple(cell.get(name) for name in names), []).append(cell)
    return list(groups.values())


def _shuffled(dice: random.Random, some: Sequence[Any]) -> list[Any]:
    return dice.sample(some, len(some))


def _spread(ordered: Sequence[Mapping[str, Level]], baseline: Cell) -> list[Mapping[str, Level]]:
    """Set the baseline's cells evenly among the others, so that a drift of the machine meets both alike."""
    base = [cell for cell in ordered if is_baseline(cell, baseline)]
    rest = [cell for cell in ordered if not is_baseline(cell, baseline)]
    if not base or not rest:
        return list(ordered)
    places = [
        ((at + 0.5) / len(some), kind, cell) for kind, some in enumerate((base, rest)) for at, cell in enumerate(some)
    ]
    return [cell for _, _, cell in sorted(places, key=lambda place: place[:2])]
