"""Experiences: what past jobs took, summed up so that a prediction takes microseconds. Pure.

The last jobs (a window) are kept in sums on three levels: requests that ask the same under the same option; of the same
type under the same option; of the same type under the same archetypes, wherever. A mean on one level is drawn towards
that of the next as if that were worth two jobs (partial pooling), so one odd job does not decide, and a party where
nothing was computed yet is taken to be like the others.

Times are learned as logarithms, of what is left without the time on the way: log t = a + b z, with z = -log(1 - load),
the slowdown of a processor that is shared (M/M/1-PS). The slope b is the ridge regression within options, towards 1:
before anything was learned, a party under load is expected to be as much slower as a shared processor is.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from dynamos.adaptation.settings import LoopSettings, Weighing
from dynamos.adaptation.situations import Experience, Option, Prediction, Situation

Key = tuple[str, ...]

WINDOW = 256
POOLED = 2.0
"""How many jobs the mean of the wider level is worth."""
RIDGE = 2.0
"""How firmly the slope of the load is held towards 1, in units of the spread of z squared."""
MOST_LOAD = 0.95
LEAST_SPREAD = 0.1
"""Standard deviation of a time's logarithm that is assumed at least: no two jobs take the same."""
WIDTH = 1.645
"""Ninety of a hundred lie so many standard deviations around the middle of a normal distribution."""
STEEPEST = 3.0


@dataclass(slots=True)
class Sums:
    """Sums over jobs: z and y = log seconds with their products, and logarithms of bytes, joules and way seconds."""

    n: float = 0.0
    z: float = 0.0
    y: float = 0.0
    zz: float = 0.0
    zy: float = 0.0
    yy: float = 0.0
    moved: float = 0.0
    cpu: float = 0.0
    way: float = 0.0

    def add(self, row: Sums, sign: float) -> None:
        for member in _MEMBERS:
            setattr(self, member, getattr(self, member) + sign * getattr(row, member))


_MEMBERS = tuple(field.name for field in fields(Sums))


class Experiences:
    """A window of jobs, and what they let expect. The order within the window does not matter."""

    def __init__(self, settings: LoopSettings, weighing: Weighing, window: int = WINDOW) -> None:
        self._settings = settings
        self._weighing = weighing
        self._window = window
        self._rows: deque[Experience] = deque()
        self._sums: dict[Key, Sums] = defaultdict(Sums)
        self._slope: float | None = None

    def add(self, experience: Experience) -> None:
        """Take one in; the oldest goes when the window is full."""
        self._rows.append(experience)
        self._count(experience, 1.0)
        while len(self._rows) > self._window:
            self._count(self._rows.popleft(), -1.0)
        self._slope = None

    def seen(self, situation: Situation, option: Option) -> int:
        """Give how many requests of this type ran under the option."""
        found = self._sums.get((situation.type, option.name))
        return round(found.n) if found else 0

    def known(self, situation: Situation, option: Option) -> bool:
        """Tell whether anything is known of the option's archetypes."""
        return (situation.type, "", option.pattern) in self._sums

    def predict(self, situation: Situation, option: Option) -> Prediction | None:
        """Give what to expect, None where nothing of these archetypes was seen yet."""
        levels = [self._sums.get(key) for key in _keys(situation.type, situation.shape, option)]
        widest = levels[-1]
        if widest is None or widest.n < 1:
            return None
        z = slowdown(situation.level(option))
        slope = self.slope
        middle, n = _pooled(levels, lambda sums: sums.y - slope * sums.z)
        moved = math.expm1(max(0.0, _pooled(levels, lambda sums: sums.moved)[0]))
        cpu = math.expm1(max(0.0, _pooled(levels, lambda sums: sums.cpu)[0]))
        way = self._way(situation, option, moved, math.expm1(max(0.0, _pooled(levels, lambda sums: sums.way)[0])))
        spread = _spread(levels, slope) * math.sqrt(1 + 1 / n) * WIDTH
        work = middle + slope * z
        seconds, low, high = (math.exp(each) + way for each in (work, work - spread, work + spread))
        joules = cpu * self._settings.watts_per_core + moved * self._settings.joules_per_byte
        return Prediction(
            seconds=seconds,
            low=low,
            high=high,
            bytes=moved,
            joules=joules,
            cost=self.cost(seconds, moved, joules),
            seen=self.seen(situation, option),
        )

    def cost(self, seconds: float, moved: float, joules: float) -> float:
        """Weigh seconds, bytes between parties and joules up."""
        weighing = self._weighing
        return weighing.time * seconds + weighing.bytes * moved / 1e6 + weighing.energy * joules

    @property
    def slope(self) -> float:
        """By which power of the slowdown jobs really slow down."""
        if self._slope is None:
            spread = product = 0.0
            for key, sums in self._sums.items():
                if len(key) == _OPTION and sums.n > 1:
                    spread += sums.zz - sums.z * sums.z / sums.n
                    product += sums.zy - sums.z * sums.y / sums.n
            self._slope = min(STEEPEST, max(0.0, (product + RIDGE) / (spread + RIDGE)))
        return self._slope

    def remember(self) -> list[dict[str, Any]]:
        """Give the window, JSON-ready."""
        return [row.as_json() for row in self._rows]

    def recall(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Have this window, and no other."""
        self._rows.clear()
        self._sums.clear()
        for row in rows:
            self.add(Experience.model_validate(row))

    def _way(self, situation: Situation, option: Option, moved: float, usual: float) -> float:
        """Give the seconds that the slowest way holds the rows up: as its rate says, else as was usual."""
        ways = option.ways
        found = [situation.rate(way) for way in ways]
        known = [rate for rate in found if rate]
        if not ways or len(known) < len(ways):
            return usual if ways else 0.0
        return moved / len(ways) / min(known)

    def _count(self, experience: Experience, sign: float) -> None:
        row = _row(experience)
        for key in _keys(experience.type, experience.shape, experience.option):
            sums = self._sums[key]
            sums.add(row, sign)
            if sums.n < 1:
                del self._sums[key]


_OPTION = 2
"""Length of the key of an option; the others' are 3."""


def slowdown(level: float | None) -> float:
    """Give the logarithm of how many times longer a shared processor takes at this load; 0 where it is not known."""
    return -math.log(1.0 - min(max(level or 0.0, 0.0), MOST_LOAD))


def _keys(kind: str, shape: str, option: Option) -> tuple[Key, Key, Key]:
    """Give the keys of an option's levels, the narrowest first."""
    return (kind, shape, option.name), (kind, option.name), (kind, "", option.pattern)


def _row(experience: Experience) -> Sums:
    z = slowdown(experience.level)
    y = math.log(max(1e-3, experience.seconds - experience.way))
    return Sums(
        1.0, z, y, z * z, z * y, y * y,
        math.log1p(experience.moved), math.log1p(experience.cpu), math.log1p(max(0.0, experience.way)),
    )  # fmt: skip


def _pooled(levels: list[Sums | None], total: Any) -> tuple[float, float]:
    """Give the mean that the levels make together, and how many jobs it is worth."""
    mean, worth = 0.0, 0.0
    for sums in reversed(levels):
        if sums is not None and sums.n >= 1:
            trust = min(worth, POOLED)
            mean = (total(sums) + trust * mean) / (sums.n + trust)
            worth = sums.n + trust
    return mean, max(1.0, worth)


def _spread(levels: list[Sums | None], slope: float) -> float:
    """Give the standard deviation of a time's logarithm, of the narrowest level that has several jobs."""
    for sums in levels:
        if sums is not None and sums.n > 1:
            mean = (sums.y - slope * sums.z) / sums.n
            square = (sums.yy - 2 * slope * sums.zy + slope * slope * sums.zz) / sums.n - mean * mean
            return max(LEAST_SPREAD, math.sqrt(max(0.0, square * sums.n / (sums.n - 1))))
    return 1.0
