"""Processes kept alive: start in order, tell when ready, restart what dies, stop in reverse order.

One thread, plain system calls. Nothing in here may start a thread or an event loop: children are forked from it.
"""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dynamos.deploy.forks import HERE, Child, Main, Place, end_group, fork
from dynamos.deploy.states import Phase, UnitStatus, born, explain, tail
from dynamos.kit.errors import DynamosError, TimedOut, Unavailable, revive

logger = logging.getLogger(__name__)

_USAGE_EXITS = range(2, 7)  # the tree in kit.errors: a person has to change something, another try changes nothing


@dataclass(frozen=True, slots=True)
class Program:
    """A child to keep alive, or with `task` one that runs once, to the end, before those that name it in `after`.

    `main` says on its descriptor that it is ready; a program that cannot say so has a `probe`, which gives its address
    once it answers. It lives at its `place`, and has the descriptors in `handed` too. `within` is how many seconds it
    may take to be ready, where that is not what everybody has.
    """

    name: str
    role: str
    main: Main
    log: Path
    after: tuple[str, ...] = ()
    task: bool = False
    probe: Callable[[], str | None] | None = None
    place: Place = HERE
    handed: tuple[int, ...] = ()
    within: float | None = None


@dataclass(frozen=True, slots=True)
class Patience:
    """How long each wait is, in seconds, and how often a start is tried before the whole is given up."""

    ready: float = 20.0
    stop: float = 5.0
    tries: int = 3
    back_off: float = 0.1
    longest_back_off: float = 10.0
    steady: float = 30.0

    def pause(self, failures: int) -> float:
        """Give the pause before the next start after so many failures in a row."""
        return float(min(self.longest_back_off, self.back_off * 2 ** min(failures - 1, 16)))


@dataclass(slots=True)
class _Entry:
    program: Program
    phase: Phase = Phase.WAITING
    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    child: Child | None = None
    born: int | None = None
    address: str = ""
    heard: bytes = b""
    been_ready: bool = False
    ready_at: float = 0.0
    due: float = 0.0
    failures: int = 0
    restarts: int = 0
    error: dict[str, Any] | None = None

    def status(self) -> UnitStatus:
        return UnitStatus(
            name=self.program.name, role=self.program.role, phase=self.phase, pid=self.child and self.child.pid,
            born=self.born, address=self.address, since=self.since, restarts=self.restarts, error=self.error,
        )  # fmt: skip


class Processes:
    """Programs, started as soon as what they come after is ready. `changed` is called after every change."""

    def __init__(
        self, programs: Iterable[Program], *, changed: Callable[[], None], patience: Patience | None = None
    ) -> None:
        self._entries = {program.name: _Entry(program) for program in programs}
        self._changed = changed
        self._patience = patience or Patience()
        self._done: set[str] = set()
        self._stopping = False
        self._wake, self._woken = os.pipe()
        for descriptor in (self._wake, self._woken):
            os.set_blocking(descriptor, False)
        self._outer_wakeup = signal.set_wakeup_fd(self._woken, warn_on_full_buffer=False)
        self._outer_child = signal.signal(signal.SIGCHLD, lambda *_: None)

    def close(self) -> None:
        """Give the signals back. Children that still run are killed."""
        for entry in self._entries.values():
            if entry.child:
                self._reap(entry, os.WEXITED, kill=True)
        signal.set_wakeup_fd(self._outer_wakeup)
        signal.signal(signal.SIGCHLD, self._outer_child)
        os.close(self._wake)
        os.close(self._woken)

    def satisfy(self, name: str) -> None:
        """Say that something outside has happened which programs name in `after`."""
        self._done.add(name)

    @property
    def statuses(self) -> tuple[UnitStatus, ...]:
        """What every program that stays does now; a task only where it failed."""
        shown = (e for e in self._entries.values() if not e.program.task or e.phase == Phase.FAILED)
        return tuple(entry.status() for entry in shown)

    @property
    def ready(self) -> bool:
        """Whether everything was ready at least once."""
        return all(entry.been_ready for entry in self._entries.values())

    @property
    def failure(self) -> DynamosError | None:
        """Why the whole cannot start, with the end of the log of the program that failed."""
        for entry in self._entries.values():
            if entry.phase == Phase.FAILED:
                return _as_error(entry)
        return None

    @property
    def running(self) -> bool:
        """Whether any child is alive."""
        return any(entry.child for entry in self._entries.values())

    def address(self, name: str) -> str:
        """Give the address that a program said, or ""."""
        return self._entries[name].address

    def step(self, *, within: float = 0.5) -> None:
        """Wait for the next thing to happen, at most `within` seconds, and act on it."""
        before = self.statuses
        self._launch()
        self._listen(min(within, self._until_due()))
        self._look()
        for entry in self._entries.values():
            self._reap(entry, os.WEXITED | os.WNOHANG)
        self._launch()
        if self.statuses != before:
            self._changed()

    def stop(self) -> None:
        """Stop everything, those that come after others first; bounded: what does not end in time is killed."""
        self._stopping = True
        depth = self._depths()
        for level in sorted(set(depth.values()), reverse=True):
            entries = [self._entries[name] for name in self._entries if depth[name] == level]
            for entry in entries:
                self._ask_to_end(entry)
            end = time.monotonic() + self._patience.stop
            while any(entry.child for entry in entries):
                late = time.monotonic() >= end
                for entry in entries:
                    if late and entry.child:
                        logger.warning("unit.killed", extra={"unit": entry.program.name, "after": self._patience.stop})
                        self._reap(entry, os.WEXITED, kill=True)
                self.step(within=max(0.0, end - time.monotonic()))
        self._changed()

    # how a program goes from one phase to the next

    def _launch(self) -> None:
        if self._stopping:
            return
        now = time.monotonic()
        for entry in self._entries.values():
            waits = entry.phase == Phase.WAITING and self._done.issuperset(entry.program.after)
            if waits or (entry.phase == Phase.RESTARTING and now >= entry.due):
                self._start(entry)

    def _start(self, entry: _Entry) -> None:
        entry.heard, entry.address = b"", ""
        program = entry.program
        try:
            entry.child = fork(
                program.main, log=program.log, name=program.name, place=program.place, handed=program.handed
            )
        except DynamosError as error:
            self._failed(entry, error)
            return
        except OSError as error:
            self._failed(entry, explain(error, program.log))
            return
        entry.born = born(entry.child.pid)
        entry.due = time.monotonic() + self._within(entry)
        self._enter(entry, Phase.STARTING)

    def _is_ready(self, entry: _Entry, address: str) -> None:
        entry.address, entry.error = address, None
        entry.been_ready, entry.ready_at = True, time.monotonic()
        self._done.add(entry.program.name)
        self._enter(entry, Phase.READY)

    def _ended(self, entry: _Entry, code: int) -> None:
        self._read(entry)
        if entry.child:
            os.close(entry.child.ready)
        entry.child = entry.born = None
        if self._stopping:
            self._enter(entry, Phase.STOPPED)
        elif entry.program.task and code == 0:
            entry.been_ready = True
            self._done.add(entry.program.name)
            self._enter(entry, Phase.STOPPED)
        else:
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            said = _said_error(entry)
            self._failed(entry, said or Unavailable(f"{entry.program.name} {how}"), usage=code in _USAGE_EXITS)

    def _failed(self, entry: _Entry, error: DynamosError, *, usage: bool = False) -> None:
        entry.error = error.as_dict()
        steady = entry.been_ready and time.monotonic() - entry.ready_at >= self._patience.steady
        entry.failures = 1 if steady else entry.failures + 1
        if not entry.been_ready and (entry.program.task or usage or entry.failures >= self._patience.tries):
            self._enter(entry, Phase.FAILED)
            return
        entry.restarts += 1
        entry.due = time.monotonic() + self._patience.pause(entry.failures)
        self._enter(entry, Phase.RESTARTING)

    def _ask_to_end(self, entry: _Entry) -> None:
        if entry.child:
            with suppress(ProcessLookupError):
                os.kill(entry.child.pid, signal.SIGTERM)
            self._enter(entry, Phase.STOPPING)
        elif entry.phase != Phase.FAILED:
            entry.phase = Phase.STOPPED

    def _enter(self, entry: _Entry, phase: Phase) -> None:
        entry.phase, entry.since = phase, datetime.now(UTC)
        if phase in (Phase.RESTARTING, Phase.FAILED):
            facts = {"unit": entry.program.name, "error": entry.error, "failures": entry.failures}
            logger.warning("unit.%s", phase, extra=facts)
        else:
            pid = entry.child.pid if entry.child else None
            facts = {"unit": entry.program.name, "pid": pid, "address": entry.address}
            logger.info("unit.%s", phase, extra=facts)

    # what the kernel and the children say

    def _listen(self, within: float) -> None:
        speaking = {e.child.ready: e for e in self._entries.values() if e.child and e.phase == Phase.STARTING}
        readable, _, _ = select.select([self._wake, *speaking], [], [], within)
        if self._wake in readable:
            with suppress(BlockingIOError):
                os.read(self._wake, 4096)
        for descriptor in readable:
            if descriptor != self._wake:
                self._read(speaking[descriptor])

    def _look(self) -> None:
        now = time.monotonic()
        for entry in self._entries.values():
            if entry.phase != Phase.STARTING:
                continue
            line, complete, _ = entry.heard.partition(b"\n")
            found = entry.program.probe() if entry.program.probe else None
            if complete and "address" in (said := json.loads(line)):
                self._is_ready(entry, said["address"])
            elif found:
                self._is_ready(entry, found)
            elif now >= entry.due:
                bound = f"{entry.program.name} was not ready within {self._within(entry):g} s"
                self._reap(entry, os.WEXITED, kill=True, error=TimedOut(bound))

    def _within(self, entry: _Entry) -> float:
        own = entry.program.within
        return self._patience.ready if own is None else own

    def _read(self, entry: _Entry) -> None:
        with suppress(BlockingIOError):
            while entry.child and (said := os.read(entry.child.ready, 65536)):
                entry.heard += said

    def _reap(self, entry: _Entry, how: int, *, kill: bool = False, error: DynamosError | None = None) -> None:
        """Take the exit of a child, and end what it left in its process group."""
        if not entry.child:
            return
        pid = entry.child.pid
        if kill:
            end_group(pid)
        found = os.waitid(os.P_PID, pid, how | os.WNOWAIT)
        if found is None:
            return
        end_group(pid)  # before the pid is given back: nobody else can have it yet
        _, status = os.waitpid(pid, 0)
        if error:
            entry.heard = json.dumps({"error": error.as_dict()}).encode() + b"\n"
        self._ended(entry, os.waitstatus_to_exitcode(status))

    def _until_due(self) -> float:
        now = time.monotonic()
        entries = self._entries.values()
        if any(e.program.probe and e.phase == Phase.STARTING for e in entries):
            return 0.01
        dues = [e.due - now for e in entries if e.phase in (Phase.STARTING, Phase.RESTARTING)]
        return max(0.0, min(dues, default=60.0))

    def _depths(self) -> Mapping[str, int]:
        depths: dict[str, int] = {}

        def depth(name: str) -> int:
            if name not in depths:
                earlier = [before for before in self._entries[name].program.after if before in self._entries]
                depths[name] = 1 + max((depth(before) for before in earlier), default=0)
            return depths[name]

        for name in self._entries:
            depth(name)
        return depths


def _said_error(entry: _Entry) -> DynamosError | None:
    """Give the error that a child said last, of the class that its code names."""
    for line in reversed(entry.heard.splitlines()):
        members = json.loads(line)
        if "error" in members:
            return revive(members["error"])
    return None


def _as_error(entry: _Entry) -> DynamosError:
    error = revive(entry.error or {})
    error.where = error.where or entry.program.name
    error.facts = {"log": tail(entry.program.log), "unit": entry.program.name, **error.facts}
    return error
