"""Planners: which of the options that policy leaves a request runs under. Pure.

A question has, for every provider, the archetypes that it permits and its chain can run under, each with the parties
that may compute then and are there. An answer picks one of them for each provider. Whatever a planner answers, nothing
runs that policy does not permit: what is not among the options is not a pick.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, product
from typing import Protocol

from dynamos.model.archetypes import Archetype
from dynamos.model.requests import Request
from dynamos.planning.landscapes import Landscape

MOST_PICKS = 256


@dataclass(frozen=True, slots=True)
class Choice:
    """One archetype that a provider could take part under, and the parties that could compute then."""

    archetype: Archetype
    computers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """A request with the choices of every provider that takes part, the lightest first."""

    request: Request
    choices: Mapping[str, tuple[Choice, ...]]
    landscape: Landscape

    def permits(self, pick: Pick) -> bool:
        """Tell whether a pick is among the options: one choice of every provider, and no other provider."""
        return set(pick.archetypes) == set(pick.compute) == set(self.choices) and all(
            any(
                choice.archetype.name == pick.archetypes[party] and pick.compute[party] in choice.computers
                for choice in choices
            )
            for party, choices in self.choices.items()
        )


@dataclass(frozen=True)
class Pick:
    """Archetype and computing party of every provider."""

    archetypes: Mapping[str, str]
    compute: Mapping[str, str]

    @property
    def name(self) -> str:
        """The pick in words, as `dataThroughTtp at safety-board`; each provider apart where they differ."""
        ways = {party: self._way(party) for party in self.archetypes}
        if len(set(ways.values())) == 1:
            return next(iter(ways.values()))
        return ", ".join(f"{party}: {way}" for party, way in ways.items())

    def _way(self, party: str) -> str:
        archetype, place = self.archetypes[party], self.compute[party]
        return archetype if place == party else f"{archetype} at {place}"


class Planner(Protocol):
    """Picks one of the options. Adding one takes one class."""

    @property
    def name(self) -> str: ...

    def pick(self, question: Question) -> Pick:
        """Give the archetype and the computing party of every provider. Pure but for what the planner has learned."""
        ...


class Weights:
    """Upstream's rule: of what is permitted the lightest archetype; of computing parties those that serve most."""

    name = "weights"

    def pick(self, question: Question) -> Pick:
        chosen = {party: choices[0] for party, choices in question.choices.items()}
        still = {
            party: [choice for choice in choices if not choice.archetype.moves_data]
            for party, choices in question.choices.items()
        }
        if len(still) > 1 and refuses_union(question.request, question.landscape) and all(still.values()):
            chosen = {party: choices[0] for party, choices in still.items()}
        return placed(chosen)


def placed(chosen: Mapping[str, Choice]) -> Pick:
    """Assign computing parties so that few of them serve all: each time the one that serves most of the rest.

    Of two that serve as many, the one that comes first in the agreements, in the order of the providers.
    """
    assigned: dict[str, str] = {}
    rest = [party for party in chosen if chosen[party].archetype.moves_data]
    while rest:
        served: dict[str, list[str]] = {}
        for party in rest:
            for computer in chosen[party].computers:
                served.setdefault(computer, []).append(party)
        best = max(served, key=lambda computer: len(served[computer]))
        assigned.update(dict.fromkeys(served[best], best))
        rest = [party for party in rest if party not in assigned]
    archetypes = {party: choice.archetype.name for party, choice in chosen.items()}
    return Pick(archetypes, {party: assigned.get(party, party) for party in chosen})


def picks(question: Question, *, limit: int = MOST_PICKS) -> list[Pick]:
    """Give the picks that are worth comparing, that of `weights` first: each archetype with each computing party that
    all providers share, then the mixtures, at most `limit` in all."""
    found = dict.fromkeys([_key(Weights().pick(question))])
    for pick in islice(_mixtures(question), limit * 4):
        if len(found) >= limit:
            break
        found.setdefault(_key(pick))
    return [Pick(dict(archetypes), dict(compute)) for archetypes, compute in found]


def refuses_union(request: Request, landscape: Landscape) -> bool:
    """Tell whether the requestor explicitly does not want the rows of all providers in one place."""
    optional = landscape.request_types[request.type].optional_services
    return any(
        request.wants(option) is False and name in landscape.services and landscape.services[name].inputs == "many"
        for name, option in optional.items()
    )


def _mixtures(question: Question) -> Iterator[Pick]:
    """Give every combination, those first in which all providers go one way."""
    ways = {
        party: [(choice.archetype.name, computer) for choice in choices for computer in choice.computers]
        for party, choices in question.choices.items()
    }
    shared = dict.fromkeys(
        (name, None if computer == party else computer) for party, some in ways.items() for name, computer in some
    )
    for name, computer in shared:
        alike = {party: (name, computer or party) for party in ways}
        if all(way in ways[party] for party, way in alike.items()):
            yield _pick(alike)
    for combination in product(*ways.values()):
        yield _pick(dict(zip(ways, combination, strict=True)))


def _pick(ways: Mapping[str, tuple[str, str]]) -> Pick:
    return Pick(
        {party: name for party, (name, _) in ways.items()}, {party: place for party, (_, place) in ways.items()}
    )


def _key(pick: Pick) -> tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]]:
    return tuple(pick.archetypes.items()), tuple(pick.compute.items())
