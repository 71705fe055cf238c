"""Placements: under which archetype each provider takes part, and which party computes for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from dynamos.kit.errors import Broken
from dynamos.model.archetypes import Archetype
from dynamos.model.decisions import ProviderDecision, Reason
from dynamos.model.requests import Request
from dynamos.planning.chains import Chain
from dynamos.planning.landscapes import Landscape
from dynamos.planning.planners import Choice, Planner, Question


@dataclass(slots=True)
class Placement:
    """Archetype and computing party per provider; for those without, the reasons. `waiting` are the parties that would
    make a place if they were online."""

    archetypes: dict[str, str] = field(default_factory=dict)
    compute: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, tuple[Reason, ...]] = field(default_factory=dict)
    waiting: dict[str, tuple[str, ...]] = field(default_factory=dict)


def place(
    request: Request,
    answers: Mapping[str, ProviderDecision],
    chains: Mapping[str, Chain],
    landscape: Landscape,
    planner: Planner,
) -> Placement:
    """Have the planner choose for every provider among what it permits and its chain can run under, with the compute
    providers that are there. Raises Broken where the planner answers with something else.

    Providers that have no place are left out, and the rest is placed again: alone, a provider may have more choice.
    """
    left_out: dict[str, tuple[Reason, ...]] = {}
    waiting: dict[str, tuple[str, ...]] = {}
    remaining = dict(answers)
    while remaining:
        options = {
            party: _choices(request, answer, chains[party], landscape, tuple(remaining))
            for party, answer in remaining.items()
        }
        without = [party for party, choices in options.items() if not choices]
        if not without:
            question = Question(request, {party: tuple(choices) for party, choices in options.items()}, landscape)
            pick = planner.pick(question)
            if not question.permits(pick):
                raise Broken(f"the planner {planner.name!r} picked what is not permitted", where=pick.name)
            return Placement(dict(pick.archetypes), dict(pick.compute), left_out, waiting)
        providers = len(remaining)
        for party in without:
            answer = remaining.pop(party)
            left_out[party] = tuple(_reasons(request, answer, chains[party], landscape, providers))
            waiting[party] = tuple(name for name in answer.compute_providers if name not in landscape.online)
    return Placement(reasons=left_out, waiting=waiting)


def _choices(
    request: Request, answer: ProviderDecision, chain: Chain, landscape: Landscape, providers: tuple[str, ...]
) -> list[Choice]:
    """Give what one provider could take part under, lightest first."""
    found = []
    for name in dict.fromkeys(answer.archetypes):
        archetype = landscape.archetypes.get(name)
        if archetype is None or _obstacle(request, archetype, chain, len(providers)):
            continue
        computers = _candidates(request, archetype, answer, chain, providers)
        present = tuple(party for party in computers if party in landscape.online)
        if present:
            found.append(Choice(archetype, present))
    return sorted(found, key=lambda choice: (choice.archetype.weight, choice.archetype.name))


def _obstacle(request: Request, archetype: Archetype, chain: Chain, providers: int) -> str:
    """Tell why a chain cannot run under an archetype, whoever computes; empty if it can."""
    if request.archetype not in (None, archetype.name):
        return f"the request asks for {request.archetype}"
    for service in chain.services:
        if archetype.name in service.invalid_archetypes:
            return f"{service.name} may not run under {archetype.name}"
    united = chain.united
    if united and providers > 1 and not archetype.moves_data:
        return f"{united[0].name} needs the rows of all providers in one place, and {archetype.name} leaves them"
    return ""


def _candidates(
    request: Request, archetype: Archetype, answer: ProviderDecision, chain: Chain, providers: tuple[str, ...]
) -> tuple[str, ...]:
    """Give the parties that may compute, in the agreement's order.

    Another data provider of the same job may only compute where no duty applies: its agent works out the whole part
    alone, and it cannot know what others force.
    """
    allowed = answer.compute_providers if archetype.moves_data else (answer.party,)
    return tuple(
        party
        for party in allowed
        if request.compute_provider in (None, party)
        and (party == answer.party or party not in providers or not chain.forced)
    )


def _reasons(
    request: Request, answer: ProviderDecision, chain: Chain, landscape: Landscape, providers: int
) -> Iterable[Reason]:
    """Tell, for each archetype that a provider permits, why it cannot be."""
    for name in answer.archetypes:
        archetype = landscape.archetypes.get(name)
        if archetype is None:
            continue
        obstacle = _obstacle(request, archetype, chain, providers)
        code = "archetype" if obstacle else "compute-provider"
        fact = obstacle or f"permitted: {', '.join(answer.compute_providers) or 'none'}"
        yield Reason(
            party=answer.party,
            code=code,
            clause="allowedArchetypes" if obstacle else "allowedComputeProviders",
            fact=fact,
            message=f"{answer.party} cannot take part under {name}: {obstacle or 'no compute provider can be used'}",
            remedy=_remedy(request, obstacle),
        )


def _remedy(request: Request, obstacle: str) -> str:
    if not obstacle:
        return "ask again when a permitted compute provider is online, or without naming one"
    if request.archetype:
        return "leave out the archetype"
    return "permit an archetype under which these services can run, or leave out the option that adds them"
