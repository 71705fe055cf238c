"""A scripted orchestrator: it answers the API on the bus as the real one does, and brings results as parties do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from dynamos.exchange.streams import Sink
from dynamos.kit.errors import Conflict, DynamosError, NotFound, Refused
from dynamos.kit.words import suggest
from dynamos.knowledge.bases import KnowledgeBase
from dynamos.middleware.messages import (
    CancelJob,
    Change,
    Changed,
    Check,
    Checked,
    FindJobs,
    FoundJobs,
    JobEvent,
    Look,
    Seen,
    Submit,
    Submitted,
)
from dynamos.middleware.steering import Monitored, Options, Pin, Steer, Steering, Watch
from dynamos.model.decisions import Decision, ProviderDecision, Reason
from dynamos.model.jobs import Job, PartReport, State
from dynamos.model.plans import REQUESTOR, Edge, Plan, Step
from dynamos.model.requests import Request

Deliver = Callable[[str, str, str], Sink]
"""Takes job, edge and party; gives the sink of the API's gateway."""


@dataclass
class Script:
    """What happens to a request. `tables` are results by party; a party in `failed` fails with that error.

    `through` is the third party that computes for all. With `hold`, jobs run until it is set. `error` is raised on
    submit instead. `cut` parties deliver half and then break off.
    """

    tables: dict[str, pa.Table] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    failed: dict[str, DynamosError] = field(default_factory=dict)
    through: str = ""
    hold: asyncio.Event | None = None
    error: DynamosError | None = None
    early: bool = True
    cut: frozenset[str] = frozenset()


def facts(error: DynamosError) -> dict[str, Any]:
    """Give an error as reports keep it."""
    return {**error.as_dict(), "status": error.status, "kind": error.code}


def decide(request: Request, script: Script) -> Decision:
    """Give a decision that refuses whom the script refuses."""
    providers = {}
    for name in request.providers:
        message = script.refused.get(name)
        reason = Reason(party=name, code="no-relation", clause="relations", fact=request.user.user_name, message="-")
        reasons = (reason.model_copy(update={"message": message}),) if message is not None else ()
        providers[name] = ProviderDecision(party=name, permitted=not reasons, reasons=reasons)
    return Decision(user=request.user.user_name, request_type=request.type, revision="r1", providers=providers)


def plan(job: str, decision: Decision, through: str) -> Plan:
    """Give a plan: each provider by itself, or all of them through a third party."""
    permitted = decision.permitted
    compute = {name: through or name for name in permitted}
    parties = dict.fromkeys(compute.values())
    steps = [
        Step(id="query", party=name, service="sql-query", label="dataProvider", provider=name) for name in permitted
    ]
    edges = []
    for party in parties:
        own = None if through else party
        steps.append(Step(id="algorithm", party=party, service="sql-algorithm", label="computeProvider", provider=own))
        edges.append(
            Edge(name=f"result-{party}", source_party=party, source="algorithm", target_party=REQUESTOR, target="")
        )
    archetype = "dataThroughTtp" if through else "computeToData"
    return Plan(
        job=job,
        archetypes=dict.fromkeys(permitted, archetype),
        compute=compute,
        steps=tuple(steps),
        edges=tuple(edges),
    )


class FakeOrchestrator:
    """Answers `orchestrator.*`; `script` may be changed between requests, or given per user."""

    def __init__(self, kb: KnowledgeBase, deliver: Deliver) -> None:
        self.kb = kb
        self.deliver = deliver
        self.script = Script()
        self.scripts: dict[str, Script] = {}
        self.submissions: list[Submit] = []
        self.cancelled: list[CancelJob] = []
        self.changes: list[Change] = []
        self.jobs: dict[str, Job] = {}
        self.values: dict[str, dict[str, tuple[dict[str, Any], int]]] = {}
        self.steering = Steering()
        self.steers: list[Steer] = []
        self.submitted = asyncio.Event()
        self._cancelled = asyncio.Condition()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def listen(self) -> None:
        """Begin to answer."""
        handlers: list[tuple[str, Any, Callable[[Any], Any]]] = [
            ("submit", Submit, self.submit),
            ("check", Check, self.check),
            ("cancel", CancelJob, self.cancel),
            ("jobs", FindJobs, self.find),
            ("look", Look, self.look),
            ("change", Change, self.change),
            ("monitor", Watch, self.monitor),
            ("options", Watch, self.options),
            ("steer", Steer, self.steer),
        ]
        for name, model, handle in handlers:
            await self.kb.bus.listen(f"orchestrator.{name}", self._answer(model, handle), queue="orchestrator")

    @staticmethod
    def _answer(model: Any, handle: Callable[[Any], Any]) -> Any:
        async def answer(_: str, message: dict[str, Any]) -> dict[str, Any]:
            return (await handle(model.model_validate(message))).as_json()

        return answer

    def _script(self, request: Request) -> Script:
        return self.scripts.get(request.user.user_name, self.script)

    async def submit(self, message: Submit) -> Submitted:
        script = self._script(message.request)
        self.submissions.append(message)
        if script.error is not None:
            raise script.error
        if message.job in self.jobs:
            raise Conflict(f"job {message.job!r} exists already", code="job-exists")
        decision = decide(message.request, script)
        if not decision.permitted:
            raise Refused("none permits this request", decision=decision.as_json())
        job = Job(
            id=message.job,
            user=message.request.user.user_name,
            state=State.RUNNING,
            request=message.request,
            decision=decision,
            plan=plan(message.job, decision, script.through),
            submitted=datetime.now(UTC),
            trace=message.trace.get("traceparent", ""),
            api=message.api or None,
            timings={"decide_ms": 0.5},
        )
        self.jobs[job.id] = job
        if script.early:
            await self._bring(job, script)
        self._tasks[job.id] = asyncio.create_task(self._run(job, script))
        self.submitted.set()
        return Submitted(job=job)

    async def _run(self, job: Job, script: Script) -> None:
        if not script.early:
            await self._bring(job, script)
        if script.hold is not None:
            await script.hold.wait()
        await self.end(job.id, script)

    async def _bring(self, job: Job, script: Script) -> None:
        assert job.plan is not None
        for edge in job.plan.results:
            if edge.source_party in script.failed and edge.source_party not in script.cut:
                continue
            table = script.tables.get(edge.source_party, pa.table({"n": [1]}))
            broken = script.failed.get(edge.source_party)
            try:
                await asyncio.to_thread(bring, self.deliver(job.id, edge.name, edge.source_party), table, broken)
            except DynamosError as error:
                script.failed[edge.source_party] = error

    async def end(self, job_id: str, script: Script) -> None:
        """Bring a job to its end, and tell it."""
        job = self.jobs[job_id]
        assert job.plan is not None
        parts = {}
        for party in job.plan.parties:
            error = script.failed.get(party)
            state = State.FAILED if error else State.SUCCEEDED
            parts[party] = PartReport(job=job.id, party=party, state=state, error=facts(error) if error else None)
        good = [edge for edge in job.plan.results if parts[edge.source_party].state == State.SUCCEEDED]
        state = State.FAILED if not good else State.SUCCEEDED if len(good) == len(job.plan.results) else State.PARTIAL
        first = next((report.error for report in parts.values() if report.error), None)
        await self.tell(job, state=state, parts=parts, ended=datetime.now(UTC), error=first)

    async def tell(self, job: Job, **changes: Any) -> None:
        """Change a job's record and publish the event."""
        job = self.jobs[job.id] = job.model_copy(update=changes)
        await self.kb.bus.publish(f"job.{job.id}", JobEvent(event=str(job.state), job=job).as_json())

    async def check(self, message: Check) -> Checked:
        script = self._script(message.request)
        decision = decide(message.request, script)
        if not decision.permitted:
            return Checked(decision=decision, error={"code": "refused", "message": "none permits"})
        return Checked(decision=decision, plan=plan("check", decision, script.through))

    async def cancel(self, message: CancelJob) -> Submitted:
        self.cancelled.append(message)
        async with self._cancelled:
            self._cancelled.notify_all()
        job = self.jobs.get(message.job)
        if job is None or job.state.final:
            raise NotFound(f"there is no job {message.job!r} under way", code="not-running")
        self._tasks[message.job].cancel()
        error = {"code": "cancelled", "kind": "cancelled", "message": message.reason, "status": 499}
        await self.tell(job, state=State.CANCELLED, ended=datetime.now(UTC), error=error)
        return Submitted(job=self.jobs[message.job])

    async def until_cancelled(self, count: int = 1) -> None:
        """Wait until so many cancellations have come."""
        async with self._cancelled:
            await self._cancelled.wait_for(lambda: len(self.cancelled) >= count)

    async def find(self, message: FindJobs) -> FoundJobs:
        if message.job:
            job = self.jobs.get(message.job)
            if job is None or (message.user and job.user != message.user):
                raise NotFound(f"there is no job {message.job!r}")
            return FoundJobs(jobs=(job,))
        newest = [job for job in reversed(self.jobs.values()) if message.user in ("", job.user)]
        return FoundJobs(jobs=tuple(newest[: message.limit]))

    async def look(self, message: Look) -> Seen:
        values: Mapping[str, tuple[dict[str, Any], int]] = self.values.get(message.kind, {})
        if message.name and message.name not in values:
            raise NotFound(f"there is no {message.name!r}", hint=suggest(message.name, values))
        names = [message.name] if message.name else sorted(values)
        return Seen(items=tuple(values[n][0] for n in names), revisions=tuple(values[n][1] for n in names))

    async def change(self, message: Change) -> Changed:
        self.changes.append(message)
        values = self.values.setdefault(message.kind, {})
        last = values[message.name][1] if message.name in values else 0
        if message.revision is not None and message.revision != last:
            raise Conflict("somebody else changed it first")
        if message.value is None:
            del values[message.name]
            return Changed(revision=0)
        values[message.name] = (message.value, last + 1)
        return Changed(revision=last + 1)

    async def monitor(self, _: Watch) -> Monitored:
        return Monitored(
            time=datetime.now(UTC), revision="r1", running=0, waiting=0, parties={}, links={}, symptoms=(), jobs=(),
            steering=self.steering,
        )  # fmt: skip

    async def options(self, _: Watch) -> Options:
        pin = Pin(request_type="sqlDataRequest", provider="UVA", archetype="computeToData", compute_provider="UVA")
        return Options(planner=("weights",), planner_options={"weights": {"type": "object"}}, pins=(pin,))

    async def steer(self, message: Steer) -> Steering:
        self.steers.append(message)
        told = {name: getattr(message, name) for name in ("planner", "planner_options", "pins")}
        given = {name: value for name, value in told.items() if value is not None}
        self.steering = self.steering.model_copy(update={**given, "revision": self.steering.revision + 1})
        return self.steering

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks.values())
        await self.kb.close()


def bring(sink: Sink, table: pa.Table, broken: DynamosError | None = None) -> None:
    """Hand a table in, as a receiver's thread does; with `broken`, half of it and then the error."""
    sink.open(table.schema)
    batches = table.to_batches(max_chunksize=max(1, table.num_rows // 2))
    for batch in batches[:1] if broken else batches:
        sink.write(batch)
    if broken:
        sink.abort(broken)
    else:
        sink.close()
