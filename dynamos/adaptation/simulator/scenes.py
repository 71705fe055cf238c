"""Simulated marketplaces: parties, the ways between them, and what their agreements permit."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from dynamos.model.archetypes import AT_OTHER, AT_PROVIDER, Archetype
from dynamos.model.request_types import RequestType
from dynamos.planning.landscapes import Landscape

AT_DATA, THROUGH = "computeToData", "dataThroughTtp"
ARCHETYPES = {
    AT_DATA: Archetype(name=AT_DATA, compute_provider=AT_PROVIDER, weight=100),
    THROUGH: Archetype(name=THROUGH, compute_provider=AT_OTHER, weight=200),
}
KIND = "sqlDataRequest"
MBIT = 125_000.0


@dataclass(frozen=True, slots=True)
class Terms:
    """What a provider's agreement leaves of a request: archetypes, and the parties that may compute. Nothing: it
    refuses."""

    archetypes: tuple[str, ...] = (AT_DATA, THROUGH)
    computers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Party:
    """One party: how many parts it works on at once and how fast, its way to others (bytes a second, and the seconds to
    the middle of the network), and, of a provider, its terms."""

    name: str
    capacity: int = 2
    speed: float = 1.0
    rate: float = 1000 * MBIT
    delay: float = 0.005
    terms: Terms | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """Something that happens at a moment: a party becomes slower or faster, its way does, it leaves or comes back, or
    its agreement changes. What is None stays."""

    at: float
    party: str
    speed: float | None = None
    rate: float | None = None
    online: bool | None = None
    terms: Terms | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """A simulated marketplace, and what happens to it. `running` is how many jobs run at once, `waiting` how many may
    wait for that; the API turns away what is more. What the control plane has not brought on within `deadline` seconds
    fails."""

    parties: Mapping[str, Party]
    changes: tuple[Change, ...] = ()
    running: int = 1_000
    waiting: int = 1_000
    deadline: float = 60.0
    gateway: float = 10_000 * MBIT
    landscape: Landscape = field(init=False)

    def __post_init__(self) -> None:
        known = frozenset(self.parties)
        kinds = {KIND: RequestType(name=KIND)}
        object.__setattr__(self, "landscape", Landscape(ARCHETYPES, kinds, {}, known))

    @property
    def providers(self) -> tuple[str, ...]:
        """The parties that have data."""
        return tuple(name for name, party in self.parties.items() if party.terms is not None)

    @property
    def thirds(self) -> tuple[str, ...]:
        """The parties that have none, and compute for others."""
        return tuple(name for name, party in self.parties.items() if party.terms is None)

    def having(self, *changes: Change) -> Self:
        """Give it with these changes besides."""
        return replace(self, changes=(*self.changes, *changes))


def invented(parties: int, *, seed: int = 0, share: float = 0.1, choice: int = 3, running: int = 1_000) -> Scene:
    """Give a marketplace of so many parties (at least 2). A `share` of them are third parties, one or two at least;
    every provider permits both archetypes, and `choice` third parties."""
    dice = random.Random(seed)  # noqa: S311  a drawing, not a secret
    many = min(max(2, round(parties * share)), parties - 1)
    thirds = [f"third{number}" for number in range(many)]
    made = {name: Party(name, capacity=8, speed=1.5, delay=dice.uniform(0.002, 0.02)) for name in thirds}
    for number in range(parties - many):
        computers = tuple(dice.sample(thirds, min(choice, many)))
        capacity, delay = dice.choice((1, 2, 4)), dice.uniform(0.002, 0.02)
        name = f"party{number}"
        made[name] = Party(name, capacity, delay=delay, rate=200 * MBIT, terms=Terms(computers=computers))
    return Scene(made, running=running)
