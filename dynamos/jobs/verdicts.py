"""From what a keeper saw to what people are told: errors and usage records."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from dynamos.jobs.calls import READER_GONE
from dynamos.jobs.specs import StepReport
from dynamos.kit.errors import DynamosError, JobFailed, TimedOut
from dynamos.model.jobs import Usage
from dynamos.model.plans import Step
from dynamos.model.services import Limits

_INPUT_BROKEN = "input-broken"
"""The code by which a service says that a neighbour has failed it."""


def usage(step: Step, report: StepReport, *, began: float) -> Usage:
    """Give the usage record of a step whose part began at `began` on the monotonic clock."""
    started = datetime.now(UTC) - timedelta(seconds=time.monotonic() - report.running)
    return Usage(
        step=step.id,
        party=step.party,
        service=step.service,
        started=started,
        start_ms=round((report.running - began) * 1e3, 3),
        wall_ms=round((report.ended - report.running) * 1e3, 3),
        cpu_ms=round(report.cpu * 1e3, 3),
        peak_bytes=report.peak,
        exit=exit_code(report),
        isolation=report.isolation,
    )


def exit_code(report: StepReport) -> int:
    """Give the exit code, or the negative number of the signal that ended the step."""
    return os.waitstatus_to_exitcode(report.status) if report.status is not None else -signal.SIGKILL


def failed(report: StepReport) -> bool:
    """Tell whether a step did not end well."""
    return report.why != "" or report.status != 0


def judge(step: Step, report: StepReport, limits: Limits) -> DynamosError:
    """Give the error of a step that failed: what happened, where, what to do, and the end of its log.

    It is TimedOut at the deadline, else JobFailed. The log is the party's own: it may hold rows.
    """
    where = f"{step.party}/{step.id}"
    code = exit_code(report)
    log = report.log.strip()
    by_limit = {
        "deadline": ("did not end before the job's deadline", "ask for less, or allow more time"),
        "out-of-memory": (f"needed more memory than {limits.memory}", "raise the service's limits.memory"),
        "cpu-limit": (f"used more CPU time than {limits.cpu}", "raise the service's limits.cpu"),
        "start-failed": ("could not be started", "see the log; `dynamos doctor` tells what this machine allows"),
        "lost": ("ended with its keeper", "see the agent's log"),
    }
    why = "cpu-limit" if not report.why and code == -signal.SIGXCPU else report.why
    if why in by_limit:
        message, hint = by_limit[why]
        kind = TimedOut if why == "deadline" else JobFailed
        return kind(f"{step.service} {message}", where=where, hint=hint, code=why, log=log)
    if code < 0:
        name = signal.Signals(-code).name
        return JobFailed(f"{step.service} crashed with {name}", where=where, code="crashed", signal=name, log=log)
    said = _said(report)
    if code == READER_GONE and not said:
        return JobFailed(f"{step.service} lost its reader", where=where, code="reader-gone", log=log)
    message = said.get("message") or f"{step.service} ended with exit code {code} and did not say why"
    return JobFailed(
        message, where=where, hint=said.get("hint", ""), code=said.get("code") or "service-failed", exit=code, log=log
    )


def root_cause(failures: Iterable[tuple[Step, StepReport]]) -> tuple[Step, StepReport] | None:
    """Of the failures of a part, in the order in which they were seen, give the one that caused the others."""
    ranked = sorted(failures, key=lambda pair: _distance(pair[1]))  # stable: the first of equals
    return ranked[0] if ranked else None


def _distance(report: StepReport) -> int:
    """Give how far a failure is from a cause: 2 for a step that we killed, 1 for one whose neighbour went away."""
    if report.why:
        return 2 if report.why == "killed" else 0
    return int(exit_code(report) in (-signal.SIGPIPE, READER_GONE) or _said(report).get("code") == _INPUT_BROKEN)


def _said(report: StepReport) -> dict[str, str]:
    """Read what the service wrote as its error. What is not as the contract says is kept out."""
    try:
        said = json.loads(report.error)
    except ValueError:
        return {}
    if not isinstance(said, dict):
        return {}
    return {name: str(said[name]) for name in ("code", "message", "hint") if said.get(name)}
