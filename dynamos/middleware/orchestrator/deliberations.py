"""Deliberations: what policy and planning say of a request now, and the record of it in the audit stream."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from opentelemetry import trace

from dynamos.kit.clocks import Clock
from dynamos.kit.errors import DynamosError, NotFound, Refused
from dynamos.knowledge.bases import KnowledgeBase
from dynamos.middleware.messages import REVOKED, Submit
from dynamos.middleware.orchestrator.advisers import Adviser, ByWeights
from dynamos.middleware.orchestrator.overviews import Overview
from dynamos.middleware.views import error_facts
from dynamos.model.decisions import Decision
from dynamos.model.jobs import Job
from dynamos.model.plans import Plan
from dynamos.model.requests import Request
from dynamos.planning import plans
from dynamos.planning.outlooks import Outlook
from dynamos.policy.engines import PolicyEngine

log = logging.getLogger(__name__)
tracer = trace.get_tracer("dynamos.orchestrator")


class Deliberation:
    """Decides and plans over the marketplace as it is now, and writes down what was decided."""

    def __init__(
        self,
        kb: KnowledgeBase,
        overview: Overview,
        engine: PolicyEngine,
        clock: Clock,
        adviser: Adviser | None = None,
    ) -> None:
        self._kb = kb
        self._overview = overview
        self._engine = engine
        self._clock = clock
        self._adviser = adviser or ByWeights()

    @property
    def revision(self) -> str:
        """The policy revision that a decision would have now."""
        return self._overview.revision

    @property
    def edition(self) -> int:
        """Counts the changes of what decisions rest on: as long as it stays, a decision stays."""
        return self._overview.edition

    def outlook(self) -> Outlook:
        """Give all that is decided and planned over, as it is now."""
        known = self._overview
        return Outlook(
            engine=self._engine,
            agreements=known.agreements,
            catalogue=known.catalogue,
            landscape=known.landscape(),
            now=self._clock.now(),
            revision=known.revision,
        )

    def decide(self, request: Request) -> Decision:
        """Give what every provider says. Raises NotFound for a request type that there is not."""
        with tracer.start_as_current_span("decide"):
            return self.outlook().decide(request)

    def plan(self, request: Request, decision: Decision, job: str) -> Plan:
        """Give the plan over a decision, as the adviser picks. Raises what `plans.plan` raises."""
        advice = self._adviser.planner(request, job)
        made = plans.plan(request, decision, self._overview.landscape(), job=job, planner=advice)
        compression = dict(advice.compression(made))
        if not advice.notes and not compression:
            return made
        return made.model_copy(update={"notes": (*made.notes, *advice.notes), "compression": compression})

    def anew(self, job: Job) -> tuple[Decision, Plan]:
        """Decide and plan again over a job's request. Raises Refused (revoked), Unavailable, BadInput."""
        try:
            decision = self.decide(job.request)
            return decision, self.plan(job.request, decision, job.id)
        except (Refused, NotFound) as error:
            reasons = error.facts.get("reasons") or []
            told = f"the request is not permitted any more: {error.message}"
            raise Refused(told, where=error.where, code=REVOKED, reasons=reasons, again=False) from error

    async def catch_up(self, party: str, revision: int, *, within: float) -> None:
        """Wait until a party's agreement is known here as of a revision. Raises TimedOut."""
        await self._overview.reach(party, revision, within=within)

    async def note(self, message: Submit, decision: Decision) -> None:
        """Write down what was decided over a request, before anything is done about it."""
        event = "request.permitted" if decision.permitted else "request.refused"
        asked = message.request
        told = {"user": asked.user.user_name, "request": asked.digest(), "asked": asked.as_json()}
        told |= {"revision": decision.revision, "decision": decision.as_json()}
        await self._write(event, message.job, told)

    async def note_revoked(self, job: Job, error: DynamosError) -> None:
        """Write down that a job was stopped for what an agreement says now. It is stopped whether or not that works."""
        try:
            await self._write(
                "job.revoked", job.id, {"user": job.user, "revision": self.revision, "error": error_facts(error)}
            )
        except DynamosError as failure:
            log.warning("audit.unwritten job=%s error=%s", job.id, failure)

    async def _write(self, event: str, job: str, told: Mapping[str, Any]) -> None:
        record = {"event": event, "time": self._clock.now().isoformat(), "job": job, **told}
        await self._kb.log("audit").append(f"orchestrator.{job}", record)


def refusal(decision: Decision) -> Refused:
    """Give the error that tells a requestor why every party refuses."""
    reasons = [reason.as_json() for reason in decision.reasons]
    parties = ", ".join(decision.providers)
    return Refused(f"none of {parties} permits this request", reasons=reasons, decision=decision.as_json())
