"""Statistics: what readings come to, and whether two lots of them differ by more than noise. Numbers by SciPy. Pure.

Medians with percentile bootstrap intervals (B. Efron and R. Tibshirani, *An Introduction to the Bootstrap*, 1993; the
accelerated kind rests on a jackknife that fails for medians). Differences: Wilcoxon's signed ranks where readings come
in blocks, Mann and Whitney's otherwise; effect as Cliff's delta; Holm's correction (1979) over a whole table. Nothing
here depends on the order of the readings, and the same readings give the same figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from scipy import stats

ALPHA: Final = 0.05
CONFIDENCE: Final = 1 - ALPHA
RESAMPLES: Final = 4999
FEW: Final = 3
"""Fewer readings than this give no interval and no test."""
_EXACT_UP_TO = 10
"""So many readings on each side, with ties among them, are still permuted one by one."""

Sample: TypeAlias = Mapping[Hashable, float]
"""Readings by their block: those of two samples under the same block were taken side by side."""


class Estimate(NamedTuple):
    """A figure with its interval, which is missing where there are too few readings for one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """What the readings of one measure in one cell come to, in its unit."""

    n: int
    median: Estimate
    lower: float
    upper: float
    """The quartiles."""
    least: float
    most: float

    @property
    def note(self) -> str:
        """What a reader must know of so few readings, or of equal ones."""
        if self.n < FEW:
            return "one reading" if self.n == 1 else f"{self.n} readings: no interval"
        return "the same every time" if self.least == self.most else ""


class Verdict(StrEnum):
    """What a comparison comes to."""

    MORE = "more"
    LESS = "less"
    NOISE = "no difference beyond noise"
    FEW = "too few readings to tell"


@dataclass(frozen=True, slots=True)
class Contrast:
    """One sample against another. `ratio` is missing where a reading is not above zero; only then has `difference` an
    interval. `delta` is Cliff's: 1 where
    every reading of the first is above every one of the second, -1 where below; of pooled ones, within their blocks."""

    n: int
    other: int
    pairs: int
    ratio: Estimate | None
    difference: Estimate
    delta: float
    test: str = ""
    """Which test it was; empty where there was none."""
    p: float | None = None
    least: float = 1.0
    """The smallest p that so few readings can give."""
    adjusted: float | None = None
    """p after the correction for the table's other comparisons."""
    tellable: bool = True
    """Whether so many readings could show a difference in this table at all."""

    @property
    def verdict(self) -> Verdict:
        if self.adjusted is None or (self.adjusted >= ALPHA and not self.tellable):
            return Verdict.FEW
        if self.adjusted >= ALPHA or self.difference.value == 0:
            return Verdict.NOISE
        return Verdict.MORE if self.difference.value > 0 else Verdict.LESS

    @property
    def leans(self) -> bool:
        """Tell whether the interval, taken by itself, leaves out that there is no difference."""
        found, none = (self.ratio, 1.0) if self.ratio else (self.difference, 0.0)
        return found.low is not None and found.high is not None and not found.low <= none <= found.high

    @property
    def apart(self) -> bool:
        """Tell whether no reading of one is among those of the other."""
        return abs(self.delta) == 1


class Spread(NamedTuple):
    """Whether any of several samples differs from the others: Kruskal and Wallis' test; `share` of the ranks' variance
    that the samples explain (epsilon squared)."""

    p: float | None
    share: float


def summarise(values: Sequence[float], *, seed: int = 0) -> Summary | None:
    """Give what these readings come to; None where there are none."""
    if not values:
        return None
    ordered = np.sort(np.asarray(values, float))
    lower, upper = (float(each) for each in np.quantile(ordered, (0.25, 0.75)))
    median = _estimate((ordered,), _median, seed)
    return Summary(len(ordered), median, lower, upper, float(ordered[0]), float(ordered[-1]))


def contrast(mine: Sample, other: Sample, *, family: int = 1, pooled: bool = False, seed: int = 0) -> Contrast | None:
    """Compare a sample with another; None where one is empty.

    The paired test is taken where there are enough blocks for it to tell anything among `family` comparisons. With
    `pooled`, blocks are of different cells, so that only what is side by side is compared: the median of the blocks'
    own ratios and differences; None where no block has both.
    """
    blocks = sorted(set(mine) & set(other), key=lambda block: (mine[block], other[block]))
    first, second = (np.array([side[block] for block in blocks], float) for side in (mine, other))
    paired = len(blocks) == len(mine) == len(other)
    if not pooled and not paired:
        first, second = (np.sort(np.asarray(list(side.values()), float)) for side in (mine, other))
    if not len(first) or not len(second):
        return None
    positive = bool(first.min() > 0 and second.min() > 0)
    samples = (first, second)
    if positive:
        figures, statistic = ((first / second,), _median) if pooled else (samples, _ratio)
        ratio = _estimate(figures, statistic, seed, paired=paired and not pooled)
        difference = Estimate(float(np.median(first - second) if pooled else _difference(first, second)))
    else:
        figures, statistic = ((first - second,), _median) if pooled else (samples, _difference)
        ratio, difference = None, _estimate(figures, statistic, seed, paired=paired and not pooled)
    delta = float(np.sign(first - second).mean()) if pooled else _delta(first, second)
    found = Contrast(len(first), len(second), len(blocks), ratio, difference, delta)
    return _tested(found, first, second, paired=pooled or paired, pooled=pooled, family=family)


def corrected(contrasts: Sequence[Contrast | None]) -> list[Contrast | None]:
    """Correct the p of every comparison of a table for there being so many (Holm)."""
    at = [number for number, each in enumerate(contrasts) if each and each.p is not None]
    known = [(each.p or 0.0, each.least) for each in contrasts if each and each.p is not None]
    raw = [p for p, _ in known]
    found = list(contrasts)
    for place, (number, adjusted) in enumerate(zip(at, holm(raw), strict=True)):
        best = holm([*raw[:place], known[place][1], *raw[place + 1 :]])[place] if adjusted >= ALPHA else 0.0
        each = contrasts[number]
        found[number] = replace(each, adjusted=adjusted, tellable=best < ALPHA) if each else None
    return found


def holm(values: Sequence[float]) -> list[float]:
    """Give p values corrected for their number, so that the chance of even one false alarm stays what it was."""
    order = sorted(range(len(values)), key=lambda at: values[at])
    found, reached = [1.0] * len(values), 0.0
    for rank, at in enumerate(order):
        reached = max(reached, min(1.0, (len(values) - rank) * values[at]))
        found[at] = reached
    return found


def spread(samples: Sequence[Sequence[float]]) -> Spread:
    """Tell whether any of these samples differs from the others."""
    several = [np.asarray(sample, float) for sample in samples if len(sample)]
    total = sum(map(len, several))
    if len(several) < 2 or total <= len(several) or np.ptp(np.concatenate(several)) == 0:  # noqa: PLR2004  two at least
        return Spread(None, 0.0)
    statistic, p = stats.kruskal(*several)
    return Spread(float(p), float(statistic) / (total - 1))


def aligned(groups: Sequence[Sequence[float]]) -> list[list[float]]:
    """Give the readings of groups of different sizes side by side: each over the median of its own group where all
    are above zero, else less it."""
    ratio = all(value > 0 for group in groups for value in group)
    middles = [float(np.median(np.asarray(group, float))) if group else 0.0 for group in groups]
    return [
        [value / middle if ratio else value - middle for value in group]
        for group, middle in zip(groups, middles, strict=True)
    ]


def _tested(found: Contrast, first: Any, second: Any, *, paired: bool, pooled: bool, family: int) -> Contrast:
    """Add the test that fits."""
    if min(len(first), len(second)) < FEW:
        return found
    signed = 2.0 ** (1 - len(first)) if paired else 1.0
    if pooled or (paired and signed * family < ALPHA):
        return replace(found, test="Wilcoxon", p=_signed_ranks(first, second), least=signed)
    least = 2 / math.comb(len(first) + len(second), len(first))
    return replace(found, test="Mann-Whitney", p=_rank_sum(first, second), least=least)


def _signed_ranks(first: Any, second: Any) -> float:
    if first.min() > 0 and second.min() > 0:
        first, second = np.log(first), np.log(second)  # a change is a share of what it changes
    apart = first - second
    return 1.0 if not apart.any() else float(stats.wilcoxon(apart).pvalue)


def _rank_sum(first: Any, second: Any) -> float:
    everything = np.concatenate((first, second))
    if np.ptp(everything) == 0:
        return 1.0
    tied = len(np.unique(everything)) < len(everything)
    method: Any = "auto"
    if tied and max(len(first), len(second)) <= _EXACT_UP_TO:
        method = stats.PermutationMethod(n_resamples=RESAMPLES, rng=np.random.default_rng(0))
    return float(stats.mannwhitneyu(first, second, method=method).pvalue)


def _delta(first: Any, second: Any) -> float:
    larger = float(stats.mannwhitneyu(first, second, method="asymptotic").statistic) if _differ(first, second) else None
    return 0.0 if larger is None else 2 * larger / (len(first) * len(second)) - 1


def _differ(first: Any, second: Any) -> bool:
    return bool(np.ptp(np.concatenate((first, second))) > 0)


def _estimate(samples: tuple[Any, ...], statistic: Callable[..., Any], seed: int, *, paired: bool = False) -> Estimate:
    """Give a statistic of samples with its bootstrap interval."""
    value = float(statistic(*samples))
    if min(map(len, samples)) < FEW:
        return Estimate(value)
    if all(np.ptp(sample) == 0 for sample in samples):
        return Estimate(value, value, value)
    found = stats.bootstrap(
        samples, statistic, n_resamples=RESAMPLES, confidence_level=CONFIDENCE, method="percentile", vectorized=True,
        paired=paired, rng=np.random.default_rng(seed),
    ).confidence_interval  # fmt: skip
    return Estimate(value, float(found.low), float(found.high))


def _median(values: Any, axis: int = -1) -> Any:
    return np.median(values, axis=axis)


def _ratio(first: Any, second: Any, axis: int = -1) -> Any:
    return np.median(first, axis=axis) / np.median(second, axis=axis)


def _difference(first: Any, second: Any, axis: int = -1) -> Any:
    return np.median(first, axis=axis) - np.median(second, axis=axis)
