"""Failures: which places a job's failure speaks against, and how long a place that fails is left alone. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dynamos.model.jobs import Job, State

PLACE = frozenset({
    "lost", "deadline", "agent-away", "runner-lost", "carrier-lost", "out-of-memory", "quota", "stopping", "no-network",
    "offline",
})  # fmt: skip
"""What fails at a party and may not at another one. A wrong query, a refusal or unreadable data fail anywhere."""
WAY = frozenset({"deadline", "peer-away", "stream-broke", "way-shut"})
"""What a provider says whose rows a computing party did not take in time, or not at all."""
SILENT = frozenset({"", "ended", "reader-gone", "peer-away", "stream-broke"})
"""What a computing party says that knows of no reason of its own."""
MOST = 8.0
"""A score is this at most: however often a place has failed, it is tried again some time."""


@dataclass(slots=True)
class Score:
    """How often a place failed lately: every failure adds one, a success takes half of it away, and so does time."""

    half_life: float
    value: float = 0.0
    at: float = 0.0
    last: str = ""

    def now(self, at: float) -> float:
        """Give the score at a moment, in seconds since 1970."""
        return self.value * math.exp2(-max(0.0, at - self.at) / self.half_life)

    def fail(self, at: float, what: str) -> float:
        """Take a failure, and give the score."""
        self.value, self.at, self.last = min(MOST, self.now(at) + 1.0), at, what
        return self.value

    def succeed(self, at: float) -> float:
        """Take a success, and give the score."""
        self.value, self.at = self.now(at) / 2, at
        return self.value


def blamed(job: Job) -> dict[str, str]:
    """Give the computing parties that a job's failure speaks against, each with the code of what went wrong there."""
    if job.plan is None or job.state not in (State.FAILED, State.LOST, State.PARTIAL):
        return {}
    found = {place: _fault(job, place) for place in dict.fromkeys(job.plan.compute.values())}
    return {place: code for place, code in found.items() if code}


def _fault(job: Job, place: str) -> str:
    """Give the code of what went wrong at a computing party; empty where nothing did, or it is the request's fault."""
    own = job.parts.get(place)
    code = _code(own.error if own is not None else job.error)
    if own is None:
        return code if code in PLACE and (job.error or {}).get("where") == place else ""
    if own.state == State.SUCCEEDED or code in PLACE:
        return "" if own.state == State.SUCCEEDED else code
    if code not in SILENT or job.plan is None:
        return ""
    senders = (job.parts.get(party) for party, at in job.plan.compute.items() if at == place != party)
    told = (_code(report.error) for report in senders if report is not None)
    return next((each for each in told if each in WAY), "")


def _code(error: Mapping[str, Any] | None) -> str:
    return str((error or {}).get("code", ""))
