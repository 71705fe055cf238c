"""A job under execution: its record, the reports that its parts owe, and which parts depend on each other."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from dynamos.kit.errors import DynamosError
from dynamos.middleware.messages import Presence, Submit
from dynamos.middleware.views import error_facts
from dynamos.model.decisions import Decision
from dynamos.model.jobs import Job, PartReport, State, step_state
from dynamos.model.plans import Plan

CONSEQUENCES = ("ended", "reader-gone", "peer-away", "stream-broke")
"""Codes that tell what another party's failure did to this one: not the cause that a requestor should see."""


def is_consequence(report: PartReport) -> bool:
    """Tell whether a failed part says no more than what another's failure did to it."""
    return (report.error or {}).get("code") in CONSEQUENCES


def components(plan: Plan) -> list[tuple[str, ...]]:
    """Group the parties whose parts exchange rows: a failure spreads within a group, and not beyond it."""
    group = {party: {party} for party in plan.parties}
    for edge in plan.edges:
        if edge.crosses and edge.target_party in group:
            joined = group[edge.source_party] | group[edge.target_party]
            for party in joined:
                group[party] = joined
    unique = {frozenset(parties): None for parties in group.values()}
    return [tuple(party for party in plan.parties if party in parties) for parties in unique]


class LiveJob:
    """The mutable side of one job; `record` is replaced, never changed."""

    def __init__(self, record: Job, plan: Plan, submission: Submit, *, edition: int = 0) -> None:
        self.record = record
        self.edition = edition
        self.revoked: dict[str, DynamosError] = {}
        self.plan = plan
        self.submission = submission
        self.started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[None] | None = None
        self.stop: DynamosError | None = None
        self.begun: set[str] = set()
        """The parties that have answered that their part has begun."""
        self.places: dict[str, Presence] = {}
        """The agent that runs each party's part."""
        self._reports = _owed_by(plan)

    def replan(self, plan: Plan, decision: Decision) -> None:
        """Have another plan, under another decision. Only before the job starts."""
        self.plan = plan
        self.places = {}
        self.record = self.record.model_copy(update={"plan": plan, "decision": decision, "instances": {}})
        self._reports = _owed_by(plan)

    @property
    def instances(self) -> dict[str, str]:
        """The name of the agent that runs each party's part."""
        return {party: place.instance for party, place in self.places.items()}

    def place(self, places: Mapping[str, Presence]) -> None:
        """Have these agents run these parties' parts; the others' stay."""
        self.places = {**self.places, **places}
        self.record = self.record.model_copy(update={"instances": self.instances})

    def revoke(self, parties: Iterable[str], error: DynamosError) -> None:
        """Take note that these parties' parts are not permitted any more: whatever they report, they bring nothing."""
        self.stop = self.stop or error
        told = {party: self._withdrawn(party, error) for party in parties if party not in self.revoked}
        self.revoked |= dict.fromkeys(told, error)
        if self.record.state == State.RUNNING:
            self.record = self.record.model_copy(update={"parts": {**self.record.parts, **told}})

    def _withdrawn(self, party: str, error: DynamosError) -> PartReport:
        owed = self._reports.get(party)
        known = (
            owed.result()
            if owed is not None and owed.done()
            else PartReport(job=self.record.id, party=party, state=State.CANCELLED)
        )
        return known.model_copy(update={"state": State.CANCELLED, "error": error_facts(error)})

    def report(self, report: PartReport) -> bool:
        """Take a part's report; the first one counts. Tells whether it did."""
        owed = self._reports.get(report.party)
        if owed is None or owed.done():
            return False
        owed.set_result(report)
        return True

    def end_part(self, party: str, state: State, error: DynamosError) -> bool:
        """Close a part that will not report itself."""
        return self.report(PartReport(job=self.record.id, party=party, state=state, error=error_facts(error)))

    def owed(self, party: str) -> asyncio.Future[PartReport]:
        """Give the future report of a party's part."""
        return self._reports[party]

    def event(self, event: str, **changes: Any) -> None:
        """Move the record to its next state. Raises Conflict where that cannot happen."""
        state = step_state(self.record.state, event)
        self.record = self.record.model_copy(update={"state": state, **changes})

    def conclude(self, reports: list[PartReport], groups: list[tuple[str, ...]], now: datetime) -> None:
        """Bring the record to its final state: every result complete, some, or none."""
        by_party = {report.party: report for report in reports}
        by_party |= {party: self._withdrawn(party, error) for party, error in self.revoked.items()}
        good = [all(by_party[party].state == State.SUCCEEDED for party in group) for group in groups]
        bad = [report for report in by_party.values() if report.state != State.SUCCEEDED]
        causes = [report for report in bad if not is_consequence(report)]
        worst = next(iter([*causes, *bad]), None)
        if all(good):
            event = "succeed"
        elif any(good):
            event = "succeed-partly"
        elif self.stop is not None:
            event = "cancel"
        else:
            event = "lose" if worst is not None and worst.state == State.LOST else "fail"
        error = error_facts(self.stop) if self.stop is not None else worst.error if worst else None
        self.event(event, ended=now, error=error, parts=by_party)


def _owed_by(plan: Plan) -> dict[str, asyncio.Future[PartReport]]:
    return {party: asyncio.get_running_loop().create_future() for party in plan.parties}
