"""The built-in engine: what the agreements say, clause by clause, over what the query really uses."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache

from dynamos.kit.errors import BadInput
from dynamos.kit.words import suggest
from dynamos.model.agreements import Agreement
from dynamos.model.archetypes import Archetype
from dynamos.model.datasets import DataSet
from dynamos.model.decisions import Decision, Output, ProviderDecision, Reason
from dynamos.model.request_types import RequestType
from dynamos.model.requests import Request
from dynamos.model.services import Service
from dynamos.policy.clauses import Case, Marketplace, reasons
from dynamos.policy.engines import Catalogue
from dynamos.policy.queries import Query, analyse
from dynamos.policy.resolution import Resolved, resolve
from dynamos.policy.schemas import schema_of
from dynamos.policy.uses import refusals


class BuiltIn:
    """Decides by the agreements as they are written. Keeps nothing but caches of queries and schemas."""

    name = "built-in"

    def decide(
        self,
        request: Request,
        agreements: Mapping[str, Agreement],
        catalogue: Catalogue,
        *,
        request_types: Mapping[str, RequestType],
        services: Mapping[str, Service],
        archetypes: Mapping[str, Archetype],
        now: datetime,
        revision: str,
    ) -> Decision:
        """Give the answer of every provider that the request names (see PolicyEngine.decide)."""
        query = _query(request, request_types, services)
        marketplace = Marketplace(request_types, services, archetypes, now)
        answers: dict[str, ProviderDecision] = {}
        for party in request.providers:
            case = _case(party, request, agreements, marketplace)
            answers[party] = (
                _answer(case, query, catalogue.get(party, {}))
                if isinstance(case, Case)
                else ProviderDecision(party=party, permitted=False, reasons=(case,))
            )
        return Decision(user=request.user.user_name, request_type=request.type, revision=revision, providers=answers)


def _query(request: Request, request_types: Mapping[str, RequestType], services: Mapping[str, Service]) -> Query | None:
    """Read the request's query. Only a request type that reads no data may go without one."""
    request_type = request_types.get(request.type)
    required = request_type.required_services if request_type else ()
    if request.query.strip():
        return analyse(request.query)
    if any(name in services and services[name].reads_data for name in required):
        raise BadInput("the query is empty", where="query:1:1", hint="write a SELECT", code="sql", position=[1, 1])
    return None


def _case(party: str, request: Request, agreements: Mapping[str, Agreement], marketplace: Marketplace) -> Case | Reason:
    """Find what the party and the user have with each other, or the one reason why that is nothing.

    Neither reason tells what others may do.
    """
    agreement = agreements.get(party)
    if agreement is None:
        hint = suggest(party, agreements) or "ask for the parties that are there"
        message = f"there is no party {party!r}"
        return Reason(
            party=party,
            code="unknown-party",
            clause="agreements",
            fact=f"party {party!r}",
            message=message,
            remedy=hint,
        )
    user = request.user.user_name
    relation = agreement.relations.get(user)
    if relation is None:
        message = f"{party} has no agreement with {user!r}"
        remedy = f"ask {party} to add relations[{user!r}] that permits {request.type!r}"
        return Reason(
            party=party, code="no-relation", clause="relations", fact=f"user {user!r}", message=message, remedy=remedy
        )
    return Case(party, request, agreement, relation, marketplace)


def _answer(case: Case, query: Query | None, held: Mapping[str, DataSet]) -> ProviderDecision:
    found = list(reasons(case))
    resolved = None
    if query is not None:
        permitted = [held[name] for name in case.relation.data_sets if name in held]
        if not permitted:
            found.append(_no_data(case))
        else:
            schema = schema_of(permitted)
            resolved = resolve(query, schema)
            found.extend(refusals(case, schema, resolved, held))
    if found:
        # What the query would have used is not told: under a `*` it would be columns that the user may not know of.
        resolved = None
    return ProviderDecision(
        party=case.party,
        permitted=not found,
        archetypes=case.archetypes,
        compute_providers=case.compute_providers,
        duties=case.duties,
        uses=resolved.uses if resolved else (),
        outputs=_outputs(resolved) if resolved else (),
        query=resolved.sql if resolved else "",
        reasons=tuple(found),
    )


def _no_data(case: Case) -> Reason:
    clause = case.clause("dataSets")
    names = ", ".join(case.relation.data_sets) or "none"
    message = f"{case.party} has no data set for this user"
    remedy = f"add a data set to {clause}" if not case.relation.data_sets else f"ask {case.party} for {names}"
    return case.reason("data-set", clause, f"permitted: {names}", message, remedy)


@lru_cache(maxsize=4096)
def _outputs(resolved: Resolved) -> tuple[Output, ...]:
    return tuple(
        Output(name=field.name, sources=tuple(sorted(field.sources)), plain=field.plain) for field in resolved.outputs
    )
