"""The agent: answers orchestrators, and lets nothing run that its party's agreement does not permit."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import datetime

from opentelemetry import trace

from dynamos.jobs.runners import Assignment, Runner
from dynamos.kit.clocks import Clock
from dynamos.kit.errors import Cancelled, Conflict, DynamosError, TimedOut, Unavailable
from dynamos.kit.waits import until
from dynamos.knowledge.bases import KnowledgeBase
from dynamos.middleware import telemetry
from dynamos.middleware.agent import agreements
from dynamos.middleware.agent.exchanges import Sends
from dynamos.middleware.agent.gatekeepers import Gatekeeper, Permit, Policy
from dynamos.middleware.agent.options import step_options
from dynamos.middleware.agent.partruns import PartRun
from dynamos.middleware.agent.wardens import Warden
from dynamos.middleware.agent.ways import Ways
from dynamos.middleware.configs import AgentConfig
from dynamos.middleware.identity import vouchers
from dynamos.middleware.identity.requestors import Requestors
from dynamos.middleware.messages import Change, EndPart, EndParts, Report, Started, StartPart
from dynamos.middleware.views import SharedView, Work
from dynamos.model.jobs import Usage
from dynamos.model.services import Limits, Service

log = logging.getLogger(__name__)
tracer = trace.get_tracer("dynamos.agent")
REMEMBERED_ENDS = 1024
REPORT_SECONDS = 120.0
SETTLE_SECONDS = 1.5
"""How long a start may still be on its way from an orchestrator that has not heard yet that we leave."""
ERRORS: dict[str, type[DynamosError]] = {"deadline": TimedOut}


class Agent:
    """One party's agent. `run` starts its part of a job, `end` stops it; a report goes out for each, once."""

    def __init__(
        self,
        config: AgentConfig,
        *,
        kb: KnowledgeBase,
        runner: Runner,
        ways: Ways,
        results: Sends,
        gatekeeper: Gatekeeper,
        warden: Warden,
        shared: SharedView,
        policy: Policy,
        secret: bytes,
        clock: Clock,
        requestors: Requestors,
    ) -> None:
        self._config = config
        self._kb = kb
        self._runner = runner
        self._ways = ways
        self._results = results
        self._gatekeeper = gatekeeper
        self._warden = warden
        self._shared = shared
        self._policy = policy
        self._secret = secret
        self._clock = clock
        self._requestors = requestors
        self._runs: dict[str, PartRun] = {}
        self._ended: OrderedDict[str, EndPart] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._starts: OrderedDict[str, asyncio.Task[Started]] = OrderedDict()
        self._last_start = time.monotonic()

    async def start(self, message: StartPart) -> Started:
        """Check the grant and the own agreement, then run the part. Raises what makes it impossible.

        Asked again with the same grant (its answer may have been lost) it gives the same answer, and runs nothing.
        """
        self._last_start = time.monotonic()
        before = self._starts.get(message.grant)
        if before is None:
            before = self._starts[message.grant] = asyncio.create_task(self._start(message))
            before.add_done_callback(lambda start: self._forget_failed(message.grant, start))
            while len(self._starts) > REMEMBERED_ENDS:
                self._starts.popitem(last=False)
        return await asyncio.shield(before)

    def _forget_failed(self, grant: str, start: asyncio.Task[Started]) -> None:
        """Let a start that did not succeed be tried again."""
        if start.cancelled() or start.exception() is not None:
            self._starts.pop(grant, None)

    async def drain(self, within: float) -> None:
        """Wait until nothing runs here and no start is on its way, at most `within` seconds."""
        if within <= 0:
            return
        begin = time.monotonic()

        async def idle() -> bool:
            quiet = time.monotonic() - max(begin, self._last_start) >= SETTLE_SECONDS
            return quiet and not self._tasks and not self._runs

        try:
            await until("the end of what runs here", idle, within=within, every=0.1)
        except TimedOut:
            log.warning("agent.left-parts party=%s parts=%d", self._config.name, len(self._runs))

    async def _start(self, message: StartPart) -> Started:
        began = time.monotonic()
        with telemetry.attach(message.trace), tracer.start_as_current_span("agent.start"):
            permit = await self._gatekeeper.admit(message)
            await self._audit(permit)
            job = permit.grant.job
            if job in self._ended:
                raise _reason(self._ended[job])
            if job in self._runs:
                raise Conflict(f"job {job} runs here already")
            run = PartRun(permit.grant, message.grant, runner=self._runner, results=self._results)
            self._warden.begin(run, permit)  # the agreement may have changed since the grant was admitted
            self._runs[job] = run
            try:
                async with AsyncExitStack() as stack:
                    run.exchange = await stack.enter_async_context(self._ways.of(permit.grant, message.grant))
                    assignment = self._assignment(permit, telemetry.inject())
                    await self._start_once_more(run, assignment)
                    way = stack.pop_all()
            except BaseException:
                self._forget(job)
                raise
        if (ended := self._ended.get(job)) is not None:
            await run.kill(_reason(ended))
        task = asyncio.create_task(self._follow(run, assignment, message, way), name=f"part {job}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return Started(start_ms=(time.monotonic() - began) * 1e3, isolation=self._runner.isolation)

    @property
    def works(self) -> Sequence[Work]:
        """Endless tasks that hold what runs to the agreement."""
        return self._warden.works

    @property
    def parts(self) -> int:
        """How many parts run here now."""
        return len(self._runs)

    async def end(self, message: EndPart) -> None:
        """Stop the job's part, also if its start is still on the way."""
        self._ended[message.job] = message
        while len(self._ended) > REMEMBERED_ENDS:
            self._ended.popitem(last=False)
        if (run := self._runs.get(message.job)) is not None:
            await run.kill(_reason(message))

    async def end_all(self, message: EndParts) -> None:
        """Stop many jobs' parts."""
        await asyncio.gather(*(self.end(each) for each in message.ends))

    async def change_agreement(self, message: Change) -> dict[str, object]:
        """Write the party's agreement for one of its admins."""
        party = self._config.party
        purpose = vouchers.to_change(message.kind, message.name, message.value, message.revision)
        user = self._requestors.administers(party.name, message.voucher, purpose)
        is_admin = user == "" or (user is not None and user in party.admins)
        agreement, changed = await agreements.change(message, self._kb, party.name, is_admin=is_admin)
        await self._warden.take(agreement, changed.revision)
        return changed.as_json()

    def _forget(self, job: str) -> None:
        del self._runs[job]
        self._warden.end(job)

    async def close(self) -> None:
        """Stop every part and wait until each has been reported or given up."""
        for start in list(self._starts.values()):
            start.cancel()
        for run in list(self._runs.values()):
            await run.kill(Cancelled(f"the agent of {self._config.name} stops"))
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5.0)
        for task in list(self._tasks):
            task.cancel()

    def _assignment(self, permit: Permit, context: dict[str, str]) -> Assignment:
        part = permit.grant.part
        services = {step.service: self._limited(self._shared.services[step.service]) for step in part.steps}
        return Assignment(
            part=part,
            services=services,
            options=step_options(
                part,
                permit.request,
                permit.decision,
                party=self._config.party,
                data_sets=self._policy.data_sets,
                secret=self._secret,
            ),
            data={step.id: self._config.data for step in part.steps if services[step.service].reads_data},
            deadline=max(0.001, (permit.grant.expires - self._clock.now()).total_seconds()),
            trace=context,
        )

    def _limited(self, service: Service) -> Service:
        """Hold a service to the lower of its own limits and the party's."""
        own, ours = service.limits, self._config.settings.limits
        limits = Limits(
            memory=min(own.memory, ours.memory),
            cpu=min(own.cpu, ours.cpu),
            processes=min(own.processes, ours.processes),
            scratch=min(own.scratch, ours.scratch),
        )
        return service.model_copy(update={"limits": limits})

    async def _start_once_more(self, run: PartRun, assignment: Assignment) -> None:
        """Start the steps; once more where the runner had to be renewed. No byte is out yet."""
        try:
            await run.start(assignment)
        except Unavailable as error:
            log.warning("part.restart job=%s error=%s", run.grant.job, error)
            await run.start(assignment)

    async def _follow(self, run: PartRun, assignment: Assignment, message: StartPart, way: AsyncExitStack) -> None:
        """See the part to its end, then report until somebody has taken the report."""
        async with way:
            with (
                telemetry.attach(message.trace),
                tracer.start_as_current_span("part", attributes={"job": run.grant.job, "role": run.grant.part.role}),
            ):
                report = await run.finish(assignment.deadline)
                for usage in report.usages:
                    _span(usage)
            self._forget(run.grant.job)
            await self._tell(Report(report=report, orchestrator=message.orchestrator))

    async def _tell(self, told: Report) -> None:
        end = time.monotonic() + REPORT_SECONDS
        while time.monotonic() < end:
            try:
                await self._kb.bus.request(f"report.{self._config.name}", told.as_json(), within=5.0)
            except (Unavailable, TimedOut) as error:
                log.warning("report.again job=%s error=%s", told.report.job, error)
                await asyncio.sleep(0.25)
            else:
                return
        log.error("report.lost job=%s", told.report.job)

    async def _audit(self, permit: Permit) -> None:
        record = {
            "event": "part.permitted",
            "time": self._clock.now().isoformat(),
            "party": self._config.name,
            "job": permit.grant.job,
            "user": permit.request.user.user_name,
            "revision": self._policy.revision,
            "decision": permit.decision.as_json() if permit.decision else None,
        }
        await self._kb.log("audit").append(f"{self._config.name}.{permit.grant.job}", record)


def _reason(message: EndPart) -> DynamosError:
    kind = ERRORS.get(message.code, Cancelled)
    return kind(message.reason, code=message.code)


def _span(usage: Usage) -> None:
    """Record a step's life, which the runner measured, as a span of the part."""
    if usage.started is None:
        return
    start = _nanoseconds(usage.started)
    span = tracer.start_span(
        usage.service,
        start_time=start,
        attributes={"step": usage.step, "cpu_ms": usage.cpu_ms, "peak_bytes": usage.peak_bytes, "exit": usage.exit},
    )
    span.end(end_time=start + int(usage.wall_ms * 1e6))


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1e6) * 1000
