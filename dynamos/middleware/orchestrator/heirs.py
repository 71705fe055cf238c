"""Heirs: the jobs of an orchestrator that has gone are told lost by those that are there, and their parts are ended.

An orchestrator's lease is its presence: renewed every second, out after three. Nobody leads: each that notices tries to
mark each job, and the knowledge base lets one of them do so, because a record is changed only as it was last seen. That
one ends the parts and tells the event.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping

from dynamos.kit.errors import DynamosError, Unavailable
from dynamos.knowledge.bases import KnowledgeBase
from dynamos.knowledge.permissions import ORCHESTRATOR
from dynamos.middleware.instances import key_of
from dynamos.middleware.messages import EndPart, JobEvent, Presence
from dynamos.middleware.orchestrator.executions import subject_of
from dynamos.middleware.orchestrator.jobbooks import JobBook
from dynamos.middleware.orchestrator.lives import Life
from dynamos.model.jobs import Job

log = logging.getLogger(__name__)
LOOK_SECONDS = 0.25
ABSENT_SECONDS = 1.0
"""For how long an orchestrator whose lease is out has to be away: it may be on the way to another server of the bus."""
END_SECONDS = 2.0


class Heirs:
    """Looks after the jobs of other orchestrators. `online` gives who has a lease, `bury` ends the parts of jobs."""

    def __init__(
        self,
        life: Life,
        book: JobBook,
        online: Callable[[], Mapping[str, Presence]],
        bury: Callable[[list[Job]], Awaitable[None]],
    ) -> None:
        self._life = life
        self._book = book
        self._online = online
        self._bury = bury
        self._absent: dict[str | None, float] = {}

    async def follow(self) -> None:
        """Look, again and again, until cancelled."""
        while True:
            try:
                await self.look()
            except DynamosError as error:
                log.warning("heirs.later error=%s", error)
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Mark the jobs of those that have gone."""
        online, now = self._online(), time.monotonic()
        away = {name for name in self._book.lives() if key_of(ORCHESTRATOR, name or "") not in online}
        self._absent = {name: self._absent.get(name, now) for name in away - {self._life.name}}
        for name, since in self._absent.items():
            if now - since >= ABSENT_SECONDS and not await self._life.there(name):
                lost = await self._book.lose(name)
                log.info("jobs.inherited orchestrator=%s jobs=%d", name, len(lost))
                await self._bury(lost)


async def bury(kb: KnowledgeBase, lost: list[Job]) -> None:
    """Tell that jobs are lost, and have every party stop what an orchestrator that is gone had started."""
    ends = ((job, party) for job in lost for party in (job.plan.parties if job.plan else ()))
    await asyncio.gather(*(_tell_lost(kb, job) for job in lost), *(_end_lost(kb, job, party) for job, party in ends))


async def _tell_lost(kb: KnowledgeBase, job: Job) -> None:
    try:
        await kb.bus.publish(f"job.{job.id}", JobEvent(event="lost", job=job).as_json())
    except DynamosError as error:
        log.warning("event.untold job=%s error=%s", job.id, error)


async def _end_lost(kb: KnowledgeBase, job: Job, party: str) -> None:
    message = EndPart(job=job.id, code="lost", reason="the orchestrator went away")
    try:
        await kb.bus.request(
            subject_of(party, job.instances.get(party, ""), "end"), message.as_json(), within=END_SECONDS
        )
    except (Unavailable, TimeoutError) as error:
        log.warning("end.unheard job=%s party=%s error=%s", job.id, party, error)
