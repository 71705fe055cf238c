"""Submissions: each request becomes one job, once, and is seen to its end or to the end of who waits for it."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Callable, Coroutine
from typing import Any

from opentelemetry import trace

from dynamos.kit.digests import digest
from dynamos.kit.errors import BadInput, Cancelled, Conflict, DynamosError, JobFailed, NotFound, TimedOut, Unavailable
from dynamos.middleware import telemetry
from dynamos.middleware.api.asks import Ask
from dynamos.middleware.api.callers import Caller
from dynamos.middleware.api.events import Events
from dynamos.middleware.api.orchestrators import Orchestrator
from dynamos.middleware.api.results import Delivery, Results
from dynamos.middleware.identity import vouchers
from dynamos.middleware.messages import JobEvent, Submit
from dynamos.model.jobs import Job, State
from dynamos.model.profiles import Settings
from dynamos.model.requests import Request

log = logging.getLogger(__name__)
tracer = trace.get_tracer("dynamos.api")
MARGIN_SECONDS = 15.0
LOOK_AGAIN_SECONDS = 5.0
SETTLE_SECONDS = 10.0
CLOSE_SECONDS = 3.0
TRIES_AGAIN = 3
"""How often a job that its agreement ended is run again: agreements may go on changing."""
_JOB = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_NO_WORD = re.compile(r"[^a-z0-9]+")
_SLUG_LENGTH = 32
_KEY_LENGTH = 200


def new_id(user: str) -> str:
    """Give a job id that nobody has used: the user's name in front for people, 48 random bits behind it."""
    return f"{_slug(user)}-{secrets.token_hex(6)}"


def id_of_key(user: str, key: str, attempt: int = 1) -> str:
    """Give the job id that belongs to a user's idempotency key: that of the first job, or of one that replaces it.

    Raises BadInput for a key that is none.
    """
    if not 0 < len(key) <= _KEY_LENGTH or not key.isprintable():
        raise BadInput(f"an Idempotency-Key has 1 to {_KEY_LENGTH} printable characters", where="Idempotency-Key")
    first = f"{_slug(user)}-{digest([user, key])[:24]}"
    return first if attempt == 1 else f"{first}-{attempt}"


def _slug(user: str) -> str:
    return _NO_WORD.sub("-", user.partition("@")[0].lower())[:_SLUG_LENGTH].strip("-") or "job"


Look = Callable[[str | None], None]
"""Raises Elsewhere where another API, by its name, keeps a job's results."""


def _nobody(_: str | None) -> None:
    return


class Submissions:
    """Submits, waits, cancels. `gateway` is where parties bring results."""

    def __init__(
        self, settings: Settings, orchestrator: Orchestrator, results: Results, events: Events, *, gateway: str,
        name: str = "",
    ) -> None:  # fmt: skip
        self.gateway = gateway
        self._name = name
        self._settings = settings
        self._orchestrator = orchestrator
        self._results = results
        self._events = events
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        results.faulty = self._faulty

    async def submit(self, ask: Ask, caller: Caller, *, key: str = "", look: Look = _nobody) -> Delivery:
        """Have the request run, and give its delivery once it runs.

        The same id, or the same key, with the same request gives the job that there is (of a key, the one that has
        replaced it, if one has); with another request it raises Conflict. Raises whatever the orchestrator raises for a
        request that cannot run.
        """
        attempt = 1
        while key and self._results.find(id_of_key(ask.request.user.user_name, key, attempt + 1)) is not None:
            attempt += 1
        return await self._submit(ask, caller, key=key, attempt=attempt, look=look)

    async def _submit(
        self, ask: Ask, caller: Caller, *, key: str = "", attempt: int = 1, replaces: str | None = None,
        look: Look = _nobody,
    ) -> Delivery:  # fmt: skip
        request = ask.request
        job = self._id(ask, key, attempt)
        former = self._results.find(job)
        if former is not None:
            return await self._again(former, request)
        delivery = self._results.expect(job, request.user.user_name, request.digest())
        voucher = caller.voucher(vouchers.to_run(job, request))
        message = Submit(
            job=job, request=request, voucher=voucher, gateway=self.gateway, api=self._name, replaces=replaces
        )
        try:
            record = await self._ask(message)
        except BaseException as error:
            self._unsubmitted(delivery, error)
            if isinstance(error, Conflict) and (ask.job or key):
                return await self._earlier(job, request, look)
            raise
        delivery.submitted.set_result(record)
        delivery.learn(record)
        return delivery

    async def _ask(self, message: Submit) -> Job:
        with tracer.start_as_current_span("submit", attributes={"job": message.job}):
            traced = message.model_copy(update={"trace": telemetry.inject()})
            return await self._orchestrator.submit(traced, within=self.longest(message.request))

    def _unsubmitted(self, delivery: Delivery, error: BaseException) -> None:
        """Clean up after a request that did not become a job, or of which nobody can tell whether it did."""
        told = error if isinstance(error, DynamosError) else Cancelled("its first caller went away")
        delivery.submitted.set_exception(told)
        delivery.submitted.exception()
        self._results.forget(delivery.job)
        if not isinstance(error, DynamosError) or isinstance(error, TimedOut):
            self.cancel(delivery.job, "the client went away")

    def _id(self, ask: Ask, key: str, attempt: int) -> str:
        user = ask.request.user.user_name
        if ask.job:
            if not _JOB.fullmatch(ask.job):
                raise BadInput(
                    f"{ask.job[:80]!r} cannot be the id of a job",
                    where="$.jobId",
                    hint="use 1 to 63 letters, digits, '-' or '_'",
                )
            return ask.job
        return id_of_key(user, key, attempt) if key else new_id(user)

    async def _again(self, former: Delivery, request: Request) -> Delivery:
        _check_same(former.job, request, former.user, former.request)
        await asyncio.shield(former.submitted)
        return former

    async def _earlier(self, job: str, request: Request, look: Look) -> Delivery:
        """Give a job that an earlier life of this API submitted; its results are gone. Raises what `look` raises."""
        try:
            record = await self._orchestrator.job(job, request.user.user_name)
        except NotFound:
            raise _taken(job) from None
        _check_same(job, request, record.user, record.request.digest())
        look(record.api)
        delivery = Delivery(job, record.user, record.request.digest(), time.monotonic())
        delivery.submitted.set_result(record)
        delivery.learn(record)
        delivery.gone = record.state.final
        return delivery

    def longest(self, request: Request) -> float:
        """Give the seconds after which a job of this request must have ended."""
        wanted = request.deadline or self._settings.deadline
        return float(min(wanted, self._settings.max_deadline)) + MARGIN_SECONDS

    async def run(
        self, ask: Ask, caller: Caller, *, key: str = "", within: float | None = None, look: Look = _nobody
    ) -> Delivery:
        """Submit and wait for the end, or for `within` seconds; then the job goes on.

        Who goes away while waiting cancels the job, unless they chose its id or key and so can come back. A job that
        an agreement no longer permits, but would in another way, is run again in that way while somebody waits for it,
        as another job that replaces it: nothing of its result has left yet. Whoever chose a job's id means that job,
        and is told that it was stopped.
        """
        longest = self.longest(ask.request)
        end = time.monotonic() + (longest if within is None else min(within, longest))
        comes_back = bool(ask.job or key)
        delivery = await self._submit(ask, caller, key=key, look=look)
        for attempt in range(2, TRIES_AGAIN + 2):
            await self._wait(delivery, end, comes_back=comes_back, gives_up=within is None or within >= longest)
            if ask.job or end <= time.monotonic() or not _runs_otherwise(delivery):
                break
            log.info("job.again job=%s", delivery.job)
            delivery = await self._submit(ask, caller, key=key, attempt=attempt, replaces=delivery.job)
        return delivery

    async def _wait(self, delivery: Delivery, end: float, *, comes_back: bool, gives_up: bool) -> None:
        """Wait for the end of a job. Where that does not come: with `gives_up`, cancel it and raise TimedOut."""
        try:
            with tracer.start_as_current_span("await results", attributes={"job": delivery.job}):
                await self.finish(delivery, within=end - time.monotonic())
        except TimedOut:
            if gives_up:
                self.abandon(delivery, "the job did not end in time")
                raise
        except asyncio.CancelledError:
            if not comes_back:
                self.abandon(delivery, "the client went away")
            raise

    async def finish(self, delivery: Delivery, *, within: float) -> None:
        """Wait until the job has ended and its results are here. Raises TimedOut, JobFailed (a result never came)."""
        end = time.monotonic() + within
        settle = 0.0
        while not delivery.complete:
            now = time.monotonic()
            if delivery.record is not None and delivery.record.state.final:
                settle = settle or now + SETTLE_SECONDS
                if now >= settle:
                    raise JobFailed("the job has ended, but a result did not arrive", code="result-missing")
            step = min(LOOK_AGAIN_SECONDS, (settle or end) - now)
            if now >= end:
                raise TimedOut(f"the job did not end within {within:g} s", where=delivery.job)
            try:
                await delivery.until(_settled_or_ended(delivery), within=max(step, 0.01), what="the end of the job")
            except TimedOut:
                await self._look(delivery)
        delivery.arrived()

    async def _look(self, delivery: Delivery) -> None:
        """Ask for the job's record: an event may have been lost with a connection."""
        try:
            delivery.learn(await self._orchestrator.job(delivery.job))
        except NotFound:
            raise JobFailed(
                "the orchestrator does not know the job any more", code="lost", hint="submit it again"
            ) from None
        except (Unavailable, TimedOut) as error:
            log.warning("job.unseen job=%s error=%s", delivery.job, error)

    def look_again(self) -> None:
        """Ask for the records of all jobs under way; after the bus was away."""
        for delivery in self._results.all():
            if delivery.record is not None and not delivery.record.state.final:
                self._spawn(self._look_once(delivery))

    async def _look_once(self, delivery: Delivery) -> None:
        try:
            await self._look(delivery)
        except DynamosError as error:
            log.warning("job.unseen job=%s error=%s", delivery.job, error)

    async def hear(self, subject: str, message: dict[str, Any]) -> None:
        """Take an event of a job from the bus; others' jobs are nobody's business here."""
        job = subject.partition(".")[2]
        delivery = self._results.find(job)
        if delivery is None and not self._events.follows(job):
            return
        event = JobEvent.model_validate(message)
        if delivery is not None:
            delivery.learn(event.job)
        self._events.tell(event)

    def abandon(self, delivery: Delivery, reason: str) -> None:
        """Cancel a job that nobody waits for any more, and drop what it brought."""
        self._results.forget(delivery.job)
        if delivery.record is None or not delivery.record.state.final:
            self.cancel(delivery.job, reason)

    def cancel(self, job: str, reason: str) -> None:
        """Have a job stopped, in the background."""
        self._spawn(self._cancel(job, reason))

    async def _cancel(self, job: str, reason: str) -> None:
        try:
            await self._orchestrator.cancel(job, reason)
        except NotFound:
            log.debug("cancel.late job=%s", job)
        except DynamosError as error:
            log.warning("cancel.failed job=%s error=%s", job, error)

    def _faulty(self, delivery: Delivery, error: DynamosError) -> None:
        """A result cannot be kept here (told from a receiver's thread): the rest of its job is in vain."""
        self._loop.call_soon_threadsafe(self.cancel, delivery.job, f"the result cannot be kept: {error.message}")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def settle(self, within: float) -> None:
        """Wait until every job under way has brought what it brings, at most `within` seconds."""
        end = time.monotonic() + within
        for delivery in self._results.all():
            if delivery.complete or delivery.record is None:
                continue
            try:
                await self.finish(delivery, within=max(0.0, end - time.monotonic()))
            except DynamosError as error:
                log.warning("job.left job=%s error=%s", delivery.job, error)

    async def close(self) -> None:
        """Cancel what is under way: nobody could fetch its results. Bounded."""
        for delivery in self._results.all():
            if delivery.record is None or not delivery.record.state.final:
                self.cancel(delivery.job, "the API stops")
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=CLOSE_SECONDS)
        for task in list(self._tasks):
            task.cancel()


def _settled_or_ended(delivery: Delivery) -> Any:
    """Wake when all is here, and also when the job ends, from when on results have to come soon."""
    ended = delivery.record is not None and delivery.record.state.final
    return lambda seen: seen.complete or (not ended and seen.record is not None and seen.record.state.final)


def _runs_otherwise(delivery: Delivery) -> bool:
    """Tell whether a job ended, as a whole, so that its request would run otherwise now: for an agreement that permits
    another way, or an agent that went away before it had begun."""
    record = delivery.record
    if record is None or record.state not in (State.CANCELLED, State.FAILED) or record.error is None:
        return False
    return bool(record.error.get("again"))


def _check_same(job: str, request: Request, user: str, former: str) -> None:
    if user != request.user.user_name:
        raise _taken(job)
    if former != request.digest():
        raise Conflict(
            f"job {job!r} exists already, with another request",
            code="job-exists",
            hint="choose another id",
            location=f"/api/v1/jobs/{job}",
            job=job,
        )


def _taken(job: str) -> Conflict:
    return Conflict(f"the id {job!r} is taken", code="job-exists", hint="choose another id")
