"""Records: what is kept of a trial, whatever became of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import Field

from dynamos.experiments.designs import Trial
from dynamos.experiments.factors import Level
from dynamos.experiments.measures import Reading
from dynamos.model.values import Value

COLUMNS = (
    "trial", "repetition", "warmup", "baseline", "status", "reason", "code", "seconds", "began", "testbed",
)  # fmt: skip
"""What every row tells of its trial beside factors and measures, which cannot have these names."""


DISK_FULL = "disk-full"
"""The code of an error where this machine had no room left: it says nothing about the experiment."""


class Status(StrEnum):
    """What became of a trial."""

    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"


class Stage(Value):
    """One step of one request, from its trace: in seconds from the request's start."""

    request: int
    name: str
    unit: str
    party: str = ""
    start: float
    seconds: float
    depth: int = 0


class Request(Value):
    """One request as it went: its job, what came back, and seconds from when it was sent. `error` is the kind of what
    went wrong, `revision` that of the policy which decided, `rows_digest` the same for the same rows in any order."""

    number: int
    job: str = ""
    error: str | None = None
    revision: str = ""
    results: int = 0
    rows: int = 0
    bytes: int = 0
    rows_digest: str = ""
    job_seconds: float
    first_batch: float | None = None
    seconds: float


class Usage(Value):
    """What one process used during a trial: CPU in seconds, its peak of memory in bytes so far."""

    process: str
    party: str = ""
    cpu: float
    peak: int


class Record(Value):
    """A trial with what it read and how it ended. `samples` are raw readings behind a measure, by name."""

    number: int
    repetition: int
    cell: dict[str, Level]
    warmup: bool = False
    baseline: bool = False
    status: Status
    measures: dict[str, Reading] = Field(default_factory=dict)
    samples: dict[str, list[float]] = Field(default_factory=dict)
    requests: tuple[Request, ...] = ()
    stages: tuple[Stage, ...] = ()
    usage: tuple[Usage, ...] = ()
    jobs: tuple[str, ...] = ()
    happened: tuple[dict[str, Any], ...] = ()
    """Which faults and amendments happened in it: planned, began, done, in seconds after it said so."""
    error: dict[str, Any] | None = None
    """Why it failed or was skipped: code, message, where, hint."""
    output: str = ""
    """The end of what it printed."""
    began: datetime
    seconds: float
    testbed: str = ""
    """The digest of the resolved profile that it ran on."""

    @property
    def trial(self) -> Trial:
        return Trial(self.number, self.repetition, self.cell, self.warmup, self.baseline)

    def row(self) -> Mapping[str, Any]:
        """Give it as one flat row: factors, measures, and how it ended. What is absent is None or not there."""
        told = self.error or {}
        return {
            **self.cell,
            **self.measures,
            "trial": self.number,
            "repetition": self.repetition,
            "warmup": self.warmup,
            "baseline": self.baseline,
            "status": str(self.status),
            "reason": told.get("message"),
            "code": told.get("code"),
            "seconds": self.seconds,
            "began": self.began,
            "testbed": self.testbed or None,
        }
