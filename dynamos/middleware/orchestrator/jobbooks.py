"""The job records: in the knowledge base, and the newest ones at hand."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from dynamos.kit.clocks import Clock
from dynamos.kit.errors import Conflict, DynamosError, NotFound, Unavailable
from dynamos.knowledge.stores import Store
from dynamos.middleware.messages import FindJobs
from dynamos.middleware.views import error_facts
from dynamos.model.jobs import Job

log = logging.getLogger(__name__)
REMEMBERED = 2000


async def _nobody(_: str | None) -> bool:
    return False


class JobBook:
    """Writes every change of a job's record; finds jobs."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._recent: OrderedDict[str, Job] = OrderedDict()

    async def open(self, job: Job) -> None:
        """Write a new job. Raises Conflict if the id was used before."""
        try:
            await self._store.put(job.id, job.as_json(), revision=0)
        except Conflict:
            raise Conflict(f"job {job.id!r} exists already", where="$.jobId", code="job-exists") from None
        self._remember(job)

    async def write(self, job: Job) -> None:
        """Write the record as it is now. A knowledge base that is away is tried again by the caller's next write."""
        self._remember(job)
        try:
            await self._store.put(job.id, job.as_json())
        except (Unavailable, TimeoutError) as error:
            log.warning("job.unwritten job=%s state=%s error=%s", job.id, job.state, error)

    async def find(self, message: FindJobs) -> list[Job]:
        """Give one job, or the newest ones of a user. Raises NotFound for an unknown id."""
        if message.job:
            job = self._recent.get(message.job) or await self.read(message.job)
            if job is None or (message.user and job.user != message.user):
                raise NotFound(f"there is no job {message.job!r}")
            return [job]
        newest = [job for job in reversed(self._recent.values()) if message.user in ("", job.user)]
        return newest[: message.limit]

    async def recover(self, there: Callable[[str | None], Awaitable[bool]] = _nobody) -> list[Job]:
        """Read the records that there are, and mark jobs as lost whose orchestrator is not there. Gives those jobs."""
        lost = []
        alive: dict[str | None, bool] = {}
        error = DynamosError("the orchestrator was restarted while the job ran", code="lost", hint="submit it again")
        jobs = [Job.model_validate(entry.value) for entry in await self._store.entries() if entry.value]
        for job in sorted(jobs, key=lambda job: job.submitted):
            if not job.state.final:
                if job.orchestrator not in alive:
                    alive[job.orchestrator] = await there(job.orchestrator)
                if alive[job.orchestrator]:
                    continue  # its record goes on changing, elsewhere
                ended = {"state": "lost", "ended": self._clock.now(), "error": error_facts(error)}
                job = Job.model_validate({**job.model_dump(), **ended})  # noqa: PLW2901
                await self.write(job)
                lost.append(job)
            self._remember(job)
        return lost

    async def read(self, job: str) -> Job | None:
        """Give the record as it was last written, by whomever."""
        entry = await self._store.get(job)
        return Job.model_validate(entry.value) if entry is not None and entry.value else None

    def _remember(self, job: Job) -> None:
        self._recent[job.id] = job
        while len(self._recent) > REMEMBERED:
            self._recent.popitem(last=False)
