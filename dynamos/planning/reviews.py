"""Reviews: whether what runs is still just what policy permits. Pure.

A provider that permits more than before, or forces less, has forbidden nothing: what runs goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from dynamos.kit.errors import BadInput, NotFound
from dynamos.model.decisions import Decision, ProviderDecision, Reason
from dynamos.model.plans import Plan
from dynamos.model.requests import Request
from dynamos.planning.assembly import assemble
from dynamos.planning.chains import compose
from dynamos.planning.landscapes import Landscape
from dynamos.planning.outlooks import Outlook

Again = Callable[[str], ProviderDecision]
"""Gives what a provider says now of another query in the same request."""


def review(
    request: Request, plan: Plan, before: Decision, outlook: Outlook, parties: Iterable[str] | None = None
) -> dict[str, tuple[Reason, ...]]:
    """Give the providers (of `parties`, if given) that no longer permit what runs by this plan, each with why."""
    wanted = [party for party in plan.archetypes if parties is None or party in parties]
    now: dict[str, ProviderDecision] = {}
    found: dict[str, tuple[Reason, ...]] = {}
    for party in wanted:
        now[party] = _says(request, party, outlook)
        reasons = refusals(before.providers[party], now[party], plan.archetypes[party], plan.compute[party],
                           _again(request, party, outlook))  # fmt: skip
        if reasons:
            found[party] = reasons
    rest = [party for party in wanted if party not in found]
    other = _departing(request, plan, before, outlook.landscape) if rest else set()
    for party in rest:
        if {party, plan.compute[party]} & other:
            found[party] = (_of_marketplace(request, party),)
    return found


def refusals(
    before: ProviderDecision, now: ProviderDecision, archetype: str, place: str, again: Again
) -> tuple[Reason, ...]:
    """Give why what a provider says now does not permit what runs: archetype, place, forced services and query."""
    if not now.permitted:
        return now.reasons or (_reason(now.party, "no-relation", "relations", "", "does not permit this request"),)
    return tuple(_clashes(before, now, archetype, place, again))


def lenient(before: ProviderDecision, now: ProviderDecision) -> ProviderDecision:
    """Give the present decision with the services forced that were forced when the job began, if it needs no other."""
    return now.model_copy(update={"duties": before.duties}) if set(now.duties) <= set(before.duties) else now


def _clashes(
    before: ProviderDecision, now: ProviderDecision, archetype: str, place: str, again: Again
) -> Iterator[Reason]:
    party = now.party
    if archetype not in now.archetypes:
        told = ", ".join(now.archetypes) or "none"
        yield _reason(party, "archetype", "allowedArchetypes", f"permitted: {told}", f"no longer permits {archetype}")
    if place not in (party, *now.compute_providers):
        told = ", ".join(now.compute_providers) or "none"
        clause = "allowedComputeProviders"
        yield _reason(party, "compute-provider", clause, f"permitted: {told}", f"no longer permits {place} to compute")
    if added := [duty for duty in now.duties if duty not in before.duties]:
        names = ", ".join(added)
        yield _reason(party, "duty", "duties", f"forces {names}", f"forces {names} now, which does not run")
    if (now.query, now.uses) != (before.query, before.uses) and not _still(before, again):
        message = "gives another part of its data for this query now"
        yield _reason(party, "column", "tables", "the columns that the query uses", message)


def _still(before: ProviderDecision, again: Again) -> bool:
    """Tell whether the very text that runs, with the columns it uses, would be permitted by itself now."""
    try:
        now = again(before.query)
    except (BadInput, NotFound):
        return False
    return now.permitted and set(now.uses) == set(before.uses)


def _says(request: Request, party: str, outlook: Outlook) -> ProviderDecision:
    try:
        return outlook.decide_of(request, party)
    except (BadInput, NotFound) as error:  # the request type is gone, or reads data now
        reason = _reason(party, "request-type", "requestTypes", f"type {request.type!r}", error.message)
        return ProviderDecision(party=party, permitted=False, reasons=(reason,))


def _again(request: Request, party: str, outlook: Outlook) -> Again:
    return lambda query: outlook.decide_of(request.model_copy(update={"query": query}), party)


def _departing(request: Request, plan: Plan, before: Decision, landscape: Landscape) -> set[str]:
    """Give the parties that would run other steps now, by the marketplace's definitions, with all else as it is."""
    try:
        chains = {
            party: compose(request, landscape.request_types, landscape.services, before.providers[party].duties)
            for party in request.providers
            if party in plan.archetypes
        }
    except BadInput:
        return set(plan.parties)
    unknown = {party for party, name in plan.archetypes.items() if name not in landscape.archetypes}
    unfit = {
        party
        for party, chain in chains.items()
        if any(plan.archetypes[party] in service.invalid_archetypes for service in chain.services)
    }
    if unknown:
        return unknown | unfit
    anew = assemble(plan.job, plan.archetypes, plan.compute, chains, landscape.archetypes)
    return unfit | {party for party in plan.parties if anew.part(party) != plan.part(party)}


def _of_marketplace(request: Request, party: str) -> Reason:
    return Reason(
        party=party,
        code="request-type",
        clause="requestTypes",
        fact=f"type {request.type!r}",
        message=f"the marketplace runs requests of type {request.type!r} in another way now",
        remedy="submit the request again",
    )


def _reason(party: str, code: str, clause: str, fact: str, message: str) -> Reason:
    return Reason(
        party=party, code=code, clause=clause, fact=fact, message=f"{party} {message}", remedy="submit it again"
    )
