"""What the API asks of the orchestrator, over the bus."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, TypeVar

from dynamos.kit.errors import Broken, Conflict, DynamosError, NotFound, TimedOut, Unavailable
from dynamos.knowledge.buses import Bus, Unheard
from dynamos.middleware.messages import (
    LEAVING,
    CancelJob,
    Change,
    Changed,
    Check,
    Checked,
    FindJobs,
    FoundJobs,
    Look,
    Rehearse,
    Rehearsed,
    Seen,
    Submit,
    Submitted,
)
from dynamos.middleware.steering import Monitored, Options, Steer, Steering, Watch
from dynamos.model.jobs import Job, State
from dynamos.model.values import Value

V = TypeVar("V", bound=Value)
log = logging.getLogger(__name__)
ANSWER_SECONDS = 5.0
PATIENCE_SECONDS = 30.0
"""How long a request waits for an orchestrator that is being restarted."""
AGAIN_SECONDS = 0.1
LOOK_SECONDS = 3.0
SEEN_SECONDS = 2.0
EXISTS = "job-exists"
SAFE = frozenset(f"orchestrator.{name}" for name in ("check", "jobs", "look", "monitor", "options", "rehearse"))
"""What may be asked twice: nothing changes by it."""
CHANGE_SECONDS = 15.0


class Orchestrator:
    """Each method is one message and its answer. All raise what the orchestrator raises, Unavailable, and TimedOut.

    An orchestrator that is away is waited for, `patience` seconds at most: what it answers, it answers once.
    """

    def __init__(self, bus: Bus, *, patience: float = PATIENCE_SECONDS) -> None:
        self._bus = bus
        self._patience = patience

    async def submit(self, message: Submit, *, within: float) -> Job:
        """Have a request run; gives the job once its parts run.

        Asked again because an answer was lost, it gives the job that there is: a job of this id and request is ours.
        Where no answer comes, it looks what became of the job: who was asked may have gone, or its answer with a server
        of the bus. A job of which nobody knows is asked for again; whoever is asked, a job of one id runs once.
        """
        asking, pause, unknown = asyncio.ensure_future(self._submit(message, within)), LOOK_SECONDS, 0
        try:
            while not (await asyncio.wait((asking,), timeout=pause))[0]:
                found = await self._seen(message)
                if isinstance(found, Job):
                    return found
                unknown = unknown + 1 if found is not None else 0
                if unknown > 1:  # once may be too early
                    asking.cancel()
                    asking = asyncio.ensure_future(self._submit(message, within, away=True))
                    pause, unknown = 2 * pause, 0  # where all are slow, asking more makes nothing faster
            return asking.result()
        finally:
            asking.cancel()

    async def _submit(self, message: Submit, within: float, *, away: bool = False) -> Job:
        try:
            return (await self._ask("submit", message, Submitted, within, away=away)).job
        except _Repeated as repeated:
            request = message.request
            job = await self.job(message.job, request.user.user_name)
            if job.request.digest() != request.digest():
                raise repeated.error from None
            return job

    async def _seen(self, message: Submit) -> Job | NotFound | None:
        """Give a job that runs or has ended, or that there is none, or nothing that helps."""
        user = message.request.user.user_name
        try:
            (job,) = await self.jobs(FindJobs(job=message.job, user=user), within=SEEN_SECONDS)
        except NotFound as error:
            return error
        except (DynamosError, ValueError) as error:
            log.info("job.unseen job=%s error=%s", message.job, error)
            return None
        ours = job.request.digest() == message.request.digest() and job.state != State.SUBMITTED
        return job if ours else None

    async def check(self, message: Check) -> Checked:
        """Ask whether a request would run, and how."""
        return await self._ask("check", message, Checked, ANSWER_SECONDS)

    async def cancel(self, job: str, reason: str, *, within: float = ANSWER_SECONDS) -> Job:
        """Stop a job; gives it as it is then."""
        return (await self._ask("cancel", CancelJob(job=job, reason=reason), Submitted, within)).job

    async def job(self, job: str, user: str = "") -> Job:
        """Give one job, of one user if given. Raises NotFound, also for somebody else's."""
        found = await self.jobs(FindJobs(job=job, user=user))
        if not found or (user and found[0].user != user):
            raise NotFound(f"there is no job {job!r}")
        return found[0]

    async def jobs(self, message: FindJobs, *, within: float = ANSWER_SECONDS) -> tuple[Job, ...]:
        """Give the newest jobs, or one of them."""
        patience = self._patience if within == ANSWER_SECONDS else 0.0
        return (await self._ask("jobs", message, FoundJobs, within, patience)).jobs

    async def look(self, message: Look) -> Seen:
        """Read values of the knowledge base."""
        return await self._ask("look", message, Seen, ANSWER_SECONDS)

    async def change(self, message: Change) -> Changed:
        """Write or remove a value of the knowledge base."""
        return await self._ask("change", message, Changed, CHANGE_SECONDS)

    async def monitor(self, message: Watch) -> Monitored:
        """Ask what is monitored."""
        return await self._ask("monitor", message, Monitored, ANSWER_SECONDS)

    async def options(self, message: Watch) -> Options:
        """Ask what a strategy from outside can set."""
        return await self._ask("options", message, Options, ANSWER_SECONDS)

    async def steer(self, message: Steer) -> Steering:
        """Set it from the next request on; gives all that is set then."""
        return await self._ask("steer", message, Steering, ANSWER_SECONDS)

    async def rehearse(self, message: Rehearse) -> Rehearsed:
        """Ask what another agreement would do."""
        return await self._ask("rehearse", message, Rehearsed, CHANGE_SECONDS)

    async def _ask(
        self, name: str, message: Value, answer: type[V], within: float, patience: float | None = None, *,
        away: bool = False,
    ) -> V:  # fmt: skip
        patience = self._patience if patience is None else patience
        told = await self._told(f"orchestrator.{name}", message, within, patience, away=away)
        try:
            return answer.model_validate(told)
        except ValueError as error:
            raise Broken(f"the orchestrator's answer to {name!r} cannot be read: {error}") from error

    async def _told(
        self, subject: str, message: Value, within: float, patience: float, *, away: bool
    ) -> dict[str, Any]:
        """Ask until somebody answers. Raises _Repeated for a conflict that our own earlier message may have made: one
        that was lost when somebody was `away`."""
        begin, again = time.monotonic(), subject in SAFE
        while True:
            try:
                return await self._bus.request(subject, message.as_json(), within=within)
            except Unavailable as error:
                if not isinstance(error, Unheard) and error.detail_code != LEAVING:
                    raise
                if time.monotonic() - begin >= patience:
                    raise
                log.info("orchestrator.away subject=%s error=%s", subject, error)
                away = away or isinstance(error, Unheard)
            except TimedOut:  # the question or its answer may have gone with a server of the bus
                if not again or within < ANSWER_SECONDS:
                    raise
                again = False
                continue
            except Conflict as error:
                if away and error.detail_code == EXISTS:
                    raise _Repeated(error) from None
                raise
            await asyncio.sleep(AGAIN_SECONDS)


class _Repeated(Exception):
    """An earlier message of ours may have made the conflict."""

    def __init__(self, error: DynamosError) -> None:
        super().__init__(str(error))
        self.error = error
