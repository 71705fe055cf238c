"""Chains: which services one request runs over one provider's data, in which order."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from dynamos.kit.errors import BadInput, Mistake
from dynamos.kit.words import suggest
from dynamos.model.archetypes import Archetype
from dynamos.model.request_types import RequestType
from dynamos.model.requests import Request
from dynamos.model.services import Service
from dynamos.planning.drawings import draw

__all__ = ["Chain", "compose", "draw", "faults", "mistakes", "ordered", "selected"]

DATA, COMPUTE = "dataProvider", "computeProvider"


@dataclass(frozen=True, slots=True)
class Chain:
    """Services in the order in which they run. `forced` are those that no request asked for but a party forces."""

    services: tuple[Service, ...]
    forced: tuple[str, ...] = ()

    @property
    def data(self) -> tuple[Service, ...]:
        """The services that run where the data are."""
        return tuple(service for service in self.services if service.label == DATA)

    @property
    def compute(self) -> tuple[Service, ...]:
        """The services that run where the archetype says."""
        return tuple(service for service in self.services if service.label == COMPUTE)

    @property
    def alone(self) -> tuple[Service, ...]:
        """The computing services that work on one provider's rows: those before the first that unites rows."""
        found: list[Service] = []
        for service in self.compute:
            if service.inputs == "many":
                break
            found.append(service)
        return tuple(found)

    @property
    def united(self) -> tuple[Service, ...]:
        """The computing services from the first one on that unites several providers' rows."""
        return self.compute[len(self.alone) :]

    def names(self, role: str = "all") -> tuple[str, ...]:
        """Give the names of the services of a role: all, dataProvider or computeProvider."""
        return tuple(service.name for service in self.services if role in ("all", service.label))


def selected(request: Request, request_type: RequestType) -> tuple[str, ...]:
    """Give the services that a request asks for: the required ones, and those that its options switch on."""
    chosen = (name for name, option in request_type.optional_services.items() if request.wants(option))
    return tuple(dict.fromkeys((*request_type.required_services, *chosen)))


def compose(
    request: Request,
    request_types: Mapping[str, RequestType],
    services: Mapping[str, Service],
    duties: Iterable[str] = (),
) -> Chain:
    """Give the chain of a request with the services that a party forces into it.

    Raises BadInput (code "chain") where the marketplace's definitions do not make one chain.
    """
    where = f"requestTypes.{request.type}"
    if request.type not in request_types:
        hint = suggest(request.type, request_types)
        raise BadInput(f"there is no request type {request.type!r}", where=where, hint=hint, code="request-type")
    asked = selected(request, request_types[request.type])
    forced = tuple(name for name in dict.fromkeys(duties) if name not in asked)
    found = faults((*asked, *forced), services)
    if found:
        hint = "the marketplace's services or request types need a change"
        raise BadInput("; ".join(found), where=where, hint=hint, code="chain")
    return Chain(ordered((*asked, *forced), services), forced)


def ordered(names: Iterable[str], services: Mapping[str, Service]) -> tuple[Service, ...]:
    """Sort services so that each runs before those it may feed; of those that are free, sources first, then by
    name.

    Raises BadInput (code "chain") for a cycle, and names it.
    """
    chosen = set(names)
    waiting = dict.fromkeys(chosen, 0)
    for name in chosen:
        for output in chosen.intersection(services[name].allowed_outputs):
            waiting[output] += 1
    free = [_turn(services[name]) for name, count in waiting.items() if not count]
    heapq.heapify(free)
    found: list[Service] = []
    while free:
        service = services[heapq.heappop(free)[1]]
        found.append(service)
        for output in chosen.intersection(service.allowed_outputs):
            waiting[output] -= 1
            if not waiting[output]:
                heapq.heappush(free, _turn(services[output]))
    if len(found) < len(chosen):
        rest = sorted(chosen.difference(service.name for service in found))
        raise BadInput(f"these services feed each other in a circle: {', '.join(rest)}", code="chain")
    return tuple(found)


def _turn(service: Service) -> tuple[bool, str]:
    """Give what decides between services that are free: sources first, then by name."""
    return service.inputs != "none", service.name


def faults(names: Iterable[str], services: Mapping[str, Service]) -> list[str]:
    """Tell everything that keeps services from being one chain from a source to a result."""
    names = tuple(names)
    unknown = [name for name in names if name not in services]
    if unknown:
        return [f"there is no service {name!r}" for name in unknown]
    if not names:
        return ["the request type runs no service"]
    try:
        chain = ordered(names, services)
    except BadInput as error:
        return [error.message]
    found = []
    sources = [service.name for service in chain if service.inputs == "none"]
    if sources != [chain[0].name]:
        told = ", ".join(sources) or "none"
        found.append(f"a chain begins with one service that reads the data; this one has {told}")
    for one, following in pairwise(chain):
        if following.name not in one.allowed_outputs:
            found.append(f"{one.name} may not feed {following.name}")
        if one.label == COMPUTE and following.label == DATA:
            found.append(f"{following.name} runs at the data provider, so it cannot follow {one.name}")
    return found


def mistakes(
    services: Mapping[str, Service], request_types: Mapping[str, RequestType], archetypes: Mapping[str, Archetype]
) -> list[Mistake]:
    """Give everything that is wrong in the definitions, for those who are about to store them."""
    return [*_service_mistakes(services, archetypes), *_type_mistakes(services, request_types)]


def _service_mistakes(services: Mapping[str, Service], archetypes: Mapping[str, Archetype]) -> Iterator[Mistake]:
    for name, service in services.items():
        for output in service.allowed_outputs:
            if output not in services:
                where = f"services.{name}.allowedOutputs"
                yield Mistake(where, f"there is no service {output!r}", suggest(output, services))
        for archetype in service.invalid_archetypes:
            if archetype not in archetypes:
                where = f"services.{name}.invalidArchetypes"
                yield Mistake(where, f"there is no archetype {archetype!r}", suggest(archetype, archetypes))
    try:
        ordered(services, services)
    except BadInput as error:
        yield Mistake("services", error.message, "a chain goes one way: remove an allowed output")


def _type_mistakes(services: Mapping[str, Service], request_types: Mapping[str, RequestType]) -> Iterator[Mistake]:
    for name, request_type in request_types.items():
        where = f"requestTypes.{name}"
        unknown = False
        for member, named in (
            ("requiredServices", request_type.required_services),
            ("optionalServices", tuple(request_type.optional_services)),
        ):
            for service in named:
                if service not in services:
                    unknown = True
                    hint = suggest(service, services)
                    yield Mistake(f"{where}.{member}", f"there is no service {service!r}", hint)
        if unknown or not (request_type.required_services or request_type.optional_services):
            # A request type that names nothing is a placeholder: requests of that type are refused when they come.
            continue
        required, optional = request_type.required_services, tuple(request_type.optional_services)
        for chosen in dict.fromkeys(((), *((one,) for one in optional), optional)):
            for fault in faults(dict.fromkeys((*required, *chosen)), services):
                told = f" with {', '.join(chosen)}" if chosen else ""
                yield Mistake(where, f"{fault}{told}", "change allowedOutputs, label or inputs of these services")
