"""Rehearsals: what another agreement would do to jobs that run now, and would have done to requests that came. Pure.

Nothing changes. A rehearsal says of each job or request that a party has a part in what would become of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from dynamos.kit.errors import BadInput, DynamosError, NotFound
from dynamos.model.agreements import Agreement
from dynamos.model.decisions import Decision, ProviderDecision, Reason
from dynamos.model.plans import Plan
from dynamos.model.requests import Request
from dynamos.model.values import Name, Value
from dynamos.planning.outlooks import Outlook
from dynamos.planning.reviews import review

Effect = Literal["untouched", "stopped", "planned-again", "allowed", "still-refused"]
"""Of a job: it goes on, it ends, or its request would run in another way. Of a request that came: what it got it would
get again, it would be refused, it would get it in another way, it would be permitted now, or it would not."""


class Rehearsal(Value):
    """What would become of one job or request. `before` and `after` are the party's archetypes: the one that runs, of
    those that it permits; `reasons` say why it could not go on as it is."""

    job: str
    user: str
    request_type: Name
    effect: Effect
    before: tuple[Name, ...] = ()
    after: tuple[Name, ...] = ()
    reasons: tuple[Reason, ...] = ()


class Running(Value):
    """A job under way, as far as a rehearsal needs it."""

    job: str
    request: Request
    decision: Decision
    plan: Plan


class Past(Value):
    """A request that came, and what the party said to it then."""

    job: str
    request: Request
    said: ProviderDecision


def of_running(jobs: Iterable[Running], agreement: Agreement, outlook: Outlook) -> list[Rehearsal]:
    """Give what an agreement would do to the jobs in which its party provides data."""
    then = outlook.amended(agreement)
    return [_running(each, agreement.name, then) for each in jobs if agreement.name in each.plan.archetypes]


def of_past(requests: Iterable[Past], agreement: Agreement, outlook: Outlook) -> list[Rehearsal]:
    """Give what a party would have said to requests with this agreement: as things are now, but for the agreement.

    Its relations count as they are now: one that has ended permits nothing, also to a request that came before.
    """
    then = outlook.amended(agreement)
    return [_past(each, agreement.name, then) for each in requests]


def _running(job: Running, party: str, then: Outlook) -> Rehearsal:
    reasons = review(job.request, job.plan, job.decision, then, (party,)).get(party, ())
    before = (job.plan.archetypes[party],)
    effect: Effect = "stopped" if reasons else "untouched"
    after: tuple[str, ...] = () if reasons else before
    if reasons:
        try:
            plan = then.plan(job.request, then.decide(job.request), job.job)
        except DynamosError:
            pass
        else:
            effect, after = "planned-again", (plan.archetypes[party],) if party in plan.archetypes else ()
    return Rehearsal(**_facts(job), effect=effect, before=before, after=after, reasons=reasons)


def _past(came: Past, party: str, then: Outlook) -> Rehearsal:
    try:
        now = then.decide_of(came.request, party)
    except (BadInput, NotFound) as error:
        reason = Reason(party=party, code="request-type", clause="requestTypes", fact="-", message=error.message)
        now = ProviderDecision(party=party, permitted=False, reasons=(reason,))
    effect = _effect(came.said, now)
    before, after = came.said.archetypes, now.archetypes
    return Rehearsal(**_facts(came), effect=effect, before=before, after=after, reasons=now.reasons)


def _effect(said: ProviderDecision, now: ProviderDecision) -> Effect:
    if not said.permitted:
        return "allowed" if now.permitted else "still-refused"
    if not now.permitted:
        return "stopped"
    same = (said.archetypes, said.compute_providers, said.duties, said.uses)
    return "untouched" if same == (now.archetypes, now.compute_providers, now.duties, now.uses) else "planned-again"


def _facts(each: Running | Past) -> dict[str, str]:
    return {"job": each.job, "user": each.request.user.user_name, "request_type": each.request.type}
