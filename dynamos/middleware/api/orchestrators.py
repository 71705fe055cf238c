"""What the API asks of the orchestrator, over the bus."""

from __future__ import annotations

from typing import Any, TypeVar

from dynamos.kit.errors import Broken, NotFound
from dynamos.knowledge.buses import Bus
from dynamos.middleware.messages import (
    CancelJob,
    Change,
    Changed,
    Check,
    Checked,
    FindJobs,
    FoundJobs,
    Look,
    Seen,
    Submit,
    Submitted,
)
from dynamos.model.jobs import Job
from dynamos.model.values import Value

V = TypeVar("V", bound=Value)
ANSWER_SECONDS = 5.0
CHANGE_SECONDS = 15.0


class Orchestrator:
    """Each method is one message and its answer. All raise what the orchestrator raises, Unavailable, and TimedOut."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def submit(self, message: Submit, *, within: float) -> Job:
        """Have a request run; gives the job once its parts run."""
        return (await self._ask("submit", message, Submitted, within)).job

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
        return (await self._ask("jobs", message, FoundJobs, within)).jobs

    async def look(self, message: Look) -> Seen:
        """Read values of the knowledge base."""
        return await self._ask("look", message, Seen, ANSWER_SECONDS)

    async def change(self, message: Change) -> Changed:
        """Write or remove a value of the knowledge base."""
        return await self._ask("change", message, Changed, CHANGE_SECONDS)

    async def _ask(self, name: str, message: Value, answer: type[V], within: float) -> V:
        told: dict[str, Any] = await self._bus.request(f"orchestrator.{name}", message.as_json(), within=within)
        try:
            return answer.model_validate(told)
        except ValueError as error:
            raise Broken(f"the orchestrator's answer to {name!r} cannot be read: {error}") from error
