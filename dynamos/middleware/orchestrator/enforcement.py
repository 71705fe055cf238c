"""Enforcement: running jobs are held to the agreements as they are now, not as they were when they began.

Every party's agent does the same over its own agreement, and needs nobody for that. This is for the others that take
part, and for the requestor, who is told why.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dynamos.kit.errors import DynamosError, Refused, TimedOut
from dynamos.middleware.amendments import Amendments
from dynamos.middleware.messages import REVOKED
from dynamos.middleware.orchestrator.deliberations import Deliberation
from dynamos.middleware.orchestrator.livejobs import LiveJob, components
from dynamos.model.decisions import Reason
from dynamos.model.jobs import PartReport, State
from dynamos.model.plans import Plan
from dynamos.planning.outlooks import Outlook
from dynamos.planning.reviews import review

log = logging.getLogger(__name__)
CATCH_UP_SECONDS = 2.0
"""How long an agreement may be on its way here, of which its party has told already."""
AT_ONCE = 100
"""So many jobs are judged, and stopped with one message to each party, before others are."""
OF_POLICY = (REVOKED, "other-chain", "other-query")


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
        stop: Callable[[Sequence[Breach]], Awaitable[None]],
    ) -> None:
        self._jobs = jobs
        self._thought = thought
        self._stop = stop
        self._stops: set[asyncio.Task[None]] = set()

    async def follow(self, amendments: Amendments) -> None:
        """Enforce agreements whenever they have changed, until cancelled."""
        while True:
            await self.enforce(await amendments.next())

    async def enforce(self, parties: Iterable[str]) -> None:
        """Have every job stopped that one of these parties no longer permits. Others go on untouched.

        When this returns, nothing of these jobs counts any more; that they really stop is not waited for: who does not
        answer must not keep another change from being enforced.
        """
        wanted, jobs = frozenset(parties), list(self._jobs())
        for start in range(0, len(jobs), AT_ONCE):
            outlook = self._thought.outlook()
            found = [each for live in jobs[start : start + AT_ONCE] for each in self._breaches(live, wanted, outlook)]
            self._begin(found)
            await asyncio.sleep(0)  # the first are stopped before the last are judged

    async def settle(self, live: LiveJob, reports: Sequence[PartReport]) -> None:
        """Judge what parties have refused or stopped by their own agreements, of which they hear before we do."""
        for report in reports:
            error = report.error or {}
            if report.party in live.revoked or not _of_policy(report):
                continue
            try:
                await self._thought.catch_up(report.party, int(error.get("revision") or 0), within=CATCH_UP_SECONDS)
            except TimedOut as late:
                log.warning("agreement.late job=%s party=%s error=%s", live.record.id, report.party, late)
            outlook = self._thought.outlook()
            reasons = _review(live, {report.party}, outlook).get(report.party, ())
            told = [reason.as_json() for reason in reasons] or list(error.get("reasons") or ())
            breach = Breach(live, _group(live, report.party), self._error(live, report.party, told, outlook))
            self._begin([breach])

    def _breaches(self, live: LiveJob, parties: frozenset[str], outlook: Outlook) -> Iterator[Breach]:
        """Give what has to stop of a job. One that has not started is planned again by itself, if that is possible."""
        concerned = parties.intersection(live.plan.archetypes).difference(live.revoked)
        if live.record.state.final or not concerned:
            return
        if live.record.state == State.SUBMITTED:
            if (error := self._refused(live, outlook)) is not None:
                yield Breach(live, live.plan.parties, error)
            return
        stopped: set[str] = set()
        for party, reasons in _review(live, concerned, outlook).items():
            group = _group(live, party)
            if party not in stopped:
                stopped.update(group)
                yield Breach(live, group, self._error(live, party, [reason.as_json() for reason in reasons], outlook))

    def _refused(self, live: LiveJob, outlook: Outlook) -> Refused | None:
        """Give the error of a job that waits, where nobody permits its request any more."""
        try:
            decision = outlook.decide(live.record.request)
        except DynamosError as error:
            return Refused(error.message, where=error.where, code=REVOKED, again=False)
        if decision.permitted:
            return None
        reasons = [reason.as_json() for reason in decision.reasons]
        names = ", ".join(live.plan.archetypes)
        return Refused(f"{names} no longer permits this job", where=names, code=REVOKED, reasons=reasons, again=False)

    def _error(self, live: LiveJob, party: str, reasons: Sequence[Mapping[str, Any]], outlook: Outlook) -> Refused:
        """Say why a job is stopped, and whether the same request would run otherwise now."""
        plan = _planned(live, outlook)
        ways = ", ".join(dict.fromkeys(plan.archetypes.values())) if plan else ""
        hint = f"ask again: it is permitted now in another way, as under {ways}" if plan else ""
        because = f": {reasons[0]['message']}" if reasons else ""
        message = f"{party} no longer permits this job{because}"
        return Refused(message, where=party, hint=hint, code=REVOKED, reasons=list(reasons), again=plan is not None)

    def _begin(self, breaches: Sequence[Breach]) -> None:
        """From now on nothing of these jobs counts; have them stopped."""
        if not breaches:
            return
        for breach in breaches:
            breach.live.revoke(breach.parties, breach.error)
        log.info("jobs.revoked jobs=%s", " ".join(breach.live.record.id for breach in breaches))
        task = asyncio.create_task(self._end(breaches), name="revoke")
        self._stops.add(task)
        task.add_done_callback(self._stops.discard)

    async def _end(self, breaches: Sequence[Breach]) -> None:
        try:
            await self._stop(breaches)
        except Exception:
            log.exception("revoke.broken jobs=%d", len(breaches))


def _review(live: LiveJob, parties: Iterable[str], outlook: Outlook) -> Mapping[str, tuple[Reason, ...]]:
    """Give who no longer permits what runs. What cannot be judged is not permitted."""
    record = live.record
    try:
        return review(record.request, live.plan, record.decision, outlook, frozenset(parties))
    except Exception:
        log.exception("review.broken job=%s", record.id)
        return dict.fromkeys(parties, ())


def _planned(live: LiveJob, outlook: Outlook) -> Plan | None:
    """Give how the request of a job could run now, if it could."""
    request = live.record.request
    try:
        return outlook.plan(request, outlook.decide(request), live.record.id)
    except DynamosError:
        return None
    except Exception:
        log.exception("plan.broken job=%s", live.record.id)
        return None


def _group(live: LiveJob, party: str) -> tuple[str, ...]:
    return next((group for group in components(live.plan) if party in group), (party,))


def _of_policy(report: PartReport) -> bool:
    """Tell whether a party ended its part, or did not begin it, because its agreement says something else now."""
    error = report.error or {}
    refused = error.get("kind") == Refused.code and bool(error.get("reasons"))
    return report.state != State.SUCCEEDED and (refused or error.get("code") in OF_POLICY)
