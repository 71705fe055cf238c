"""Enforcement: running jobs are held to the agreements as they are now, not as they were when they began.

Every party's agent does the same over its own agreement, and needs nobody for that. This is for the others that take
part, and for the requestor, who is told why.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from dynamos.kit.errors import DynamosError, Refused
from dynamos.middleware.messages import REVOKED
from dynamos.middleware.orchestrator.deliberations import Deliberation
from dynamos.middleware.orchestrator.livejobs import LiveJob, components
from dynamos.model.decisions import ProviderDecision
from dynamos.model.plans import Plan

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Breach:
    """A job that an agreement no longer permits: the parties whose parts have to stop, and what the requestor is
    told."""

    live: LiveJob
    parties: tuple[str, ...]
    error: Refused


class Enforcer:
    """Follows the agreements, and has stopped what they no longer permit."""

    def __init__(
        self,
        jobs: Callable[[], Iterable[LiveJob]],
        thought: Deliberation,
        stop: Callable[[Breach], Awaitable[None]],
    ) -> None:
        self._jobs = jobs
        self._thought = thought
        self._stop = stop

    async def follow(self, amended: asyncio.Queue[str]) -> None:
        """Enforce every party's agreement whenever it has changed, until cancelled."""
        while True:
            parties = {await amended.get()}
            while not amended.empty():
                parties.add(amended.get_nowait())
            await self.enforce(parties)

    async def enforce(self, parties: Iterable[str]) -> None:
        """Stop every job that one of these parties no longer permits, all at once. Others go on untouched."""
        breaches = [breach for party in parties for breach in self.breaches(party)]
        if breaches:
            log.info("jobs.revoked jobs=%s", " ".join(breach.live.record.id for breach in breaches))
        await asyncio.gather(*(self._stop(breach) for breach in breaches))

    def breaches(self, party: str) -> list[Breach]:
        """Give the jobs under way that the party no longer permits as they are."""
        found = []
        for live in self._jobs():
            if party not in live.plan.archetypes or live.record.state.final:
                continue
            before = live.record.decision.providers[party]
            try:
                now = self._thought.decide_of(live.record.request, party)
            except DynamosError as error:
                now = ProviderDecision(party=party, permitted=False)
                log.warning("decide.failed job=%s error=%s", live.record.id, error)
            if not still(live.plan, before, now):
                group = next(group for group in components(live.plan) if party in group)
                found.append(Breach(live, group, self._told(live, party, now)))
        return found

    def _told(self, live: LiveJob, party: str, now: ProviderDecision) -> Refused:
        """Say why, and whether the same request would run otherwise now."""
        reasons = [reason.as_json() for reason in now.reasons]
        try:
            plan = self._thought.plan_anew(live.record)
        except DynamosError:
            hint, again = "", False
        else:
            ways = ", ".join(dict.fromkeys(plan.archetypes.values()))
            hint, again = f"ask again: it would run now, under {ways}", True
        message = f"{party}'s agreement no longer permits this job"
        return Refused(message, where=party, hint=hint, code=REVOKED, reasons=reasons, again=again)


def still(plan: Plan, before: ProviderDecision, now: ProviderDecision) -> bool:
    """Tell whether what a provider says now permits just what runs: the way, the place, the services and the query."""
    party = now.party
    archetype, place = plan.archetypes[party], plan.compute[party]
    return (
        now.permitted
        and archetype in now.archetypes
        and (place == party or place in now.compute_providers)
        and (now.duties, now.query, now.uses) == (before.duties, before.query, before.uses)
    )
