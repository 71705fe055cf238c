"""Clauses: each part of an agreement as a question that gives the reasons to refuse."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from dynamos.kit.words import suggest
from dynamos.model.agreements import Agreement, Relation
from dynamos.model.archetypes import Archetype
from dynamos.model.decisions import Reason
from dynamos.model.request_types import RequestType
from dynamos.model.requests import Request
from dynamos.model.services import Service


@dataclass(frozen=True, slots=True)
class Marketplace:
    """What the clauses refer to."""

    request_types: Mapping[str, RequestType]
    services: Mapping[str, Service]
    archetypes: Mapping[str, Archetype]
    now: datetime


@dataclass(frozen=True, slots=True)
class Case:
    """One request before one party that knows its user."""

    party: str
    request: Request
    agreement: Agreement
    relation: Relation
    marketplace: Marketplace

    def clause(self, member: str) -> str:
        """Give the path of a member of the user's relation."""
        return f"relations[{self.request.user.user_name!r}].{member}"

    def reason(
        self,
        code: str,
        clause: str,
        fact: str,
        message: str,
        remedy: str,
        *,
        position: tuple[int, int] | None = None,
    ) -> Reason:
        return Reason(
            party=self.party, code=code, clause=clause, fact=fact, message=message, remedy=remedy, position=position
        )

    @property
    def archetypes(self) -> tuple[str, ...]:
        """The archetypes that the agreement and the relation both allow, in the agreement's order."""
        return tuple(name for name in self.agreement.archetypes if name in self.relation.allowed_archetypes)

    @property
    def compute_providers(self) -> tuple[str, ...]:
        """The compute providers that the agreement and the relation both allow, in the agreement's order."""
        allowed = self.relation.allowed_compute_providers
        return tuple(name for name in self.agreement.compute_providers if name in allowed)

    @property
    def duties(self) -> tuple[str, ...]:
        """The services that the party forces into the chain of this request."""
        return tuple(dict.fromkeys(self.relation.duties + self.agreement.duties.get(self.request.type, ())))


def reasons(case: Case) -> Iterator[Reason]:
    """Give every reason to refuse that has nothing to do with the query."""
    for clause in (_expiry, _request_type, _options, _algorithm, _duties, _archetype, _compute_provider):
        yield from clause(case)


def _expiry(case: Case) -> Iterator[Reason]:
    until = case.relation.valid_until
    if until is None:
        return
    until = until if until.tzinfo else until.replace(tzinfo=case.marketplace.now.tzinfo)
    if until < case.marketplace.now:
        clause, when = case.clause("validUntil"), until.isoformat()
        message = f"the agreement with {case.party} ended on {when}"
        yield case.reason("expired", clause, f"validUntil {when}", message, f"ask {case.party} to renew {clause}")


def _request_type(case: Case) -> Iterator[Reason]:
    name, known = case.request.type, case.marketplace.request_types
    clause = case.clause("requestTypes")
    if name not in known:
        hint = suggest(name, known) or f"ask for one of: {', '.join(sorted(known))}"
        yield case.reason("request-type", "requestTypes", f"type {name!r}", f"there is no request type {name!r}", hint)
    elif name not in case.relation.request_types:
        message = f"{case.party} does not permit requests of type {name!r} to this user"
        yield case.reason("request-type", clause, f"type {name!r}", message, f"add {name!r} to {clause}")


def _options(case: Case) -> Iterator[Reason]:
    """An option that switches nothing on is a mistake, and may be a forgotten protection: «anonymise»."""
    request_type = case.marketplace.request_types.get(case.request.type)
    if request_type is None:
        return
    known = {option.lower(): option for option in request_type.optional_services.values()}
    for option, wanted in case.request.options.items():
        if wanted and option.lower() not in known:
            message = f"requests of type {request_type.name!r} have no option {option!r}"
            hint = suggest(option, known.values()) or f"leave out the option {option!r}"
            yield case.reason("option", "request.options", f"option {option!r}", message, hint)


def _algorithm(case: Case) -> Iterator[Reason]:
    allowed, asked = case.relation.algorithms, case.request.algorithm
    if allowed is None or asked in allowed:
        return
    clause = case.clause("algorithms")
    message = f"{case.party} does not permit the algorithm {asked!r}" if asked else f"{case.party} wants an algorithm"
    remedy = f"ask for one of: {', '.join(allowed) or 'none'}; or add {asked!r} to {clause}"
    yield case.reason("algorithm", clause, f"algorithm {asked!r}", message, remedy)


def _duties(case: Case) -> Iterator[Reason]:
    for duty in case.duties:
        if duty not in case.marketplace.services:
            clause = case.clause("duties") if duty in case.relation.duties else f"duties[{case.request.type!r}]"
            message = f"{case.party} forces the service {duty!r}, which the marketplace does not have"
            remedy = f"register the service {duty!r}, or remove it from {clause}"
            yield case.reason("duty", clause, f"service {duty!r}", message, remedy)


def _archetype(case: Case) -> Iterator[Reason]:
    asked, both, known = case.request.archetype, case.archetypes, case.marketplace.archetypes
    clause = case.clause("allowedArchetypes")
    if asked is not None and asked not in known:
        hint = suggest(asked, known) or f"ask for one of: {', '.join(sorted(known))}"
        message = f"there is no archetype {asked!r}"
        yield case.reason("archetype", "archetypes", f"archetype {asked!r}", message, hint)
    elif asked is not None and asked not in both:
        where = clause if asked in case.agreement.archetypes else f"archetypes and {clause}"
        message = f"{case.party} does not permit the archetype {asked!r}"
        remedy = f"leave out the archetype, or add {asked!r} to {where}"
        yield case.reason("archetype", where, f"archetype {asked!r}", message, remedy)
    elif not any(name in known for name in both):
        message = f"{case.party} permits no archetype to this user that the marketplace has"
        remedy = f"add one of {', '.join(case.agreement.archetypes or sorted(known))} to {clause}"
        yield case.reason("archetype", clause, f"allowed: {', '.join(both) or 'none'}", message, remedy)


def _compute_provider(case: Case) -> Iterator[Reason]:
    asked, both = case.request.compute_provider, case.compute_providers
    clause = case.clause("allowedComputeProviders")
    if asked is not None and asked not in (*both, case.party):
        where = clause if asked in case.agreement.compute_providers else f"computeProviders and {clause}"
        message = f"{case.party} does not permit {asked!r} as compute provider"
        remedy = f"leave out the compute provider, or add {asked!r} to {where}"
        yield case.reason("compute-provider", where, f"compute provider {asked!r}", message, remedy)
    elif not both:
        wanted = [name for name in case.archetypes if case.request.archetype in (None, name)]
        usable = [found for name in wanted if (found := case.marketplace.archetypes.get(name))]
        if usable and all(archetype.moves_data for archetype in usable):
            names = ", ".join(archetype.name for archetype in usable)
            message = f"{names} needs a compute provider, and {case.party} permits none to this user"
            remedy = f"add one of {', '.join(case.agreement.compute_providers) or 'the compute providers'} to {clause}"
            yield case.reason("compute-provider", clause, f"archetype {names}", message, remedy)
