"""Outlooks: all that policy and planning look at, as it is at one moment, or as it would be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from dynamos.kit.errors import NotFound
from dynamos.model.agreements import Agreement
from dynamos.model.decisions import Decision, ProviderDecision
from dynamos.model.plans import Plan
from dynamos.model.requests import Request
from dynamos.planning import plans
from dynamos.planning.landscapes import Landscape
from dynamos.planning.planners import Planner
from dynamos.policy.engines import Catalogue, PolicyEngine


@dataclass(frozen=True, slots=True)
class Outlook:
    """Agreements, data sets and the marketplace's definitions, with the engine that decides over them."""

    engine: PolicyEngine
    agreements: Mapping[str, Agreement]
    catalogue: Catalogue
    landscape: Landscape
    now: datetime
    revision: str = ""

    def decide(self, request: Request) -> Decision:
        """Give what every provider says. Raises NotFound for a request type that there is not."""
        known = self.landscape
        if request.type not in known.request_types:
            raise NotFound(f"there is no request type {request.type!r}", where="$.type")
        return self.engine.decide(
            request,
            self.agreements,
            self.catalogue,
            request_types=known.request_types,
            services=known.services,
            archetypes=known.archetypes,
            now=self.now,
            revision=self.revision,
        )

    def decide_of(self, request: Request, party: str) -> ProviderDecision:
        """Give what one provider says of its part in a request."""
        return self.decide(request.model_copy(update={"providers": (party,)})).providers[party]

    def plan(self, request: Request, decision: Decision, job: str, planner: Planner = plans.WEIGHTS) -> Plan:
        """Give a plan over a decision. Raises what `plans.plan` raises."""
        return plans.plan(request, decision, self.landscape, job=job, planner=planner)

    def amended(self, agreement: Agreement) -> Outlook:
        """Give the outlook as it would be if its party had this agreement."""
        return replace(self, agreements={**self.agreements, agreement.name: agreement})
