"""Knowledge: the log of adaptation, and what planners have learned, in the knowledge base. No request waits for it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import suppress
from typing import Any

from dynamos.adaptation.decisions import Record
from dynamos.kit.errors import DynamosError
from dynamos.knowledge.bases import ADAPTATION, KnowledgeBase
from dynamos.knowledge.permissions import ORCHESTRATOR

log = logging.getLogger(__name__)
QUEUED = 4096
CLOSE_SECONDS = 3.0
LOAD_SECONDS = 5.0
PLANNER = "planner"
"""The first token of the keys of what planners have learned."""
NO_JOB = "-"
"""The last token of the subject of a record that is about no job."""

Memory = dict[str, Any]


class Knowledge:
    """Writes records in order, and keeps what was learned. `dropped` counts records that were not kept."""

    def __init__(self, kb: KnowledgeBase, *, queued: int = QUEUED) -> None:
        self._kb = kb
        self._limit = queued
        self._queue: deque[Record] = deque()
        self._waiting = asyncio.Event()
        self.dropped = 0

    def write(self, record: Record) -> None:
        """Have a record written down soon."""
        if len(self._queue) >= self._limit:
            self.dropped += 1
            log.warning("adaptation.dropped records=%d", self.dropped)
            return
        self._queue.append(record)
        self._waiting.set()

    async def follow(self) -> None:
        """Write what is to be written, until cancelled."""
        while True:
            await self._waiting.wait()
            self._waiting.clear()
            await self._write_all()

    async def save(self, memory: Memory) -> bool:
        """Save what a planner has learned, under its name; tell whether that worked."""
        try:
            await self._kb.store(ADAPTATION).put(f"{PLANNER}.{memory['planner']}", memory)
        except DynamosError as error:
            log.warning("adaptation.unsaved planner=%s error=%s", memory["planner"], error)
            return False
        return True

    async def load(self) -> dict[str, Memory]:
        """Give what each planner had learned in an earlier life; nothing where that cannot be had."""
        try:
            async with asyncio.timeout(LOAD_SECONDS):
                entries = await self._kb.store(ADAPTATION).entries(PLANNER)
        except (DynamosError, TimeoutError) as error:
            log.warning("adaptation.unread error=%s", error)
            return {}
        return {entry.key.partition(".")[2]: entry.value for entry in entries if entry.value}

    async def close(self, memory: Memory | None) -> None:
        """Write and save what is left, within a bound."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._write_all()
                if memory is not None:
                    await self.save(memory)
        if self._queue:
            log.warning("adaptation.unwritten records=%d", len(self._queue))

    async def _write_all(self) -> None:
        while self._queue:
            record = self._queue[0]
            subject = f"{ORCHESTRATOR}.{getattr(record, 'job', NO_JOB)}"
            try:
                await self._kb.log(ADAPTATION).append(subject, record.as_json())
            except DynamosError as error:
                self.dropped += 1
                log.warning("adaptation.dropped records=%d error=%s", self.dropped, error)
            self._queue.popleft()
