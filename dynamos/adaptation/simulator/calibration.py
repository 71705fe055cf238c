"""Calibration: what things cost, fitted to a part of recorded requests, and how well that predicts the others. Pure."""

from __future__ import annotations

import random
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from dynamos.adaptation.simulator.costs import MEASURED, Costs, Line
from dynamos.adaptation.simulator.scenes import ARCHETYPES, AT_DATA, MBIT, Party, Scene, Terms
from dynamos.adaptation.simulator.simulations import simulate
from dynamos.adaptation.simulator.traces import Ask
from dynamos.kit.errors import BadInput
from dynamos.model.values import Value

LEAST = 8
"""Fewer recorded requests of one kind tell nothing."""
APART = 60.0
RESAMPLES = 2_000
CROWDS = [step / 20 for step in range(41)]
_ROUNDS = 30
_TINY = 1e-6


class Recorded(Value):
    """One request as it went: seconds, from when it was sent. `kind` names all else that it was asked with; `began` is
    until its first part did, `work` what each provider's part took, `tail` what the third party took after the last of
    these had ended, `last` until the last part had ended."""

    kind: str
    archetype: str
    providers: int
    rows: int
    bytes: int
    seconds: float
    began: float
    start: float
    work: tuple[float, ...]
    tail: float
    last: float

    @property
    def parties(self) -> int:
        return self.providers + (self.archetype != AT_DATA)


@dataclass(frozen=True, slots=True)
class Calibration:
    """Costs, of the `kind` of request that there were most of, and how well the simulator predicts with such.

    `error` is by how much (in %) `predicted` requests took another time than it says after it was fitted to `fitted`
    others: the median of the absolute errors, with its 95 % interval from `low` to `high`. `noise` is the same for who
    predicts the median of the fitted ones that were asked just alike: no simulator can do much better.
    """

    costs: Costs
    kind: str
    fitted: int
    predicted: int
    error: float
    low: float
    high: float
    noise: float
    errors: tuple[float, ...]

    @property
    def apart(self) -> Costs:
        """The costs where every party has a machine of its own."""
        return self.costs.with_(crowd=0.0)

    def as_dict(self) -> dict[str, Any]:
        """Give it JSON-ready."""
        told = {name: getattr(self, name) for name in ("kind", "fitted", "predicted", "error", "low", "high", "noise")}
        return {**told, "costs": self.costs.as_dict()}


def calibrate(recorded: Sequence[Recorded], *, seed: int = 0, share: float = 0.5) -> Calibration:
    """Fit costs to a share of the requests of every kind, drawn by the seed, and predict the rest.

    Raises BadInput where there are too few.
    """
    groups: dict[str, list[Recorded]] = defaultdict(list)
    for each in recorded:
        groups[each.kind].append(each)
    enough = {kind: some for kind, some in groups.items() if len(some) >= LEAST}
    if not enough:
        raise BadInput(f"{len(recorded)} requests are too few", where="calibrate", hint=f"record {LEAST} of one kind")
    dice, fits = random.Random(seed), dict[str, tuple[int, Costs]]()  # noqa: S311
    errors, noise = list[float](), list[float]()
    for kind, some in sorted(enough.items()):
        mine, others = _parted(some, share, dice)
        costs = fit(mine)
        fits[kind] = len(mine), costs
        errors += [
            abs(guess - each.seconds) / each.seconds * 100
            for each, guess in zip(others, predict(others, costs), strict=True)
        ]
        noise += _noise(mine, others)
    most = max(fits, key=lambda kind: fits[kind][0])
    low, high = _interval(errors, dice)
    fitted = sum(many for many, _ in fits.values())
    error = statistics.median(errors)
    return Calibration(
        fits[most][1], most, fitted, len(errors), error, low, high, statistics.median(noise or [0.0]), tuple(errors)
    )


def fit(recorded: Sequence[Recorded]) -> Costs:
    """Give costs that come close to what was recorded; of what recordings do not tell, those that were measured."""
    at_data = [each for each in recorded if each.archetype == AT_DATA]
    through = [each for each in recorded if each.archetype != AT_DATA]
    work = [(each.rows, each.parties, max(each.work)) for each in at_data]
    crowd, query = _crowded(work) if work else (0.0, MEASURED.query)
    began = statistics.median(each.began for each in recorded)
    steady = MEASURED.decide + 2 * MEASURED.grant + MEASURED.api
    costs = MEASURED.with_(
        admit=max(0.0, began - steady),
        start=statistics.median(each.start for each in recorded),
        query=query,
        answer=line([(each.bytes, each.seconds - each.last - MEASURED.report * each.parties) for each in recorded]),
        crowd=crowd,
    )
    if not through:
        return costs
    slow = [(each.rows, max(each.work) / (1 + crowd * (each.parties - 1))) for each in through]
    tail = [(each.rows * each.providers, each.tail / (1 + crowd * (each.parties - 1))) for each in through]
    gather = line(slow)
    return costs.with_(gather=gather, beside=gather, algorithm=line(tail))


def predict(recorded: Sequence[Recorded], costs: Costs) -> list[float]:
    """Give the seconds that the simulator has for each, one after the other, on one machine."""
    most = max(each.providers for each in recorded)
    names = [f"p{number}" for number in range(most)]
    third = Party("third", most, rate=100_000 * MBIT, delay=0.0)
    terms = Terms(tuple(ARCHETYPES), ("third",))
    parties = {name: replace(third, name=name, capacity=1, terms=terms) for name in names} | {"third": third}
    asks = [
        Ask(
            at=APART * (number + 1),
            providers=tuple(names[: each.providers]),
            rows=each.rows,
            kept=each.bytes / max(1.0, each.rows * each.providers * costs.width),
            archetype=each.archetype,
        )
        for number, each in enumerate(recorded)
    ]
    found: dict[Ask, float] = {}
    simulate(Scene(parties), asks, costs=costs, told=found.__setitem__)
    return [found[ask] for ask in asks]


def line(points: Sequence[tuple[float, float]]) -> Line:
    """Give the line with the least sum of relative deviations, which neither falls nor begins below 0."""
    base, each = 0.0, 0.0
    weights = [1.0 / max(y, _TINY) for _, y in points]
    for _ in range(_ROUNDS):
        base, each = _least_squares(points, weights)
        weights = [
            1.0 / max(abs(y), _TINY) / max(abs(y - base - each * x), 1e-3 * max(abs(y), _TINY)) for x, y in points
        ]
    return Line(base, each)


def _least_squares(points: Sequence[tuple[float, float]], weights: Sequence[float]) -> tuple[float, float]:
    total = sum(weights)
    mean_x = sum(w * x for w, (x, _) in zip(weights, points, strict=True)) / total
    mean_y = sum(w * y for w, (_, y) in zip(weights, points, strict=True)) / total
    spread = sum(w * (x - mean_x) ** 2 for w, (x, _) in zip(weights, points, strict=True))
    together = sum(w * (x - mean_x) * (y - mean_y) for w, (x, y) in zip(weights, points, strict=True))
    slope = together / spread if spread > 0 else 0.0
    if slope <= 0:
        return max(0.0, mean_y), 0.0
    if mean_y - slope * mean_x < 0:
        square = sum(w * x * x for w, (x, _) in zip(weights, points, strict=True))
        return 0.0, sum(w * x * y for w, (x, y) in zip(weights, points, strict=True)) / square
    return mean_y - slope * mean_x, slope


def _crowded(work: Sequence[tuple[int, int, float]]) -> tuple[float, Line]:
    """Give by how much parts slow each other, and the line of one that is alone."""
    found = []
    for crowd in CROWDS:
        alone = line([(rows, seconds / (1 + crowd * (parties - 1))) for rows, parties, seconds in work])
        wrong = sum(
            abs(alone.of(rows) * (1 + crowd * (parties - 1)) - seconds) / seconds for rows, parties, seconds in work
        )
        found.append((wrong, crowd, alone))
    _, crowd, alone = min(found, key=lambda each: each[:2])
    return crowd, alone


def _parted(some: Sequence[Recorded], share: float, dice: random.Random) -> tuple[list[Recorded], list[Recorded]]:
    mixed = list(some)
    dice.shuffle(mixed)
    many = min(len(mixed) - 1, max(1, round(share * len(mixed))))
    return mixed[:many], mixed[many:]


def _noise(mine: Sequence[Recorded], others: Sequence[Recorded]) -> list[float]:
    """Give by how much (in %) requests differ from the median of those that were asked just alike."""
    alike: dict[tuple[str, int, int], list[float]] = defaultdict(list)
    for each in mine:
        alike[each.archetype, each.providers, each.rows].append(each.seconds)
    return [
        abs(statistics.median(found) - each.seconds) / each.seconds * 100
        for each in others
        if (found := alike.get((each.archetype, each.providers, each.rows)))
    ]


def _interval(errors: Sequence[float], dice: random.Random) -> tuple[float, float]:
    """Give the 95 % interval of the median, by the percentile bootstrap."""
    medians = sorted(statistics.median(dice.choices(errors, k=len(errors))) for _ in range(RESAMPLES))
    return medians[int(0.025 * RESAMPLES)], medians[int(0.975 * RESAMPLES) - 1]
