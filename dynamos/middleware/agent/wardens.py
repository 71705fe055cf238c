"""Wardens: what runs at a party is held to its own agreement as it is now. Needs nobody but the party itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from dynamos.kit.clocks import Clock
from dynamos.kit.errors import Cancelled, DynamosError
from dynamos.knowledge.bases import KnowledgeBase
from dynamos.middleware.agent.gatekeepers import Gatekeeper, Permit, Policy
from dynamos.middleware.agent.partruns import PartRun
from dynamos.middleware.amendments import Amendments
from dynamos.middleware.messages import REVOKED
from dynamos.middleware.views import Mirror, Work, agreements_of
from dynamos.model.agreements import Agreement

log = logging.getLogger(__name__)


class Warden:
    """Stops parts that the agreement no longer permits: when it changes, when its time has passed, and when what the
    marketplace shares changes. `works` are the endless tasks for that."""

    def __init__(self, name: str, kb: KnowledgeBase, gatekeeper: Gatekeeper, policy: Policy, clock: Clock) -> None:
        self._name = name
        self._kb = kb
        self._policy = policy
        self._clock = clock
        self._held: dict[str, tuple[PartRun, Permit]] = {}
        self._gatekeeper = gatekeeper
        self._mirror = Mirror(agreements_of(kb, name), self._read)
        self.amendments = Amendments(lambda: {name: policy.agreement}, clock)

    @property
    def works(self) -> tuple[Work, ...]:
        return (self._mirror.follow, self._follow)

    def begin(self, run: PartRun, permit: Permit) -> None:
        """Hold a part from now on. Raises Refused where the agreement has changed since the part was permitted."""
        self._gatekeeper.review(permit)
        self._held[permit.grant.job] = run, permit

    def end(self, job: str) -> None:
        """A part has ended, or never began."""
        self._held.pop(job, None)

    def shared(self, _: str) -> None:
        """Hear that what the marketplace shares has changed."""
        self._policy.edition += 1
        self.amendments.tell(self._name)

    async def take(self, agreement: Agreement, revision: int) -> None:
        """Have this agreement, unless a later one is known, and stop what it does not permit before this returns."""
        self._policy.take(agreement, revision)
        await self.hold()

    async def hold(self) -> None:
        """Stop at once every part that is not permitted as it runs."""
        held = [(run, permit) for run, permit in self._held.values() if not run.stopped]
        breaches = [(run, error) for run, permit in held if (error := self._breach(permit)) is not None]
        await asyncio.gather(*(run.kill(error) for run, error in breaches), return_exceptions=True)
        for run, error in breaches:
            log.info("part.revoked job=%s revision=%d reason=%s", run.grant.job, self._policy.revision, error)
        await asyncio.gather(*(self._audit(run.grant.job, error) for run, error in breaches))

    async def _follow(self) -> None:
        while True:
            await self.amendments.next()
            self._policy.edition += 1
            await self.hold()

    def _read(self, _: str) -> None:
        """Take over the agreement that the knowledge base has: an answer to who wrote it may have been lost."""
        agreement = self._mirror.values.get(self._name)
        if agreement is not None:
            self._policy.take(agreement, self._mirror.revisions[self._name])
        self.amendments.tell(self._name)

    def _breach(self, permit: Permit) -> DynamosError | None:
        """Give why a part has to stop. What cannot be judged is not permitted."""
        facts: Mapping[str, Any] = {}
        try:
            self._gatekeeper.review(permit)
        except DynamosError as error:
            facts = error.facts
        except Exception:
            log.exception("review.broken job=%s", permit.grant.job)
        else:
            return None
        told = f"{self._name}'s agreement no longer permits this job"
        reasons = list(facts.get("reasons") or ())
        return Cancelled(told, where=self._name, code=REVOKED, reasons=reasons, revision=self._policy.revision)

    async def _audit(self, job: str, error: DynamosError) -> None:
        record = {
            "event": "part.revoked",
            "time": self._clock.now().isoformat(),
            "party": self._name,
            "job": job,
            "revision": self._policy.revision,
            "reasons": error.facts.get("reasons", []),
        }
        try:
            await self._kb.log("audit").append(f"{self._name}.{job}", record)
        except DynamosError as failure:
            log.warning("audit.unwritten job=%s error=%s", job, failure)
