"""Marketplaces for tests: upstream's launch files as values, and a decision over them in one call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from dynamos.model.agreements import Agreement
from dynamos.model.archetypes import Archetype
from dynamos.model.datasets import DataSet
from dynamos.model.decisions import Decision
from dynamos.model.plans import Plan
from dynamos.model.request_types import RequestType
from dynamos.model.requests import Request
from dynamos.model.services import Service
from dynamos.planning.landscapes import Landscape
from dynamos.planning.plans import plan
from dynamos.policy.builtin import BuiltIn
from dynamos.policy.engines import PolicyEngine

NOW = datetime(2026, 7, 1, tzinfo=UTC)
USER = "jorrit.stutterheim@cloudnation.nl"
QUERY = "SELECT p.Geslacht, s.Salschal FROM Personen p JOIN Aanstellingen s ON p.Unieknr = s.Unieknr"

TYPES = {"Geslacht": "VARCHAR", "Instcode": "VARCHAR", "Functcat": "VARCHAR"}
PERSONEN = ("Instcode", "Unieknr", "Geslacht", "Gebdat", "Nationaliteit", "BKO", "SKO", "Peildat")
AANSTELLINGEN = (
    "Instcode", "Unieknr", "Volgnrar", "Aadnstvb", "Ingdatdv", "Eindatdv", "HOOPgeb", "Functcat", "WelGeenHGL",
    "Salschal", "Taakomv", "Aanst_22", "Peildat",
)  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """A whole marketplace as policy and planning see it."""

    agreements: Mapping[str, Agreement]
    catalogue: Mapping[str, Mapping[str, DataSet]]
    services: Mapping[str, Service]
    request_types: Mapping[str, RequestType]
    archetypes: Mapping[str, Archetype]
    online: frozenset[str] = frozenset()
    engine: PolicyEngine = field(default_factory=BuiltIn)

    def decide(self, request: Request) -> Decision:
        return self.engine.decide(
            request,
            self.agreements,
            self.catalogue,
            request_types=self.request_types,
            services=self.services,
            archetypes=self.archetypes,
            now=NOW,
            revision="1",
        )

    def landscape(self) -> Landscape:
        return Landscape(self.archetypes, self.request_types, self.services, self.online)

    def plan(self, request: Request) -> Plan:
        return plan(request, self.decide(request), self.landscape(), job="job-1")

    def agreeing(self, party: str, **changes: Any) -> Scene:
        """Give the scene with another agreement of one party: members of the relation of USER, or of the agreement."""
        agreement = self.agreements.get(party) or Agreement(name=party)
        own = {name: value for name, value in changes.items() if name in ("compute_providers", "archetypes")}
        forced = changes.get("all_duties")
        if forced is not None:
            own["duties"] = {"sqlDataRequest": tuple(forced)}
        elsewhere = ("compute_providers", "archetypes", "all_duties")
        members = {name: value for name, value in changes.items() if name not in elsewhere}
        relation = agreement.relations[USER].model_copy(update=members)
        agreement = agreement.model_copy(update={**own, "relations": {**agreement.relations, USER: relation}})
        return replace(self, agreements={**self.agreements, party: agreement})

    def without(self, *parties: str) -> Scene:
        """Give the scene with these parties offline."""
        return replace(self, online=self.online.difference(parties))


def wage_gap(rules: Mapping[str, str] | None = None) -> DataSet:
    """Give upstream's data set; `rules` are "table.column" -> "method:size"."""
    found = rules or {}
    tables = {"Personen": PERSONEN, "Aanstellingen": AANSTELLINGEN}
    return DataSet.model_validate({
        "name": "wageGap",
        "type": "csv",
        "delimiter": ";",
        "tables": {
            table: {
                "columns": {
                    column: {"type": TYPES.get(column, "BIGINT"), "rule": found.get(f"{table}.{column}")}
                    for column in columns
                }
            }
            for table, columns in tables.items()
        },
    })  # fmt: skip


def relation(**changes: Any) -> dict[str, Any]:
    """Give upstream's only relation, changed."""
    return {
        "ID": "GUID",
        "requestTypes": ["sqlDataRequest", "genericRequest"],
        "dataSets": ["wageGap"],
        "allowedArchetypes": ["computeToData", "dataThroughTtp"],
        "allowedComputeProviders": ["SURF"],
        **changes,
    }


def upstream(rules: Mapping[str, str] | None = None) -> Scene:
    """Give upstream's marketplace: UVA and VU permit, RUG does not, SURF computes."""
    agreements = {
        name: Agreement.model_validate({
            "name": name,
            "relations": {USER: relation()},
            "computeProviders": ["SURF", "otherCompany"],
            "archetypes": ["computeToData", "dataThroughTtp", "reproducableScience"],
        })
        for name in ("UVA", "VU")
    } | {"RUG": Agreement(name="RUG")}  # fmt: skip
    data_set = wage_gap(rules)
    return Scene(
        agreements=agreements,
        catalogue={party: {"wageGap": data_set} for party in ("UVA", "VU", "RUG")},
        services=services(),
        request_types={
            "sqlDataRequest": RequestType.model_validate({
                "name": "sqlDataRequest",
                "requiredServices": ["sql-query", "sql-algorithm"],
                "optionalServices": {
                    "sql-anonymize": "anonymize", "sql-graph": "graph", "sql-aggregate": "aggregate",
                },
            }),
            "genericRequest": RequestType(name="genericRequest"),
        },
        archetypes={
            "computeToData": Archetype(name="computeToData", compute_provider="dataProvider", weight=100),
            "dataThroughTtp": Archetype(name="dataThroughTtp", compute_provider="other", weight=200),
        },
        online=frozenset({"UVA", "VU", "RUG", "SURF"}),
    )  # fmt: skip


def services() -> dict[str, Service]:
    """Give upstream's services with what our manifests add."""
    return {
        service["name"]: Service.model_validate(service)
        for service in (
            {
                "name": "sql-query", "label": "dataProvider", "inputs": "none", "readsData": True,
                "allowedOutputs": ["sql-aggregate", "sql-algorithm", "sql-anonymize"],
            },
            {
                "name": "sql-anonymize", "label": "dataProvider",
                "allowedOutputs": ["sql-aggregate", "sql-algorithm"],
            },
            {"name": "sql-algorithm", "label": "computeProvider", "allowedOutputs": ["sql-graph"]},
            {"name": "sql-graph", "label": "computeProvider"},
            {
                "name": "sql-aggregate", "label": "computeProvider", "inputs": "many",
                "allowedOutputs": ["sql-algorithm"], "invalidArchetypes": ["computeToData"],
            },
        )
    }  # fmt: skip


def request(providers: Iterable[str] = ("UVA", "VU"), query: str = QUERY, **members: Any) -> Request:
    """Give a request of USER."""
    return Request.model_validate({
        "type": "sqlDataRequest",
        "user": {"id": "12324", "userName": USER},
        "providers": list(providers),
        "query": query,
        "algorithm": "average",
        **members,
    })  # fmt: skip
