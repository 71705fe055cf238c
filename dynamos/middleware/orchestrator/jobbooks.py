"""The job records: in the knowledge base, and the newest ones at hand, whichever orchestrator they are of."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

from dynamos.kit.clocks import Clock
from dynamos.kit.errors import Conflict, DynamosError, NotFound, Unavailable
from dynamos.knowledge.stores import Entry, Store
from dynamos.middleware.messages import FindJobs
from dynamos.middleware.views import RETRY_SECONDS, error_facts
from dynamos.model.jobs import Job, State

log = logging.getLogger(__name__)
REMEMBERED = 2000
LATE_SECONDS = 0.1
"""How long a record may be on its way from the server that keeps it to the one that is asked."""
LOSE_TRIES = 5


async def _nobody(_: str | None) -> bool:
    return False


class JobBook:
    """Writes every change of the records of one orchestrator's jobs, `life`'s; finds everybody's.

    A record is changed only as it was when it was last seen here. So the end of a job is told once, whoever tells it:
    an orchestrator that was taken for dead finds its jobs told lost, and leaves them so.
    """

    def __init__(self, store: Store, clock: Clock, *, life: str | None = None) -> None:
        self._store = store
        self._clock = clock
        self._life = life
        self._recent: OrderedDict[str, Job | dict[str, Any]] = OrderedDict()
        self._open: dict[str, str | None] = {}
        self._revisions: dict[str, int] = {}

    async def open(self, job: Job) -> None:
        """Write a new job. Raises Conflict if the id was used before."""
        try:
            self._revisions[job.id] = await self._store.put(job.id, job.as_json(), revision=0)
        except Conflict:
            raise Conflict(f"job {job.id!r} exists already", where="$.jobId", code="job-exists") from None
        self._remember(job)

    async def write(self, job: Job) -> None:
        """Write the record as it is now. A knowledge base that is away is tried again by the caller's next write."""
        self._remember(job)
        try:
            revision = await self._store.put(job.id, job.as_json(), revision=self._revisions.get(job.id))
        except Conflict:
            await self._write_again(job)
        except (Unavailable, TimeoutError) as error:
            log.warning("job.unwritten job=%s state=%s error=%s", job.id, job.state, error)
        else:
            self._revisions[job.id] = revision
        if job.state.final:
            self._revisions.pop(job.id, None)

    async def _write_again(self, job: Job) -> None:
        """Write a record that is not as we knew it: an answer to us was lost, or somebody has told the job's end."""
        try:
            entry = await self._store.get(job.id)
            there = _read(entry)
            if entry is None or there is None or not there.state.final:
                revision = entry.revision if entry else 0
                self._revisions[job.id] = await self._store.put(job.id, job.as_json(), revision=revision)
                return
        except (Conflict, Unavailable, TimeoutError) as error:
            log.warning("job.unwritten job=%s state=%s error=%s", job.id, job.state, error)
            return
        if there != job:
            log.warning("job.ended-elsewhere job=%s state=%s told=%s", job.id, job.state, there.state)
            self._remember(there)

    async def find(self, message: FindJobs) -> list[Job]:
        """Give one job, or the newest ones of a user, in a state. Raises NotFound for an unknown id."""
        if message.job:
            job = await self._find(message.job)
            if job is None or (message.user and job.user != message.user):
                raise NotFound(f"there is no job {message.job!r}")
            return [job]
        wanted = [
            each for each in self._recent.values()
            if message.user in ("", _member(each, "user")) and message.state in ("", str(_member(each, "state")))
        ]  # fmt: skip
        newest = sorted(map(_job, wanted), key=lambda job: job.submitted, reverse=True)
        return newest[: message.limit]

    async def _find(self, name: str) -> Job | None:
        """Give one job. Of another orchestrator's that is under way, as it was last written."""
        known = self._recent.get(name)
        if known is not None and (name not in self._open or self._open[name] == self._life):
            return _job(known)
        found = await self.read(name)
        if found is None and known is None:
            await asyncio.sleep(LATE_SECONDS)
            known = self._recent.get(name)
            found = await self.read(name)
        return found or (_job(known) if known is not None else None)

    def under_way(self) -> list[Job]:
        """Give every job that has not ended."""
        return [_job(self._recent[name]) for name in list(self._open) if name in self._recent]

    def lives(self) -> set[str | None]:
        """Give the orchestrators that have jobs which have not ended."""
        return set(self._open.values())

    async def follow(self) -> None:
        """Take over every change of the records, by whomever, until cancelled."""
        while True:
            try:
                async with self._store.watch() as entries:
                    async for entry in entries:
                        self._see(entry)
            except Unavailable as error:
                log.warning("watch.broken error=%s", error)
            await asyncio.sleep(RETRY_SECONDS)

    def _see(self, entry: Entry) -> None:
        if entry.value is None:
            self._recent.pop(entry.key, None)
            self._open.pop(entry.key, None)
        elif self._life is None or _member(entry.value, "orchestrator") != self._life or entry.key not in self._recent:
            self._remember(entry.value)

    async def recover(self, there: Callable[[str | None], Awaitable[bool]] = _nobody) -> list[Job]:
        """Read the records that there are, and mark jobs as lost whose orchestrator is not there. Gives those jobs."""
        for entry in sorted(await self._store.entries(), key=lambda entry: entry.revision):
            self._see(entry)
        lost = []
        for life in self.lives():
            if not await there(life):
                lost += await self.lose(life)
        return lost

    async def lose(self, life: str | None) -> list[Job]:
        """Mark the jobs of an orchestrator that is gone as lost. Gives those that nobody else has marked."""
        lost = [await self._lose(name) for name, whose in list(self._open.items()) if whose == life]
        return [job for job in lost if job is not None]

    async def _lose(self, name: str) -> Job | None:
        for _ in range(LOSE_TRIES):
            entry = await self._store.get(name)
            job = _read(entry)
            if entry is None or job is None:
                self._open.pop(name, None)
                return None
            if job.state.final:
                self._remember(job)
                return None
            error = DynamosError("the orchestrator went away while the job ran", code="lost", hint="submit it again")
            ended = {"state": State.LOST, "ended": self._clock.now(), "error": error_facts(error)}
            job = job.model_copy(update=ended)
            try:
                await self._store.put(name, job.as_json(), revision=entry.revision)
            except Conflict:
                continue
            self._remember(job)
            return job
        return None

    async def read(self, job: str) -> Job | None:
        """Give the record as it was last written, by whomever."""
        return _read(await self._store.get(job))

    def _remember(self, job: Job | dict[str, Any]) -> None:
        name = str(_member(job, "id"))
        self._recent[name] = job
        if State(_member(job, "state")).final:
            self._open.pop(name, None)
        else:
            self._open[name] = _member(job, "orchestrator")
        if len(self._recent) > REMEMBERED:
            self._recent.pop(next((each for each in self._recent if each not in self._open), name))


def _read(entry: Entry | None) -> Job | None:
    return Job.model_validate(entry.value) if entry is not None and entry.value else None


def _job(known: Job | dict[str, Any]) -> Job:
    """Give a record as a value: those of others are read only where somebody asks for them."""
    return known if isinstance(known, Job) else Job.model_validate(known)


def _member(known: Job | dict[str, Any], name: str) -> Any:
    return getattr(known, name) if isinstance(known, Job) else known.get(name)
