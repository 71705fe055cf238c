"""Pins: a provider's archetype and place, set from outside. They narrow what a planner may pick, and never widen it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from dynamos.kit.errors import BadInput, Refused
from dynamos.kit.words import suggest
from dynamos.middleware.orchestrator.advisers import Advice
from dynamos.middleware.steering import Pin
from dynamos.model.agreements import Agreement
from dynamos.model.plans import Compression, Plan
from dynamos.planning.landscapes import Landscape
from dynamos.planning.planners import Choice, Pick, Question


class Pinned:
    """Advice over what the pins leave. A pin that does not fit the question is not followed, and the notes say so."""

    def __init__(self, advice: Advice, pins: Mapping[str, Pin]) -> None:
        self._advice = advice
        self._pins = pins
        self._missed: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self._advice.name

    @property
    def notes(self) -> tuple[str, ...]:
        return (*self._missed, *self._advice.notes)

    def pick(self, question: Question) -> Pick:
        left = {party: self._narrowed(party, choices) for party, choices in question.choices.items()}
        self._missed = tuple(
            f"the pin {self._pins[party].name} is not among what is permitted here and was not followed"
            for party, choices in left.items()
            if not choices
        )
        choices = {party: some or question.choices[party] for party, some in left.items()}
        return self._advice.pick(Question(question.request, choices, question.landscape))

    def compression(self, plan: Plan) -> Mapping[str, Compression]:
        return self._advice.compression(plan)

    def _narrowed(self, party: str, choices: tuple[Choice, ...]) -> tuple[Choice, ...]:
        pin = self._pins.get(party)
        if pin is None:
            return choices
        found = []
        for choice in choices:
            if choice.archetype.name == pin.archetype:
                wanted = pin.compute_provider
                computers = tuple(name for name in choice.computers if wanted in ("", name))
                found += [Choice(choice.archetype, computers)] if computers else []
        return tuple(found)


def permitted(agreements: Mapping[str, Agreement], landscape: Landscape, now: datetime) -> tuple[Pin, ...]:
    """Give every pin that names a request type and a place, and that some agreement leaves somebody now."""
    return tuple(dict.fromkeys(_permitted(agreements, landscape, now)))


def _permitted(agreements: Mapping[str, Agreement], landscape: Landscape, now: datetime) -> Iterator[Pin]:
    for party, agreement in agreements.items():
        for relation in agreement.relations.values():
            if relation.valid_until is not None and relation.valid_until < now:
                continue
            for kind in relation.request_types:
                for name in agreement.archetypes:
                    if name not in relation.allowed_archetypes or not _runs(kind, name, landscape):
                        continue
                    others = [p for p in agreement.compute_providers if p in relation.allowed_compute_providers]
                    places = others if landscape.archetypes[name].moves_data else [party]
                    for place in places:
                        yield Pin(request_type=kind, provider=party, archetype=name, compute_provider=place)


def check(
    pins: Sequence[Pin],
    agreements: Mapping[str, Agreement],
    landscape: Landscape,
    parties: Sequence[str],
    now: datetime,
) -> None:
    """Raise BadInput for pins that name what there is not or contradict each other, Refused for one that no agreement
    permits to anybody."""
    left = permitted(agreements, landscape, now)
    for number, pin in enumerate(pins):
        where = f"$.pins[{number}]"
        _check_names(pin, landscape, parties, where)
        for other in range(number):
            former = pins[other]
            if former.provider == pin.provider and _overlap(former.request_type, pin.request_type):
                raise BadInput(f"pins {other} and {number} are of the same requests", where=where, hint="keep one")
        if not any(_covers(pin, one) for one in left):
            ways = [one.name for one in left if one.provider == pin.provider and _fits(pin.request_type, one)]
            told = f"permitted: {'; '.join(dict.fromkeys(ways)) or 'nothing'}"
            raise Refused(f"no agreement permits {pin.name}", where=where, hint=told, code="pin-not-permitted")


def _check_names(pin: Pin, landscape: Landscape, parties: Sequence[str], where: str) -> None:
    kinds, archetypes = landscape.request_types, landscape.archetypes
    named = (
        ("requestType", pin.request_type, kinds, "request type"),
        ("provider", pin.provider, parties, "party"),
        ("archetype", pin.archetype, archetypes, "archetype"),
        ("computeProvider", pin.compute_provider, parties, "party"),
    )
    for member, name, known, word in named:
        if name and name not in known:
            raise BadInput(f"there is no {word} {name!r}", where=f"{where}.{member}", hint=suggest(name, known))


def _covers(pin: Pin, one: Pin) -> bool:
    same = pin.provider == one.provider and pin.archetype == one.archetype
    return same and _fits(pin.request_type, one) and pin.compute_provider in ("", one.compute_provider)


def _fits(kind: str, one: Pin) -> bool:
    return kind in ("", one.request_type)


def _overlap(one: str, other: str) -> bool:
    return one == other or "" in (one, other)


def _runs(kind: str, archetype: str, landscape: Landscape) -> bool:
    """Tell whether the services that a request type always runs may run under an archetype."""
    if kind not in landscape.request_types or archetype not in landscape.archetypes:
        return False
    services = (landscape.services.get(name) for name in landscape.request_types[kind].required_services)
    return all(service is None or archetype not in service.invalid_archetypes for service in services)
