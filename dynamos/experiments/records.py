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
    stages: tuple[Stage, ...] = ()
    usage: tuple[Usage, ...] = ()
    jobs: tuple[str, ...] = ()
    error: dict[str, Any] | None = None
    """Why it failed or was skipped: code, message, where, hint."""
    output: str = ""
    """The end of what it printed."""
    began: datetime
    seconds: float
    attempt: int = 1
    """Which attempt at this trial it was; earlier ones were interrupted and left nothing."""
    testbed: str = ""
    """The digest of the resolved profile that it ran on."""

    @property
    def trial(self) -> Trial:
        return Trial(self.number, self.repetition, self.cell, self.warmup, self.baseline)

    def row(self) -> Mapping[str, Any]:
        """Give it as one flat row: factors, measures, and how it ended."""
        told = self.error or {}
        return {
            "trial": self.number,
            "repetition": self.repetition,
            "baseline": self.baseline,
            "status": str(self.status),
            **self.cell,
            **self.measures,
            "reason": str(told.get("message", "")),
            "seconds": self.seconds,
            "began": self.began.isoformat(),
        }
