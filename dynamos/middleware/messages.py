"""What the units say to each other over the bus. The subject of each message is in its docstring."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from dynamos.model.decisions import Decision
from dynamos.model.jobs import Job, PartReport
from dynamos.model.plans import Plan
from dynamos.model.requests import Request
from dynamos.model.values import Name, Value
from dynamos.planning.rehearsals import Rehearsal

LEAVING = "leaving"
"""The code of Unavailable where a unit is about to be restarted: nothing was begun, and asking again helps."""
Kind = Literal["archetypes", "requestTypes", "microservices", "policyEnforcer", "datasets", "parties"]


REVOKED = "revoked"
"""The code of a job, or a part of it, that an agreement no longer permits."""


class Submit(Value):
    """`orchestrator.submit`, API -> orchestrator: run this. Answer: Submitted.

    `voucher` is the API's signed word on who asks for this, which every agent checks again; `gateway` is where the
    API takes the results' streams, and `api` its name among several. `replaces` is a job that its agreement ended, and
    that this one runs again.
    """

    job: str
    request: Request
    voucher: str = ""
    gateway: str
    api: str = ""
    replaces: str | None = None
    trace: dict[str, str] = Field(default_factory=dict)


class Submitted(Value):
    """The job as it is once every part has started. Raised instead: Refused (facts: decision), Unavailable,
    Conflict."""

    job: Job


class Check(Value):
    """`orchestrator.check`, API -> orchestrator: would this run, and how? Answer: Checked."""

    request: Request
    voucher: str = ""


class Checked(Value):
    """The decision, and the plan if there is one, else why not."""

    decision: Decision
    plan: Plan | None = None
    error: dict[str, Any] | None = None


class CancelJob(Value):
    """`orchestrator.cancel`, API -> orchestrator. Answer: Submitted, with the job as it is then."""

    job: str
    reason: str


class FindJobs(Value):
    """`orchestrator.jobs`, API -> orchestrator: one job, or the newest ones of a user (of everybody if empty), those in
    a state if one is given. Answer: FoundJobs."""

    job: str = ""
    user: str = ""
    state: str = ""
    limit: int = 100


class FoundJobs(Value):
    """Jobs, newest first."""

    jobs: tuple[Job, ...] = ()


class Look(Value):
    """`orchestrator.look`, API -> orchestrator: read the knowledge base. Answer: Seen. Raises NotFound for one name."""

    kind: Kind
    name: str = ""


class Seen(Value):
    """The values, each in its own JSON form, in the order of their names, with the revision of each."""

    items: tuple[dict[str, Any], ...] = ()
    revisions: tuple[int, ...] = ()


class Change(Value):
    """`orchestrator.change`, API -> orchestrator: write one value. Answer: Changed.

    An agreement goes on to one of its party's agents (`agent.<PARTY>.agreement`, the same message), which checks
    `voucher`; the others follow what it has written.
    `value` None removes it. With `revision`, only if that is still the last one.
    """

    kind: Kind
    name: str
    value: dict[str, Any] | None = None
    revision: int | None = None
    voucher: str = ""


class Changed(Value):
    """The revision after the change."""

    revision: int


class Rehearse(Value):
    """`orchestrator.rehearse`, API -> orchestrator: what would this agreement of a party do? Answer: Rehearsed.

    `past` is how many of the newest decisions in the audit stream are looked at.
    """

    party: str
    value: dict[str, Any]
    past: int = 0
    voucher: str = ""


class Rehearsed(Value):
    """What would become of the party's jobs that run, and of requests to it that came; `untold` of these are not told
    of, because the audit stream has only their digests."""

    running: tuple[Rehearsal, ...] = ()
    past: tuple[Rehearsal, ...] = ()
    untold: int = 0


class JobEvent(Value):
    """`job.<id>`, orchestrator -> whoever listens: a job changed state, or one of its parts ended."""

    event: str
    job: Job


class StartPart(Value):
    """`agent.<PARTY>.<INSTANCE>.start`, orchestrator -> agent: run your part. Answer: Started.

    `grant` is a signed Grant; the request is the requestor's, and its digest is in the grant. `orchestrator` is the
    life that wants the report.
    """

    grant: str
    request: Request
    voucher: str = ""
    orchestrator: str = ""
    trace: dict[str, str] = Field(default_factory=dict)


class Started(Value):
    """The part runs; `start_ms` is from the grant's arrival to the first service running."""

    start_ms: float
    isolation: tuple[str, ...]


class Report(Value):
    """`report.<PARTY>`, agent -> orchestrator: how a part ended. Answer: empty, once somebody has taken it.

    `orchestrator` is the life of the orchestrator that had the part started: another one that hears it passes it on.
    """

    report: PartReport
    orchestrator: str = ""


class EndPart(Value):
    """`agent.<PARTY>.<INSTANCE>.end`, orchestrator -> agent: stop this job's part now. Answer: empty. Then a Report
    follows, as for every part that ends. `agent.<PARTY>.end` tells all agents of the party."""

    job: str
    code: str
    reason: str


class EndParts(Value):
    """`agent.<PARTY>.<INSTANCE>.ends`, orchestrator -> agent: stop many jobs' parts now. Answer: empty, then a report
    of each. `agent.<PARTY>.ends` tells all agents of the party."""

    ends: tuple[EndPart, ...]


class Load(Value):
    """How busy a party is: parts that run and how many it can have at once, the share of its machine's processor time
    that its agent and its services take, the bytes of memory that they have, and the share of its machine's memory
    that is taken, by whomever."""

    parts: int = 0
    capacity: int = 1
    cpu: float = 0.0
    memory: int = 0
    memory_share: float = 0.0

    @property
    def level(self) -> float:
        """The load as one share: of places or of processor time, whichever is the scarcer. Over 1: work waits."""
        return max(self.parts / max(1, self.capacity), self.cpu)


class Presence(Value):
    """`presence` bucket, key = `<PARTY>.<INSTANCE>`: who is there. `instance` is new for every start of the agent.

    One that is `leaving` finishes what it runs. Where no other of its party is there, one comes back soon: what is new
    has to wait for that. `warm` tells how many pods wait for jobs, by shape, where jobs run in a cluster. Orchestrators
    and APIs say that they are there in the same way, under their units' names.
    """

    party: Name
    instance: str
    address: str
    active_since: str
    config_updated: str
    isolation: tuple[str, ...] = ()
    version: str = ""
    leaving: bool = False
    load: Load | None = None
    warm: dict[str, int] = Field(default_factory=dict)
