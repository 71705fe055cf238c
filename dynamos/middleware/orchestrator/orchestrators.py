"""The orchestrator: takes requests in, decides, plans, and sees every job to its end."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial

from opentelemetry import trace

from dynamos.kit.clocks import Clock
from dynamos.kit.errors import Broken, Cancelled, DynamosError, NotFound, TimedOut, Unavailable
from dynamos.knowledge.bases import KnowledgeBase
from dynamos.middleware import telemetry
from dynamos.middleware.configs import OrchestratorConfig
from dynamos.middleware.identity import vouchers
from dynamos.middleware.identity.requestors import Requestors
from dynamos.middleware.messages import LEAVING, REVOKED, CancelJob, Check, Checked, JobEvent, Submit, Submitted
from dynamos.middleware.network.meetings import Announced, Meeting, Meetings
from dynamos.middleware.orchestrator.admissions import Admission
from dynamos.middleware.orchestrator.advisers import Adviser, ByWeights
from dynamos.middleware.orchestrator.deliberations import Deliberation, refusal
from dynamos.middleware.orchestrator.enforcement import Breach, Enforcer
from dynamos.middleware.orchestrator.executions import Execution, end_many, seconds_left
from dynamos.middleware.orchestrator.jobbooks import JobBook
from dynamos.middleware.orchestrator.livejobs import LiveJob, components
from dynamos.middleware.orchestrator.overviews import Overview
from dynamos.middleware.orchestrator.rehearsing import Rehearser
from dynamos.middleware.orchestrator.soundings import Soundings
from dynamos.middleware.orchestrator.whereabouts import WhereTheySay
from dynamos.middleware.views import error_facts
from dynamos.model.jobs import Job, PartReport, State
from dynamos.policy.engines import PolicyEngine

log = logging.getLogger(__name__)
tracer = trace.get_tracer("dynamos.orchestrator")
PLACE_TRIES = 3


class Orchestrator:
    """Holds no party's data: results and rows pass it by."""

    def __init__(
        self,
        config: OrchestratorConfig,
        *,
        kb: KnowledgeBase,
        overview: Overview,
        engine: PolicyEngine,
        book: JobBook,
        requestors: Requestors,
        clock: Clock,
        meetings: Meetings | None = None,
        adviser: Adviser | None = None,
        life: str | None = None,
    ) -> None:
        self._config = config
        self._life = life
        self._kb = kb
        self._overview = overview
        self._adviser = adviser or ByWeights()
        self._thought = Deliberation(kb, overview, engine, clock, self._adviser)
        self._book = book
        self._requestors = requestors
        self._clock = clock
        self._meetings = meetings or WhereTheySay(lambda job: self._live[job].places)
        self._sites = config.meetings.sites if config.meetings else {}
        self._soundings = Soundings(kb.bus, config.meetings) if config.meetings else None
        settings = config.settings
        self._admission = Admission(running=settings.concurrent_jobs, waiting=settings.waiting_jobs)
        self._live: dict[str, LiveJob] = {}
        self._idle = asyncio.Event()
        self._draining = False
        self._enforcer = Enforcer(lambda: list(self._live.values()), self._thought, self._revoke)

    async def enforce(self) -> None:
        """Hold running jobs to the agreements whenever these change, until cancelled."""
        await self._enforcer.follow(self._overview.amendments)

    async def enforce_now(self, *parties: str) -> None:
        """Hold running jobs to what these parties (without any: all of them) say as it is known here now."""
        await self._enforcer.enforce(parties or self._overview.parties)

    def rehearser(self) -> Rehearser:
        """Give who tells what another agreement would do to the jobs that run, here and at other orchestrators."""
        return Rehearser(self._kb, self._thought, self._requestors, self._under_way, self._config.parties)

    def _under_way(self) -> list[Job]:
        """Give every job that has not ended: ours as they are now, others' as they were last written."""
        ours = {name: live.record for name, live in self._live.items()}
        return [*ours.values(), *(job for job in self._book.under_way() if job.id not in ours)]

    @property
    def waiting(self) -> int:
        """How many jobs wait for a place."""
        return self._admission.waiting

    async def check(self, message: Check) -> Checked:
        """Decide and plan, and run nothing."""
        request = message.request
        self._requestors.check(request.user.user_name, message.voucher, vouchers.to_check(request))
        decision = self._thought.decide(message.request)
        try:
            plan = self._thought.plan(message.request, decision, "check")
        except DynamosError as error:
            return Checked(decision=decision, error=error_facts(error))
        return Checked(decision=decision, plan=plan)

    async def submit(self, message: Submit) -> Submitted:
        """Decide, plan and start. Gives the job once its parts run. Raises Refused, Unavailable, Conflict, BadInput."""
        if self._draining:
            raise Unavailable("the orchestrator is stopping", code=LEAVING, hint="ask again later")
        with telemetry.attach(message.trace), tracer.start_as_current_span("submit", attributes={"job": message.job}):
            live = await self._prepare(message)
            live.task = asyncio.create_task(self._run(live), name=f"job {message.job}")
            await asyncio.shield(live.started)
            return Submitted(job=live.record)

    async def cancel(self, message: CancelJob) -> Submitted:
        """Stop a job. One that has ended stays as it is."""
        live = self._live.get(message.job)
        if live is None:
            raise NotFound(f"there is no job {message.job!r} under way", code="not-running")
        live.stop = live.stop or Cancelled(message.reason)
        if live.record.state == State.SUBMITTED and live.task is not None:
            live.task.cancel()
        else:
            await self._execution(live, Announced({})).stop("cancelled", message.reason)
        return Submitted(job=live.record)

    def take_report(self, report: PartReport) -> None:
        """Take the report of a part. One that nobody waits for any more is dropped."""
        live = self._live.get(report.job)
        if live is None or not live.report(report):
            log.info("report.late job=%s party=%s state=%s", report.job, report.party, report.state)

    def lose(self, party: str, instance: str) -> None:
        """Take note that an agent of a party is gone: the parts that it had begun are lost."""
        for live in self._live.values():
            if party in live.begun and live.instances.get(party) == instance:
                site = f" at site {found}" if (found := self._sites.get(party)) else ""
                what = f"the agent of {party}{site} went away while it ran its part"
                error = Cancelled(what, where=party, code="lost")
                live.end_part(party, State.LOST, error)

    async def drain(self, within: float) -> None:
        """Take no more jobs, and wait for the end of those that there are, at most `within` seconds."""
        self._draining = True
        try:
            async with asyncio.timeout(within):
                while self._live:
                    self._idle.clear()
                    await self._idle.wait()
        except TimeoutError:
            log.warning("orchestrator.left-jobs jobs=%d", len(self._live))

    async def close(self) -> None:
        """Stop every job and wait for each to be told."""
        for job in list(self._live):
            with suppress(NotFound):  # it has ended meanwhile
                await self.cancel(CancelJob(job=job, reason="the orchestrator stops"))
        tasks = [live.task for live in self._live.values() if live.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=5.0)
        await self._meetings.close()

    async def _prepare(self, message: Submit) -> LiveJob:
        """Decide and plan, and write the job's record."""
        request = message.request
        self._requestors.check(request.user.user_name, message.voucher, vouchers.to_run(message.job, request))
        began = time.monotonic()
        edition, decision = self._thought.edition, self._thought.decide(request)
        decided = time.monotonic()
        await self._thought.note(message, decision)
        if not decision.permitted:
            raise refusal(decision)
        plan = self._thought.plan(request, decision, message.job)
        now = self._clock.now()
        settings = self._config.settings
        wanted = min(request.deadline or settings.deadline, settings.max_deadline)
        record = Job(
            id=message.job,
            user=request.user.user_name,
            state=State.SUBMITTED,
            request=request,
            decision=decision,
            plan=plan,
            submitted=now,
            deadline=now + timedelta(seconds=float(wanted)),
            trace=telemetry.trace_id(),
            replaces=message.replaces,
            orchestrator=self._life,
            api=message.api or None,
            timings={"decide_ms": (decided - began) * 1e3, "plan_ms": (time.monotonic() - decided) * 1e3},
        )
        await self._book.open(record)
        live = LiveJob(record, plan, message, edition=edition)
        self._live[message.job] = live
        self._adviser.planned(record)
        return live

    async def _run(self, live: LiveJob) -> None:
        """Run the job to its end, whatever happens; the last thing it does is to tell the end."""
        try:
            await self._run_admitted(live)
        except asyncio.CancelledError:
            self._stop_early(live, live.stop or Cancelled("the job was cancelled"), "cancel")
        except DynamosError as error:
            told = await self._soundings.explain_error(live.plan, error) if self._soundings else error
            self._stop_early(live, told, "cancel" if told.detail_code == REVOKED else "fail")
        except Exception:
            log.exception("job.broken job=%s", live.record.id)
            self._stop_early(live, Broken("the orchestrator broke; its log tells more"), "fail")
        finally:
            self._adviser.ended(live.record)
            await self._tell(live, str(live.record.state))
            del self._live[live.record.id]
            if not self._live:
                self._idle.set()
            if not live.started.done():
                live.started.set_result(None)

    async def _run_admitted(self, live: LiveJob) -> None:
        queued = time.monotonic()
        await self._present(live)
        async with self._admission.place(within=self._left(live)):
            began = time.monotonic()
            while not await self._run_met(live, queue_ms=began - queued):
                if self._left(live) <= 0:
                    raise TimedOut("the job did not begin within its deadline", code="deadline")
                log.info("job.planned-again job=%s parties=%s", live.record.id, " ".join(live.plan.parties))

    async def _run_met(self, live: LiveJob, *, queue_ms: float) -> bool:
        """Have the parties meet and run their parts. False, and nothing has begun, if another plan is needed."""
        began = time.monotonic()
        self._renew(live, outdated=self._adviser.outdated(live.record))
        await self._place(live)
        async with self._meetings.of(live.plan) as meeting:
            if self._renew(live) or not self._stay(live):
                return False
            met = time.monotonic()
            execution = self._execution(live, meeting)
            groups = components(live.plan)
            live.event("start")
            await asyncio.gather(*(execution.start(group) for group in groups))
            started = time.monotonic()
            self._time(live, queue_ms=queue_ms, network_ms=met - began, start_ms=started - met)
            live.started.set_result(None)
            await self._tell(live, "running")
            reports = await asyncio.gather(*(execution.finish(group, self._left(live)) for group in groups))
            self._time(live, run_ms=time.monotonic() - started)
            told = [report for group in reports for report in group]
            if self._soundings and live.stop is None:
                told = await self._soundings.explain(live.plan, told)
            await self._enforcer.settle(live, told)
            live.conclude(told, groups, self._clock.now())
        return True

    async def _present(self, live: LiveJob) -> None:
        await self._overview.present(live.plan.parties, within=self._left(live))

    def _left(self, live: LiveJob) -> float:
        return seconds_left(live.record.deadline, self._clock.now())

    def _renew(self, live: LiveJob, *, outdated: bool = False) -> bool:
        """Decide and plan again where what the plan rests on has changed. Tells whether it is another plan now.

        Raises Refused (revoked), Unavailable.
        """
        if self._thought.edition == live.edition and not outdated:
            return False
        before, live.edition = live.plan, self._thought.edition
        decision, plan = self._thought.anew(live.record)
        live.replan(plan, decision)
        self._adviser.planned(live.record)
        return plan != before

    async def _revoke(self, breaches: Sequence[Breach]) -> None:
        """Stop parts that an agreement no longer permits, and tell why. Their jobs have taken note of it already."""
        ends: dict[tuple[str, str], list[tuple[LiveJob, str]]] = {}
        for breach in breaches:
            if breach.live.record.state == State.SUBMITTED and breach.live.task is not None:
                breach.live.task.cancel()
                continue
            for party in breach.parties:
                place = party, breach.live.instances.get(party, "")
                ends.setdefault(place, []).append((breach.live, breach.error.message))
        await asyncio.gather(
            *(end_many(self._kb, place, *zip(*found, strict=True), code=REVOKED) for place, found in ends.items()),
            *(self._publish(breach.live, "part") for breach in breaches if _goes_on(breach.live)),
        )
        for breach in breaches:
            await self._thought.note_revoked(breach.live.record, breach.error)

    async def _place(self, live: LiveJob) -> None:
        """Choose the agents that run the parts. Where a party has gone since the plan was made, have another plan.

        Raises Unavailable (offline) where there is none, or not for long enough.
        """
        for _ in range(PLACE_TRIES):
            await self._present(live)
            chosen = {party: self._overview.choose(party, self._ours()) for party in live.plan.parties}
            gone = [party for party, place in chosen.items() if place is None]
            if not gone:
                live.place({party: place for party, place in chosen.items() if place is not None})
                return
            self._renew(live, outdated=True)
        names = " and ".join(gone)
        raise Unavailable(f"{names} went away", where=", ".join(gone), hint="ask again later", code="offline")

    def _stay(self, live: LiveJob) -> bool:
        """Tell whether every agent that is to run a part still takes work."""
        online = self._overview.online()
        stay = {(party, each.instance) for party, there in online.items() for each in there if not each.leaving}
        return live.instances.items() <= stay

    def _move(self, live: LiveJob, party: str) -> bool:
        """Give a part of which nobody has heard to another agent. Not where others of the job send rows to it: they
        have been told another address."""
        before = live.instances.get(party, "")
        self._overview.doubt(before)
        if any(edge.crosses and edge.target_party == party for edge in live.plan.edges):
            return False
        other = self._overview.choose(party, self._ours(), without=before)
        if other is None:
            return False
        live.place({party: other})
        return True

    def _here(self, live: LiveJob, party: str) -> bool:
        """Tell whether the agent that has the part of a party goes on renewing its presence."""
        there = self._overview.online().get(party, ())
        return live.instances.get(party) in {each.instance for each in there}

    def _ours(self) -> Counter[str]:
        """Count the parts that we know of by the agent that runs them."""
        return Counter(each for live in self._live.values() for each in live.instances.values())

    def _execution(self, live: LiveJob, meeting: Meeting) -> Execution:
        return Execution(
            live, self._kb, self._config.credentials.key, meeting, self._clock,
            move=partial(self._move, live), here=partial(self._here, live),
        )  # fmt: skip

    def _stop_early(self, live: LiveJob, error: DynamosError, event: str) -> None:
        if not live.record.state.final:
            live.event(event, ended=self._clock.now(), error=error_facts(error))

    async def _tell(self, live: LiveJob, event: str) -> None:
        """Write the record and tell whoever listens. A bus that is away must not keep a job from ending."""
        await self._book.write(live.record)
        await self._publish(live, event)

    async def _publish(self, live: LiveJob, event: str) -> None:
        try:
            await self._kb.bus.publish(f"job.{live.record.id}", JobEvent(event=event, job=live.record).as_json())
        except DynamosError as error:
            log.warning("event.untold job=%s event=%s error=%s", live.record.id, event, error)

    @staticmethod
    def _time(live: LiveJob, **seconds: float) -> None:
        timings = {**live.record.timings, **{name: value * 1e3 for name, value in seconds.items()}}
        live.record = live.record.model_copy(update={"timings": timings})


def _goes_on(live: LiveJob) -> bool:
    """Tell whether others of the job still run: who keeps results lets go of those of the revoked ones at once."""
    return live.record.state == State.RUNNING and not set(live.plan.parties) <= set(live.revoked)
