"""The runners that fork services from a zygote: `sandbox` in namespaces, `process` where there are none."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import ClassVar, Self

from dynamos.jobs.clients import Hello, ZygoteClient
from dynamos.jobs.parts import PartAtWork, Streams
from dynamos.jobs.runners import Assignment, RunningPart
from dynamos.jobs.specs import PROGRAMS, Settings, StepReport, spec_of
from dynamos.kit.errors import Cancelled, DynamosError, Unavailable

logger = logging.getLogger(__name__)

_OVERDUE_SECONDS = 5.0
_LOST = "the zygote ended, and every service with it"


class SandboxRunner:
    """Runs every step in a process of its own, forked from a zygote, confined, and used once.

    Make it with `fork` first thing in a process's life, or with `launch` at any time. Where namespaces cannot be had
    it works as ProcessRunner does and says so: in the log, in `name`, `isolation` and `why`. With `required` it
    refuses instead. A zygote that was killed is replaced by a fresh one at the next start.
    """

    mode: ClassVar[str] = "sandbox"

    def __init__(self, client: ZygoteClient) -> None:
        self.why = ""
        self._client = client
        self._spent: list[ZygoteClient] = []
        self._attached = False
        self._greeting = threading.Lock()
        self._renewing = asyncio.Lock()
        self._numbers = itertools.count(1)
        self._parts: dict[int, PartAtWork] = {}

    @classmethod
    def fork(
        cls, party: str, *, required: bool = False, folders: tuple[str, ...] = (), programs: str = PROGRAMS
    ) -> Self:
        """Fork the zygote from this process. Raises Broken if it has more than one thread: see ZygoteClient.fork."""
        return cls(ZygoteClient.fork(Settings(party, cls.mode, required, programs, folders)))

    @classmethod
    def launch(
        cls, party: str, *, required: bool = False, folders: tuple[str, ...] = (), programs: str = PROGRAMS
    ) -> Self:
        """Start the zygote in a fresh interpreter, from a process with any number of threads."""
        return cls(ZygoteClient.start(Settings(party, cls.mode, required, programs, folders)))

    @property
    def name(self) -> str:
        """The name of what really runs the services. Waits for the zygote's first word."""
        return self._greet().mode

    @property
    def isolation(self) -> tuple[str, ...]:
        """What holds between a service and this machine, as a rehearsal found. Waits for the zygote's first word."""
        return self._greet().isolation

    async def start(self, assignment: Assignment, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> RunningPart:
        """Start every step at once. Raises Unavailable if there is no zygote; the next start makes one."""
        began = time.monotonic()
        with Streams(assignment, inputs, outputs) as streams:
            await self._renew()
            steps = {next(self._numbers): step for step in assignment.part.steps}
            deadline = began + assignment.deadline
            specs = {number: spec_of(assignment, step, deadline=deadline) for number, step in steps.items()}
            part = PartAtWork(assignment, steps, began=began, kill=self._client.kill)
            self._parts.update(dict.fromkeys(steps, part))
            try:
                for number, step in steps.items():
                    self._client.run(number, specs[number], streams.of(step))
            except DynamosError as error:
                part.end(error)
                for number in steps:
                    self._parts.pop(number, None)
                self._client.end()
                raise
        patience = assignment.deadline + _OVERDUE_SECONDS
        overdue = asyncio.get_running_loop().call_later(patience, self._end_overdue, tuple(steps))
        part.when_done(overdue.cancel)
        return part

    async def close(self) -> None:
        """End everything that runs, the zygote, and its guard."""
        for part in set(self._parts.values()):
            part.lost(Cancelled("the runner was closed"))
        self._parts.clear()
        for client in (*self._spent, self._client):
            await client.close()

    def _greet(self) -> Hello:
        """Wait for the zygote's first word, and settle for processes where it must and may be."""
        with self._greeting:
            hello = self._client.hello()
            settings = self._client.settings
            if hello.mode:
                return hello
            self.why = hello.why
            if settings.required or settings.mode != "sandbox":
                raise Unavailable(
                    f"services cannot be isolated on this machine: {hello.why}",
                    code="isolation",
                    hint="`dynamos doctor` tells what is missing; with isolation: preferred jobs run without",
                )
            logger.warning("sandbox.unavailable", extra={"party": settings.party, "why": hello.why})
            self._spent.append(self._client)
            self._client = ZygoteClient.start(replace(settings, mode="process"))
            return self._client.hello()

    async def _renew(self) -> None:
        """See to it that there is a zygote that we hear."""
        async with self._renewing:
            if self._client.lost:
                self._lost()
                logger.warning("zygote.renewed", extra={"party": self._client.settings.party})
                await self._client.close()
                self._client = ZygoteClient.start(self._client.settings)
                self._attached = False
            if not self._attached:
                await asyncio.to_thread(self._greet)
                self._client.attach(self._told, self._lost)
                self._attached = True

    def _told(self, number: int, report: StepReport) -> None:
        part = self._parts.pop(number, None)
        if part is not None:
            part.told(number, report)

    def _lost(self) -> None:
        for part in set(self._parts.values()):
            logger.error("part.lost", extra={"party": self._client.settings.party})
            part.lost(Unavailable(_LOST, code="runner-lost"))
        self._parts.clear()

    def _end_overdue(self, steps: tuple[int, ...]) -> None:
        """End a zygote that has not ended steps long after their deadline: it hangs."""
        if any(number in self._parts for number in steps):
            logger.error("zygote.hangs", extra={"party": self._client.settings.party})
            with suppress(OSError):
                self._client.end()


class ProcessRunner(SandboxRunner):
    """Runs every step in a plain process of its own, with limits: where there are no namespaces (macOS, containers)."""

    mode: ClassVar[str] = "process"
