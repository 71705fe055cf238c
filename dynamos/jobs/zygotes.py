"""The zygote: a process with one thread that has imported what services use, and forks a keeper for each step.

A few keepers with their namespaces wait for work. Each step takes one, which is never used again; new ones are made
when nothing runs. Above the zygote stands its guard.
"""

from __future__ import annotations

import gc
import importlib
import json
import logging
import os
import resource
import select
import selectors
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dynamos.jobs import keepers, linux, roots, wires
from dynamos.jobs.cgroups import Group, Groups
from dynamos.jobs.confinements import Confinement, Namespaces, Plain
from dynamos.jobs.owners import Owners
from dynamos.jobs.specs import Settings, StepReport, StepSpec

logger = logging.getLogger(__name__)

ONE_THREAD = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",  # pyarrow's own jemalloc
}
"""Libraries that would start threads when they are imported read these first."""

_BACKSTOP_SECONDS = 1.0
_REHEARSAL_SECONDS = 10.0
_REST_SECONDS = 1.0
_LEAVING_SECONDS = 0.02
_MOST_ORDERS = 4096
_OWN_FILES, _FILES_OF_AN_ORDER = 512, 8


@dataclass(slots=True, eq=False)
class _Kept:
    """A keeper, from its zygote's side."""

    pid: int
    wire: socket.socket
    group: Group | None
    step: int = 0
    deadline: float = float("inf")


class Zygote:
    """Serves one agent over `wire`: `run` starts a step, `kill` ends it, the end of the wire ends everything."""

    def __init__(self, settings: Settings, wire: socket.socket, groups: Groups | None, *, user: int) -> None:
        self._settings = settings
        self._wire = wire
        self._groups = groups
        self._user = user
        self._owners = Owners(user)
        self._shown: dict[str, str] = {}
        self._spare: list[_Kept] = []
        self._busy: dict[int, _Kept] = {}
        self._outbox = wires.Outbox(wire)
        self._leaving: list[Group] = []
        self._count = 0
        self._rest_until = 0.0
        self._close_again = 0.0
        self._asked = select.poll()
        self._orders: dict[int, tuple[dict[str, Any], list[int]]] = {}
        self._most_orders = _most_orders()
        self._selector = selectors.DefaultSelector()

    def prepare(self) -> tuple[str, ...]:
        """Import what services use, build their root, rehearse one step, and give what held. Raises what does not."""
        os.environ.update(ONE_THREAD)
        programs = importlib.import_module(self._settings.programs)
        programs.preload()
        self._find = programs.find
        if (threads := count_threads()) > 1:
            raise RuntimeError(f"importing the services started {threads - 1} threads; forking needs there to be none")
        if sys.platform == "linux":
            linux.wipe_environment()
        if self._settings.mode == "sandbox":
            self._shown = roots.needed(self._settings.folders)
            linux.unshare(linux.NEW_MOUNT)
            roots.build(self._shown)
            if self._groups:
                self._groups.host = roots.HOST
            self._pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        gc.collect()
        gc.disable()
        gc.freeze()
        isolation = self._rehearse()
        while len(self._spare) < self._settings.spare:
            self._spare.append(self._fork())
        return isolation

    def serve(self) -> None:
        """Work until the agent closes its end."""
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        os.set_blocking(writing, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        self._selector.register(reading, selectors.EVENT_READ, "children")
        self._selector.register(self._wire, selectors.EVENT_READ, "agent")
        self._asked.register(self._wire, select.POLLIN)
        while True:
            events = self._selector.select(self._patience())
            for key, event in sorted(events, key=lambda each: each[0].data != "agent"):
                if key.data == "agent":
                    if event & selectors.EVENT_WRITE:
                        self._flush()
                    if event & selectors.EVENT_READ and not self._obey():
                        return
                elif key.data == "children":
                    os.read(reading, 4096)
                else:
                    self._hear(key.data)
            self._begin()
            _reap()
            self._end_late()
            self._close_groups()
            if not events and not self._orders and self._wants_spare():
                self._make_spare()

    def _close_groups(self) -> None:
        """Remove groups that the kernel may be done with; not each time that something happens, if there are many."""
        if self._leaving and (now := time.monotonic()) >= self._close_again:
            self._leaving = [group for group in self._leaving if not group.close()]
            self._close_again = now + _LEAVING_SECONDS + (time.monotonic() - now)

    def _wants_spare(self) -> bool:
        return len(self._spare) < self._settings.spare and time.monotonic() >= self._rest_until

    def _make_spare(self) -> None:
        """Make the next keeper ready. A machine that has no room for it gets a rest."""
        try:
            self._spare.append(self._fork())
        except OSError as error:
            self._rest("keeper.refused", str(error))

    def _rest(self, event: str, why: str) -> None:
        logger.warning(event, extra={"party": self._settings.party, "why": why})
        self._rest_until = time.monotonic() + _REST_SECONDS

    def _patience(self) -> float | None:
        if self._orders or (not self._busy and self._wants_spare()):
            return 0.0
        if self._leaving:
            return _LEAVING_SECONDS
        if len(self._spare) < self._settings.spare:
            return _REST_SECONDS
        nearest = min((kept.deadline for kept in self._busy.values()), default=float("inf"))
        return None if nearest == float("inf") else max(0.0, nearest - time.monotonic())

    # what the agent asks for

    def _obey(self) -> bool:
        """Hear what the agent asks for. What is to be stopped is stopped before anything else is begun or worked on:
        there may be hundreds of both. False: the agent is gone."""
        while True:
            received = wires.receive(self._wire)
            if received is None:
                return False
            message, streams = received
            if "kill" in message:
                self._kill(message["kill"])
            else:
                self._orders[message["step"]] = message["run"], streams
            if len(self._orders) >= self._most_orders or not self._asked.poll(0):
                return True

    def _begin(self) -> None:
        """Begin the oldest step that is asked for."""
        if self._orders:
            step = next(iter(self._orders))
            self._run(step, *self._orders.pop(step))

    def _run(self, step: int, run: dict[str, Any], streams: list[int]) -> None:
        spec = StepSpec.from_json(run)
        kept = None
        try:
            kept = self._spare.pop() if self._spare else self._fork()
            kept.step, kept.deadline = step, spec.deadline + _BACKSTOP_SECONDS
            if kept.group:
                kept.group.limit(spec)
            owners = self._owners.of(spec.data) if spec.data and self._settings.mode == "sandbox" else []
            self._busy[step] = kept
            wires.send(kept.wire, {"run": run, "streams": len(streams)}, [*streams, *owners])
        except OSError as error:
            if kept is not None:  # it ends when its wire does
                self._busy.pop(step, None)
                self._leave(kept)
            self._tell(step, StepReport(why="start-failed", ended=time.monotonic(), log=str(error)))
        finally:
            wires.close_all(streams)

    def _kill(self, step: int) -> None:
        if (order := self._orders.pop(step, None)) is not None:  # not begun, and never will be
            wires.close_all(order[1])
            now = time.monotonic()
            self._tell(step, StepReport(why="killed", running=now, ended=now))
        elif (kept := self._busy.get(step)) is not None:
            with suppress(OSError):
                wires.send(kept.wire, {"kill": True})

    def _end_late(self) -> None:
        """End keepers that should have ended their service themselves, if a service found a way to hold them up."""
        now = time.monotonic()
        for kept in self._busy.values():
            if now > kept.deadline:
                logger.warning("keeper.late", extra={"step": kept.step})
                with suppress(ProcessLookupError):
                    os.kill(kept.pid, signal.SIGKILL)
                kept.deadline = float("inf")

    # what keepers say

    def _hear(self, kept: _Kept) -> None:
        received = wires.receive(kept.wire)
        if kept in self._spare:  # it could not get its namespaces, or was killed
            self._spare.remove(kept)
            self._rest("keeper.lost", json.dumps(received[0]) if received else "")
        elif self._busy.pop(kept.step, None):
            report = StepReport.from_json(received[0]["ended"]) if received else StepReport(why="lost")
            self._tell(kept.step, _with_group(report, kept.group))
        self._leave(kept)

    def _leave(self, kept: _Kept) -> None:
        """Part with a keeper that is done. Its group goes as soon as the kernel has let its last process go."""
        self._selector.unregister(kept.wire)
        kept.wire.close()
        if kept.group and not kept.group.close():
            self._leaving.append(kept.group)

    def _tell(self, step: int, report: StepReport) -> None:
        with suppress(OSError):  # the end of the wire is seen elsewhere
            self._outbox.put({"step": step, "ended": report.as_json()})
        self._flush()

    def _flush(self) -> None:
        """Send what goes at once, and the rest when the agent reads."""
        with suppress(OSError):
            self._outbox.flush()
            interest = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._outbox else 0)
            self._selector.modify(self._wire, interest, "agent")

    # keepers

    def _fork(self) -> _Kept:
        """Fork a keeper, the first process of a fresh pid namespace, with a group of its own."""
        self._count += 1
        group = self._groups.group(f"step{self._count}") if self._groups else None
        ours, theirs = wires.pair()
        try:
            pid = self._fork_into_namespace()
            if pid == 0:
                sandbox = self._settings.mode == "sandbox"
                confinement: Confinement = Namespaces(self._user, self._shown) if sandbox else Plain()
                keepers.keep(theirs, find=self._find, confinement=confinement, group=group)
        except OSError:
            ours.close()
            if group:
                group.let_go()
                group.close()
            raise
        finally:
            theirs.close()
        if group:
            group.let_go()
        kept = _Kept(pid, ours, group)
        self._selector.register(ours, selectors.EVENT_READ, kept)
        return kept

    def _fork_into_namespace(self) -> int:
        """Fork a child that is the first process of a fresh pid namespace, if there are any."""
        if self._settings.mode != "sandbox":
            return os.fork()
        linux.unshare(linux.NEW_PID)
        try:
            pid = os.fork()
        except OSError:
            linux.setns(self._pid_namespace, linux.NEW_PID)
            raise
        if pid:
            linux.setns(self._pid_namespace, linux.NEW_PID)  # whatever else is forked belongs where we are
        return pid

    def _rehearse(self) -> tuple[str, ...]:
        """Take an empty step through the whole confinement and give what held. Raises OSError if it failed."""
        kept = self._fork()
        spec = StepSpec(deadline=time.monotonic() + _REHEARSAL_SECONDS)
        if kept.group:
            kept.group.limit(spec)
        wires.send(kept.wire, {"run": spec.as_json(), "streams": 0})
        received = wires.receive(kept.wire)
        os.waitpid(kept.pid, 0)
        report = StepReport.from_json(received[0]["ended"]) if received else StepReport(why="lost")
        self._leave(kept)
        if report.status != 0:
            ended = f"{report.why or report.status} {report.log}".strip()
            raise OSError(f"a rehearsal of the confinement ended with {ended}")
        return report.isolation


def _with_group(report: StepReport, group: Group | None) -> StepReport:
    """Add what the control group knows: CPU of all processes, memory without what the zygote shares, lack of memory."""
    if group is None:
        return report
    peak, starved = group.memory()
    why = "out-of-memory" if starved and report.why in ("", "lost") and report.status != 0 else report.why
    lower = min(report.peak, peak) if peak and report.peak else peak or report.peak
    return replace(report, why=why, cpu=max(report.cpu, group.cpu()), peak=lower)


def count_threads() -> int:
    """Give the number of threads of this process, those that Python does not know of among them (on Linux)."""
    try:
        return len(list(Path("/proc/self/task").iterdir()))
    except OSError:
        return threading.active_count()


def _most_orders() -> int:
    """Give how many steps may be heard of before they are begun: each has descriptors."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, min(_MOST_ORDERS, (files - _OWN_FILES) // _FILES_OF_AN_ORDER))


def _reap() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
