"""Jobs: requests under execution, their states, and what each step used."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import Field

from dynamos.kit.errors import Conflict
from dynamos.model.decisions import Decision
from dynamos.model.plans import Compression, Part, Plan
from dynamos.model.requests import Request
from dynamos.model.values import Name, Value


class State(StrEnum):
    """Where a job, or one of its parts, is in its life. PARTIAL: some results are complete, others failed."""

    SUBMITTED = "submitted"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"

    @property
    def final(self) -> bool:
        return self not in (State.SUBMITTED, State.RUNNING)


# (state, event) -> next state. What is not in the table does not happen.
TRANSITIONS: dict[tuple[State, str], State] = {
    (State.SUBMITTED, "start"): State.RUNNING,
    (State.SUBMITTED, "fail"): State.FAILED,
    (State.SUBMITTED, "cancel"): State.CANCELLED,
    (State.SUBMITTED, "lose"): State.LOST,
    (State.RUNNING, "succeed"): State.SUCCEEDED,
    (State.RUNNING, "succeed-partly"): State.PARTIAL,
    (State.RUNNING, "fail"): State.FAILED,
    (State.RUNNING, "cancel"): State.CANCELLED,
    (State.RUNNING, "lose"): State.LOST,
}


def step_state(state: State, event: str) -> State:
    """Give the state after `event`. Raises Conflict where the event cannot happen in this state."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise Conflict(f"a job that is {state} cannot {event}") from None


class Usage(Value):
    """What one step used: wall time and CPU in milliseconds, peak memory in bytes. `pod` is "warm" or "cold" where it
    ran in one."""

    step: str
    party: Name
    service: Name
    started: datetime | None = None
    start_ms: float = 0.0
    wall_ms: float = 0.0
    cpu_ms: float = 0.0
    peak_bytes: int = 0
    exit: int = 0
    isolation: tuple[str, ...] = ()
    pod: str = ""


class Transfer(Value):
    """What one stream carried from a party to another: `bytes` are those of the columns in memory.

    `way_ms` is the time that it was held up by the way and not by its source; `compression` is what it was sent with.
    """

    edge: str
    rows: int = 0
    bytes: int = 0
    wall_ms: float = 0.0
    way_ms: float = 0.0
    compression: str = "none"


class PartReport(Value):
    """How a part ended at its party: told to the orchestrator once."""

    job: str
    party: Name
    state: State
    error: dict[str, Any] | None = None
    usages: tuple[Usage, ...] = ()
    transfers: tuple[Transfer, ...] = ()


class Grant(Value):
    """Permission for one job part, signed by the orchestrator, good once and until `expires`.

    `part` is the whole piece; `chain` its digest, which the party compares with its own planning; `addresses` tells
    where each other party (and the requestor's gateway) takes streams, `compression` how they are sent, by edge.
    """

    id: str
    job: str
    party: Name
    chain: str
    revision: str
    part: Part
    request: str
    archetypes: dict[Name, Name]
    compute: dict[Name, Name]
    addresses: dict[str, str] = Field(default_factory=dict)
    compression: dict[str, Compression] = Field(default_factory=dict)
    expires: datetime


class Job(Value):
    """The record of one job in the knowledge base.

    `replaces` is the job that this one runs again, in the way that is permitted now; `orchestrator` is the life of the
    orchestrator that sees the job to its end, `instances` are the agents that run its parts, by party, `api` is the API
    that keeps its results.
    """

    id: str
    user: str
    state: State
    request: Request
    decision: Decision
    plan: Plan | None = None
    submitted: datetime
    ended: datetime | None = None
    deadline: datetime | None = None
    trace: str = ""
    error: dict[str, Any] | None = None
    replaces: str | None = None
    orchestrator: str | None = None
    instances: dict[Name, str] = Field(default_factory=dict)
    api: str | None = None
    parts: dict[Name, PartReport] = Field(default_factory=dict)
    timings: dict[str, float] = Field(default_factory=dict)
