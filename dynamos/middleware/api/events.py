"""Events of jobs, as the orchestrator tells them, for who follows a job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dynamos.kit.errors import DynamosError
from dynamos.middleware.api.bodies import dumps
from dynamos.middleware.messages import JobEvent
from dynamos.model.jobs import Job, PartReport, State

KEEP_ALIVE_SECONDS = 15.0
WAITING_EVENTS = 256


class Events:
    """Hands every event of a job to those who follow it."""

    def __init__(self) -> None:
        self._followers: dict[str, list[asyncio.Queue[JobEvent]]] = {}

    def tell(self, event: JobEvent) -> None:
        """Pass an event on. A follower who is far behind loses the oldest; each event tells the whole state."""
        for queue in self._followers.get(event.job.id, ()):
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(event)

    @contextmanager
    def follow(self, job: str) -> Iterator[asyncio.Queue[JobEvent]]:
        """Hear the events of a job during the block."""
        queue: asyncio.Queue[JobEvent] = asyncio.Queue(WAITING_EVENTS)
        self._followers.setdefault(job, []).append(queue)
        try:
            yield queue
        finally:
            self._followers[job].remove(queue)
            if not self._followers[job]:
                del self._followers[job]

    def follows(self, job: str) -> bool:
        """Tell whether anybody follows this job."""
        return job in self._followers


def told(event: str, job: Job) -> dict[str, Any]:
    """Give what followers are told: the job's state, and that of its parts."""
    return {
        "event": event,
        "job": job.id,
        "state": str(job.state),
        "submitted": job.submitted.isoformat(),
        "ended": job.ended.isoformat() if job.ended else None,
        "parts": {party: str(report.state) for party, report in job.parts.items()},
        "timings": job.timings,
        "error": job.error,
    }


def replay(job: Job) -> list[dict[str, Any]]:
    """Give the events of a job that are over, as its record tells them."""

    def then(state: State, parts: dict[str, PartReport]) -> Job:
        return job.model_copy(update={"state": state, "parts": parts, "ended": None, "error": None, "timings": {}})

    past = [told("submitted", then(State.SUBMITTED, {}))]
    for number, party in enumerate(job.parts, start=1):
        ended = dict(list(job.parts.items())[:number])
        past.append({**told("part", then(State.RUNNING, ended)), "part": party})
    if job.state != State.SUBMITTED:
        past.append(told(str(job.state), job))
    return past


async def stream(job: Job, queue: asyncio.Queue[JobEvent], look: Callable[[], Awaitable[Job]]) -> AsyncIterator[bytes]:
    """Give server-sent events: what is over, then what happens, until the job has ended.

    After a while without an event, `look` asks for the record: an event may have been lost with a connection.
    """
    number = 0
    for number, past in enumerate(replay(job), start=1):
        yield _written(number, past)
    last = job
    while not last.state.final:
        try:
            async with asyncio.timeout(KEEP_ALIVE_SECONDS):
                event = await queue.get()
        except TimeoutError:
            yield b": still here\n\n"
            event = await _seen(look, last)
        if event.job.state == last.state and event.job.parts == last.parts:
            continue
        last, number = event.job, number + 1
        yield _written(number, told(event.event, last))


async def _seen(look: Callable[[], Awaitable[Job]], last: Job) -> JobEvent:
    try:
        job = await look()
    except DynamosError:
        job = last
    return JobEvent(event=str(job.state), job=job)


def _written(number: int, data: dict[str, Any]) -> bytes:
    name = data["state"] if data["event"] not in ("part", "submitted") else data["event"]
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (number, str(name).encode(), dumps(data))
