"""The runner for tests of other things: services are threads of this process, kept apart from nothing."""

from __future__ import annotations

import asyncio
import fcntl
import importlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from dynamos.jobs.calls import Find, call
from dynamos.jobs.parts import PartAtWork, Streams
from dynamos.jobs.runners import Assignment, RunningPart
from dynamos.jobs.specs import PROGRAMS, StepReport, environment, incoming, job_of, outgoing
from dynamos.jobs.wires import close_all
from dynamos.kit.errors import Cancelled, DynamosError
from dynamos.model.plans import Step

_LOG_BYTES = 4096
_OUT_OF_THE_WAY = 200
_GRACE_SECONDS = 0.1


class InlineRunner:
    """Runs every step in a thread of this process: quick to start, easy to debug.

    A thread cannot be ended from outside: one that is killed or late is left behind, and the part goes on without it.
    """

    name = "inline"
    isolation: tuple[str, ...] = ("none",)

    def __init__(self, programs: str = PROGRAMS) -> None:
        self._find: Find = importlib.import_module(programs).find
        self._parts: set[PartAtWork] = set()

    async def start(self, assignment: Assignment, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> RunningPart:
        """Start every step at once."""
        loop = asyncio.get_running_loop()
        began = time.monotonic()
        steps = dict(enumerate(assignment.part.steps, 1))
        with Streams(assignment, inputs, outputs) as streams:
            # a thread that is about to end by itself gets the time for it
            part = PartAtWork(
                assignment,
                steps,
                began=began,
                kill=lambda n: loop.call_later(_GRACE_SECONDS, _leave, part, n, "killed"),
            )
            works = {n: _Work(assignment, step, streams.of(step), self._find) for n, step in steps.items()}
        for number, work in works.items():
            thread = threading.Thread(target=_run, args=(work, loop, part, number), name=work.step.id, daemon=True)
            thread.start()
        late = loop.call_later(assignment.deadline, _leave_all, part, steps)
        self._parts.add(part)
        part.when_done(late.cancel)
        part.when_done(lambda: self._parts.discard(part))
        return part

    async def close(self) -> None:
        """Give up what still runs."""
        for part in list(self._parts):
            part.lost(Cancelled("the runner was closed"))


class _Work:
    """One step, on its own copies of its descriptors."""

    def __init__(self, assignment: Assignment, step: Step, descriptors: list[int], find: Find) -> None:
        self.step = step
        self._command = assignment.services[step.service].command
        self._find = find
        self._said, self._error = os.pipe()
        own = [*(os.dup(descriptor) for descriptor in descriptors), self._error]
        self._known = {descriptor: _identity(descriptor) for descriptor in own}
        self._reads = [edge.name for edge in incoming(assignment, step)]
        self._writes = [edge.name for edge in outgoing(assignment, step)]
        self._job = json.dumps(job_of(assignment, step))
        self._data = str(assignment.data.get(step.id, ""))

    def _variables(self, places: Mapping[int, int]) -> dict[str, str]:
        """Give the environment of the contract, with descriptors as `places` has them."""
        numbers = list(places.values())
        inputs = dict(zip(self._reads, numbers, strict=False))
        outputs = dict(zip(self._writes, numbers[len(self._reads) :], strict=False))
        return environment(self._job, inputs, outputs, numbers[-1], data=self._data)

    def run(self) -> StepReport:
        """Run the step to its end."""
        running = time.monotonic()
        log = why = ""
        code = 0
        try:
            if self._command:
                code, log = self._execute()
            else:
                code = call(self._find(self.step.service), self._variables({fd: fd for fd in self._known}))
        except (DynamosError, LookupError, OSError) as failure:
            why, log = "start-failed", str(failure)
        for descriptor, identity in self._known.items():
            with suppress(OSError):  # only what the service left open: a number may be somebody else's by now
                if _identity(descriptor) == identity:
                    os.close(descriptor)
        with os.fdopen(self._said, encoding="utf-8", errors="replace") as file:
            error = file.read()
        status = -code if code < 0 else code << 8
        return StepReport(
            status=status, why=why, running=running, ended=time.monotonic(), isolation=("none",), log=log, error=error
        )

    def _execute(self) -> tuple[int, str]:
        """Run a program on descriptors from 3 on, as it would have them elsewhere: a shell knows but one digit."""
        reading, writing = os.pipe()
        moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _OUT_OF_THE_WAY) for descriptor in self._known]
        places = dict(zip(self._known, range(3, 3 + len(moved)), strict=True))
        actions: list[tuple[Any, ...]] = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, writing, 1),
            (os.POSIX_SPAWN_DUP2, writing, 2),
            *((os.POSIX_SPAWN_DUP2, fd, place) for fd, place in zip(moved, places.values(), strict=True)),
        ]
        variables = {"PATH": f"{sys.prefix}/bin:{os.defpath}", "LANG": "C.UTF-8", **self._variables(places)}
        try:
            pid = os.posix_spawnp(self._command[0], self._command, variables, file_actions=actions)
        finally:
            close_all([*moved, writing])
        with os.fdopen(reading, "rb") as file:
            log = file.read()[-_LOG_BYTES:].decode("utf-8", "replace")
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), log


def _run(work: _Work, loop: asyncio.AbstractEventLoop, part: PartAtWork, number: int) -> None:
    report = work.run()
    with suppress(RuntimeError):  # the loop has ended: nobody waits any more
        loop.call_soon_threadsafe(part.told, number, report)


def _leave_all(part: PartAtWork, steps: Iterable[int]) -> None:
    for number in steps:
        _leave(part, number, "deadline")


def _leave(part: PartAtWork, number: int, why: str) -> None:
    now = time.monotonic()
    part.told(number, StepReport(why=why, running=now, ended=now, isolation=("none",)))


def _identity(descriptor: int) -> tuple[int, int]:
    facts = os.fstat(descriptor)
    return facts.st_dev, facts.st_ino
