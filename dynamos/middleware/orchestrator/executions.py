"""Runs one planned job: grants to every party, reports from every party, and the end told to everybody."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from opentelemetry import trace

from dynamos.kit.clocks import Clock
from dynamos.kit.errors import Cancelled, DynamosError, NotFound, Refused, TimedOut, Unavailable
from dynamos.knowledge.bases import KnowledgeBase
from dynamos.knowledge.buses import Nobody, Unheard
from dynamos.middleware import telemetry
from dynamos.middleware.identity import grants
from dynamos.middleware.messages import EndPart, EndParts, StartPart
from dynamos.middleware.network.meetings import Meeting
from dynamos.middleware.orchestrator.livejobs import LiveJob, is_consequence
from dynamos.model.jobs import Grant, PartReport, State
from dynamos.model.plans import REQUESTOR

log = logging.getLogger(__name__)
tracer = trace.get_tracer("dynamos.orchestrator")
START_SECONDS = 15.0
START_TRY_SECONDS = 5.0
GRACE_SECONDS = 15.0
RETRY_SECONDS = 0.2
AGAIN_SECONDS = 3.0
"""How long a start is tried again that nobody took, or whose answer was lost: a server of the bus may be restarted."""
CAUSE_SECONDS = 1.0
"""How long the others of a group go on where a part tells only what another's failure did to it: one of them is about
to tell the cause, and who is ended first cannot."""
END_SECONDS = 5.0
SPENT = "grant-spent"
AGAIN = "nothing has run; ask again"


Move = Callable[[str], bool]
"""Gives the part of a party, of which nobody has heard, to another of its agents; tells whether there is one."""
Here = Callable[[str], bool]
"""Tells whether the agent that has a party's part goes on saying that it is there."""


def _nowhere(_: str) -> bool:
    return False


def _always(_: str) -> bool:
    return True


class Execution:
    """Runs the parts of one group of parties; a failure of one ends the others of the group."""

    def __init__(
        self,
        live: LiveJob,
        kb: KnowledgeBase,
        key: Path,
        meeting: Meeting,
        clock: Clock,
        *,
        move: Move = _nowhere,
        here: Here = _always,
    ) -> None:
        self._live = live
        self._kb = kb
        self._key = key
        self._meeting = meeting
        self._clock = clock
        self._move = move
        self._here = here

    async def start(self, group: tuple[str, ...]) -> None:
        """Start every part of the group at once; where one cannot start, the others are ended."""
        failures = await asyncio.gather(*(self._start_part(party) for party in group), return_exceptions=True)
        failed = [party for party, failure in zip(group, failures, strict=True) if self._not_begun(party, failure)]
        await asyncio.gather(*(self._end_part(each, "ended", f"part at {each} did not start") for each in failed))

    async def finish(self, group: tuple[str, ...], deadline: float) -> list[PartReport]:
        """Give the report of every part of the group; what has not reported by the deadline is lost."""
        owed = {asyncio.ensure_future(asyncio.shield(self._live.owed(party))): party for party in group}
        end = asyncio.get_running_loop().time() + deadline + GRACE_SECONDS
        pending, failed, ended = set(owed), list[PartReport](), False
        while pending:
            waits_for_cause = bool(failed) and not ended
            left = CAUSE_SECONDS if waits_for_cause else end - asyncio.get_running_loop().time()
            done, pending = await asyncio.wait(pending, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if not done and not waits_for_cause:
                self._lose([owed[task] for task in pending])
                continue
            failed += [task.result() for task in done if task.result().state != State.SUCCEEDED]
            if failed and not ended and (not done or not all(map(is_consequence, failed))):
                ended = True
                await self._end_others([owed[task] for task in pending], failed[0])
        return [self._live.owed(party).result() for party in group]

    async def stop(self, code: str, reason: str, parties: Iterable[str] | None = None) -> None:
        """End every part of the job, or those of these parties, at once."""
        ended = self._live.plan.parties if parties is None else parties
        await asyncio.gather(*(self._end_part(party, code, reason) for party in ended))

    def _not_begun(self, party: str, failure: BaseException | None) -> bool:
        """Close a part that did not start; tell whether that is so."""
        if failure is None:
            return False
        error = failure if isinstance(failure, DynamosError) else DynamosError(f"{party}: {failure}")
        if not isinstance(failure, DynamosError):
            log.error("start.broken job=%s party=%s", self._live.record.id, party, exc_info=failure)
        error.where = error.where or party
        self._live.end_part(party, State.FAILED, error)
        return True

    async def _start_part(self, party: str) -> None:
        message = StartPart(
            grant=grants.sign(self._grant(party), self._key),
            request=self._live.record.request,
            voucher=self._live.submission.voucher,
            orchestrator=self._live.record.orchestrator or "",
            trace=telemetry.inject(),
        ).as_json()
        await self._ask_to_start(party, message)

    async def _ask_to_start(self, party: str, message: dict[str, Any]) -> None:
        """Have the part start. A party that is asked twice with one grant starts it once, whichever of its agents."""
        loop = asyncio.get_running_loop()
        end, last, before = loop.time() + AGAIN_SECONDS, loop.time() + START_SECONDS, None
        while (error := await self._try_to_start(party, message)) is not None:
            if isinstance(error, Refused):
                raise before if before is not None and error.detail_code == SPENT else error
            if not isinstance(error, Nobody):
                before = error
            elif self._move(party):
                log.info("part.moved job=%s party=%s", self._live.record.id, party)
            if isinstance(error, TimedOut) and not self._here(party):
                raise TimedOut(f"the agent of {party} hangs, or its site is cut off", where=party, code="lost")
            if loop.time() >= (last if isinstance(error, TimedOut) else end):
                raise before or _away(party)
            await asyncio.sleep(RETRY_SECONDS)
        self._live.begun.add(party)

    async def _try_to_start(self, party: str, message: dict[str, Any]) -> DynamosError | None:
        """Ask once, and give the error that asking again may change, or that tells what became of an earlier try."""
        try:
            await self._kb.bus.request(self._subject(party, "start"), message, within=START_TRY_SECONDS)
        except (TimedOut, Unheard, Refused) as error:
            return error
        return None

    def _subject(self, party: str, what: str) -> str:
        return subject_of(party, self._live.instances.get(party, ""), what)

    def _grant(self, party: str) -> Grant:
        job, plan = self._live.record, self._live.plan
        part = plan.part(party)
        neighbours = {edge.target_party for edge in part.outgoing}
        addresses = {name: self._meeting.address(party, name) for name in neighbours if name != REQUESTOR}
        if REQUESTOR in neighbours:
            addresses[REQUESTOR] = self._live.submission.gateway
        return Grant(
            id=uuid.uuid4().hex,
            job=job.id,
            party=party,
            chain=part.digest(),
            revision=job.decision.revision,
            part=part,
            request=job.request.digest(),
            archetypes=plan.archetypes,
            compute=plan.compute,
            addresses=addresses,
            compression={
                edge.name: plan.compression[edge.name] for edge in part.outgoing if edge.name in plan.compression
            },
            expires=job.deadline or self._clock.now() + timedelta(minutes=1),
        )

    async def _end_others(self, parties: list[str], failed: PartReport) -> None:
        why = (failed.error or {}).get("message", failed.state)
        await self.stop("ended", f"part at {failed.party} {failed.state}: {why}", parties)

    async def _end_part(self, party: str, code: str, reason: str) -> None:
        message = EndPart(job=self._live.record.id, code=code, reason=reason).as_json()
        try:
            await self._kb.bus.request(self._subject(party, "end"), message, within=END_SECONDS)
        except (Unavailable, TimedOut, NotFound) as error:
            log.warning("end.unheard job=%s party=%s error=%s", self._live.record.id, party, error)
            self._live.end_part(party, State.LOST, Cancelled(f"{party} is away", code="lost"))

    def _lose(self, parties: list[str]) -> None:
        for party in parties:
            error = TimedOut(f"{party} did not report by the deadline", where=party, code="lost")
            self._live.end_part(party, State.LOST, error)


def subject_of(party: str, instance: str, what: str) -> str:
    """Give the subject of one agent of a party, or of all of them where it is not known which one."""
    return f"agent.{party}.{instance}.{what}" if instance else f"agent.{party}.{what}"


def _away(party: str) -> Unavailable:
    return Unavailable(f"no agent of {party} took its part", where=party, code="agent-away", hint=AGAIN, again=True)


async def end_many(
    kb: KnowledgeBase, place: tuple[str, str], lives: Sequence[LiveJob], reasons: Sequence[str], *, code: str
) -> None:
    """End the parts of many jobs at one agent (party and instance) with one message. Those of one that does not answer
    are lost."""
    party, instance = place
    ends = [EndPart(job=live.record.id, code=code, reason=why) for live, why in zip(lives, reasons, strict=True)]
    try:
        message = EndParts(ends=tuple(ends)).as_json()
        await kb.bus.request(subject_of(party, instance, "ends"), message, within=END_SECONDS)
    except (Unavailable, TimedOut, NotFound) as error:
        log.warning("ends.unheard jobs=%d party=%s error=%s", len(lives), party, error)
        for live in lives:
            live.end_part(party, State.LOST, Cancelled(f"{party} is away", code="lost"))


def seconds_left(deadline: datetime | None, now: datetime) -> float:
    """Give the seconds until the deadline, none if it has passed."""
    return max(0.0, (deadline - now).total_seconds()) if deadline is not None else 0.0
