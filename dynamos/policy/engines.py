"""The contract of a policy engine: may this request run? (design §5.4)"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from dynamos.model.agreements import Agreement
from dynamos.model.archetypes import Archetype
from dynamos.model.datasets import DataSet
from dynamos.model.decisions import Decision
from dynamos.model.request_types import RequestType
from dynamos.model.requests import Request
from dynamos.model.services import Service

Catalogue = Mapping[str, Mapping[str, DataSet]]
"""Party -> data set -> the data set, with the columns of its tables."""

ANONYMISER = "sql-anonymize"
"""The service that applies the rules of sensitive columns."""


class PolicyEngine(Protocol):
    """Decides over requests. Pure: the same arguments give the same decision, and nothing else happens."""

    @property
    def name(self) -> str:
        """The engine's name in records and settings."""
        ...

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
        """Give the answer of every provider that the request names, each with all its reasons at once.

        `agreements` are by party. A party that is not among them is unknown. `revision` is the policy revision that
        `agreements` are of; the decision carries it. Raises BadInput (code "sql") for a query that no party could
        permit: it does not parse, or does more than read tables.
        """
        ...
