"""Plans: how a request that is permitted will run."""

from __future__ import annotations

from collections.abc import Iterable

from dynamos.kit.errors import BadInput, Refused, Unavailable
from dynamos.model.decisions import Decision, Reason
from dynamos.model.plans import Plan
from dynamos.model.requests import Request
from dynamos.planning.assembly import assemble
from dynamos.planning.chains import Chain, compose
from dynamos.planning.landscapes import Landscape
from dynamos.planning.placements import Placement, place
from dynamos.planning.planners import Planner, Weights

WEIGHTS = Weights()


def plan(request: Request, decision: Decision, landscape: Landscape, *, job: str, planner: Planner = WEIGHTS) -> Plan:
    """Give the plan of a job. Pure, as far as the planner is: the same arguments give the same plan.

    Only providers that permit the request take part; the notes say who does not, and why. Raises Refused (fact
    `reasons`) where nobody permits it or no archetype fits, Unavailable where nobody who permits it is online or no
    compute provider is, BadInput (code "chain") where the marketplace's services do not make a chain.
    """
    permitted = decision.permitted
    if not permitted:
        raise _refused("no provider permits the request", decision.reasons)
    present = [party for party in permitted if party in landscape.online]
    absent = [party for party in permitted if party not in landscape.online]
    if not present:
        raise Unavailable(
            f"{' and '.join(absent)} {'is' if len(absent) == 1 else 'are'} offline",
            where=", ".join(absent),
            hint="ask again later",
            code="offline",
        )
    compose(request, landscape.request_types, landscape.services)
    chains, unfit = _chains(request, decision, landscape, present)
    placed = place(request, {party: decision.providers[party] for party in chains}, chains, landscape, planner)
    placed.reasons.update(unfit)
    if not placed.archetypes:
        raise _nowhere(placed)
    notes = [
        *(f"{party} refuses the request" for party in decision.providers if party not in permitted),
        *(f"{party} is offline: its data are not in the result" for party in absent),
        *(f"{reasons[0].message}" for reasons in placed.reasons.values() if reasons),
        *_apart(placed, any(chains[party].united for party in placed.archetypes)),
    ]
    taking_part = {party: chains[party] for party in placed.archetypes}
    return assemble(job, placed.archetypes, placed.compute, taking_part, landscape.archetypes, notes=tuple(notes))


def _chains(
    request: Request, decision: Decision, landscape: Landscape, present: Iterable[str]
) -> tuple[dict[str, Chain], dict[str, tuple[Reason, ...]]]:
    """Compose each provider's chain; for those whose duties do not fit into it, tell why not."""
    chains: dict[str, Chain] = {}
    unfit: dict[str, tuple[Reason, ...]] = {}
    for party in present:
        duties = decision.providers[party].duties
        try:
            chains[party] = compose(request, landscape.request_types, landscape.services, duties)
        except BadInput as error:
            reason = Reason(
                party=party,
                code="duty",
                clause="duties",
                fact=f"forces {', '.join(duties)}",
                message=f"the services that {party} forces do not fit into this chain: {error.message}",
                remedy="ask for other options, or change what these services may feed",
            )
            unfit[party] = (reason,)
    return chains, unfit


def _apart(placed: Placement, unites: bool) -> Iterable[str]:
    places = dict.fromkeys(placed.compute.values())
    if unites and len(places) > 1:
        yield f"the agreements name no compute provider in common: one result from each of {', '.join(places)}"


def _nowhere(placed: Placement) -> Refused | Unavailable:
    """Tell why no provider has a place: somebody is away, or what is permitted does not fit."""
    reasons = [reason for found in placed.reasons.values() for reason in found]
    waiting = list(dict.fromkeys(name for names in placed.waiting.values() for name in names))
    if waiting and any(reason.code == "compute-provider" for reason in reasons):
        names = " and ".join(waiting)
        verb = "is" if len(waiting) == 1 else "are"
        message = f"{names} {verb} offline, and no other compute provider is permitted"
        return Unavailable(message, where=", ".join(waiting), hint="ask again later", code="offline")
    return _refused("no archetype that is permitted fits the request", reasons)


def _refused(message: str, reasons: Iterable[Reason]) -> Refused:
    told = [reason.as_json() for reason in reasons]
    return Refused(message, hint="each reason has a remedy" if told else "", reasons=told)
