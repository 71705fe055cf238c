"""Traces: requests over time, recorded or drawn. They are read one by one, so that a million take no memory."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from dynamos.adaptation.simulator.scenes import KIND, Scene
from dynamos.kit.errors import BadInput

Law = Literal["fixed", "exponential", "lognormal"]
_SIGMA = 0.4


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. `rows` are those of each provider, `kept` the share of them that the answer has; `work` is by how
    much it takes longer than it would on average; `unites` wants the rows of all providers in one place."""

    at: float
    providers: tuple[str, ...]
    rows: int = 30_000
    kept: float = 0.0
    work: float = 1.0
    unites: bool = False
    archetype: str | None = None
    kind: str = KIND


def drawn(
    scene: Scene,
    requests: int,
    rate: float,
    *,
    seed: int = 0,
    rows: int = 30_000,
    law: Law = "lognormal",
    most: int = 3,
    unites: float = 0.2,
    kept: float = 0.02,
) -> Iterator[Ask]:
    """Draw requests that come at random, `rate` a second on average, each to 1 to `most` providers.

    `law` is how their work spreads around its mean; of those to several, a share of `unites` wants the rows in one
    place.
    """
    if rate <= 0 or requests < 0:
        raise BadInput("requests come at a rate greater than 0", where="rate")
    dice = random.Random(f"asks {seed}")  # noqa: S311
    providers, draw, at = scene.providers, _drawing(dice, law), 0.0
    most = min(most, len(providers))
    for _ in range(requests):
        at += dice.expovariate(rate)
        many = 1 + int(dice.random() * most)
        asked = _some(dice, providers, many)
        together = many > 1 and dice.random() < unites
        yield Ask(at, asked, rows, kept, draw(), together)


def in_order(asks: Sequence[Ask]) -> Sequence[Ask]:
    """Give asks that are in the order of their moments. Raises BadInput where they are not."""
    if any(late.at < early.at for early, late in pairwise(asks)):
        raise BadInput("a trace has its requests in the order of their moments", where="trace")
    return asks


def _some(dice: random.Random, among: tuple[str, ...], many: int) -> tuple[str, ...]:
    found: dict[str, None] = {}
    while len(found) < many:
        found[among[int(dice.random() * len(among))]] = None
    return tuple(found)


def _drawing(dice: random.Random, law: Law) -> Callable[[], float]:
    """Give draws with mean 1."""
    if law == "fixed":
        return lambda: 1.0
    if law == "exponential":
        return lambda: dice.expovariate(1.0)
    return lambda: dice.lognormvariate(-_SIGMA * _SIGMA / 2, _SIGMA)
