"""The keeper of one step: the first process of its pid namespace, which ends with everything inside.

It gets its namespaces before there is work for them, so that a step starts quickly. Told what to run, it forks the
service and watches: deadline, CPU time, what is printed, the order to kill. It reports once and ends.
"""

from __future__ import annotations

import json
import os
import resource
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from dynamos.jobs import descriptors, steps, wires
from dynamos.jobs.calls import Find
from dynamos.jobs.cgroups import Group
from dynamos.jobs.confinements import Confinement
from dynamos.jobs.specs import StepReport, StepSpec

LOG_BYTES = 4096
ERROR_BYTES = 16384
_TOLD_BYTES = 4096
_CPU_CHECK_SECONDS = 0.25
_CHUNK = 65536
_PIPE_CHUNKS = 17
_LONGEST_END_SECONDS = 5.0


def keep(wire: socket.socket, *, find: Find, confinement: Confinement, group: Group | None) -> NoReturn:
    """Live as the keeper of one step, from namespaces to report."""
    try:
        descriptors.keep_only([0, 1, 2, wire.fileno(), *(group.descriptors if group else [])])
        report = _keep(wire, find, confinement, group)
        if report is not None:
            wires.send(wire, {"ended": report.as_json()})
    except BaseException as failure:  # noqa: BLE001  the top of a process: told to the zygote, which logs
        with suppress(OSError):
            lost = StepReport(why="start-failed", log=f"{type(failure).__name__}: {failure}")
            wires.send(wire, {"ended": lost.as_json()})
    finally:
        with suppress(Exception):
            end_all()
            confinement.clear()
        os._exit(0)


def _keep(wire: socket.socket, find: Find, confinement: Confinement, group: Group | None) -> StepReport | None:
    child_ended = _listen_for_children()
    holds = confinement.enter()
    order = wires.receive(wire)
    if order is None:
        return None
    spec = StepSpec.from_json(order[0]["run"])
    streams, owners = order[1][: order[0]["streams"]], order[1][order[0]["streams"] :]
    holds += confinement.furnish(spec, owners[0] if owners else -1) + (group.controls if group else ())
    pipes = [os.pipe() for _ in range(3)]
    told, error, log = (writing for _, writing in pipes)
    pid = os.fork()
    if pid == 0:
        steps.run(
            spec, streams, find=find, confinement=confinement, group=group, holds=holds,
            told=told, error=error, log=log,
        )  # fmt: skip
    wires.close_all([*streams, *owners, told, error, log])
    if group:
        group.let_go()
    reading = [read_end for read_end, _ in pipes]
    watch = _Watch(
        pid, spec, wire.fileno(), child_ended=child_ended, pipes=reading, group=group, began=confinement.lower
    )
    return watch.report()


class _Watch:
    """Watches one service until it has ended.

    `began` is called once the service has given up its powers: until then the keeper needs its own, to end it.
    """

    def __init__(
        self,
        pid: int,
        spec: StepSpec,
        wire: int,
        *,
        child_ended: int,
        pipes: Sequence[int],
        group: Group | None,
        began: Callable[[], None],
    ) -> None:
        self._pid = pid
        self._spec = spec
        self._wire = wire
        self._child_ended = child_ended
        self._group = group
        self._began = began
        self._told, self._error, self._log = pipes
        self._kept = {descriptor: bytearray() for descriptor in pipes}
        self._status: int | None = None
        self._why = ""
        self._selector = selectors.DefaultSelector()
        for descriptor in (self._wire, child_ended, *pipes):
            os.set_blocking(descriptor, descriptor == self._wire)
            self._selector.register(descriptor, selectors.EVENT_READ)

    def report(self) -> StepReport:
        """Wait for the end, end what is left, and say how it was."""
        while self._status is None and not self._why:
            for key, _ in self._selector.select(self._patience()):
                self._hear(key.fd)
            self._reap()
            self._check()
        ended = time.monotonic()
        if self._why == "killed":  # others may have to be stopped as well: before we clear up
            os.nice(steps.AFTER_KEEPERS // 2)
        self._status = end_all(self._pid).get(self._pid, self._status)
        if self._why == "killed" and self._status is not None and self._status != signal.SIGKILL:
            self._why = ""  # it was about to end by itself: that is what counts
        for descriptor in self._kept:
            self._drain(descriptor)
        return self._report(ended)

    def _patience(self) -> float:
        left = max(0.0, self._spec.deadline - time.monotonic())
        return min(left, _CPU_CHECK_SECONDS) if self._group else left

    def _hear(self, descriptor: int) -> None:
        if descriptor == self._wire:  # told to kill, or the zygote is gone
            self._why = self._why or "killed"
        elif descriptor == self._child_ended:
            with suppress(BlockingIOError):
                os.read(descriptor, _CHUNK)
        elif not self._take(descriptor):
            self._selector.unregister(descriptor)
        elif descriptor == self._told:
            self._began()

    def _take(self, descriptor: int) -> bool:
        """Read what is there: of the log the end is kept, of the rest the beginning. False at its end."""
        try:
            data = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return True
        kept = self._kept[descriptor]
        if descriptor == self._log:
            kept += data
            del kept[:-LOG_BYTES]
        else:
            room = (ERROR_BYTES if descriptor == self._error else _TOLD_BYTES) - len(kept)
            kept += data[: max(0, room)]
        return bool(data)

    def _drain(self, descriptor: int) -> None:
        """Read what is left, at most what a pipe holds, now that nobody should write more."""
        for _ in range(_PIPE_CHUNKS):
            if not self._take(descriptor):
                return

    def _reap(self) -> None:
        ended: dict[int, int] = {}
        while _reap_one(ended, os.WNOHANG):
            pass
        self._status = ended.get(self._pid, self._status)

    def _check(self) -> None:
        if self._status is not None or self._why:
            return
        if time.monotonic() >= self._spec.deadline:
            self._why = "deadline"
        elif self._group and self._group.cpu() > self._spec.cpu:
            self._why = "cpu-limit"

    def _report(self, ended: float) -> StepReport:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        told = [json.loads(line) for line in bytes(self._kept[self._told]).splitlines() if line]
        beginning: dict[str, Any] = next((message for message in told if "running" in message), {})
        failed = next((message["failed"] for message in told if "failed" in message), "")
        log = self._kept[self._log].decode("utf-8", "replace")
        return StepReport(
            status=self._status,
            why="start-failed" if failed else self._why,
            running=beginning.get("running", ended),
            ended=ended,
            cpu=used.ru_utime + used.ru_stime,
            peak=used.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
            isolation=tuple(beginning.get("isolation", ())),
            log=f"{log}{failed}",
            error=self._kept[self._error].decode("utf-8", "replace"),
        )


def end_all(first: int = 0) -> dict[int, int]:
    """Kill every process below this one and reap them; give pid -> status. `first` is the service, 0 for none."""
    ended: dict[int, int] = {}
    if os.getpid() == 1:  # of a pid namespace: everybody in it but us
        with suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        while _reap_one(ended, 0):
            pass
        return ended
    end = time.monotonic() + _LONGEST_END_SECONDS
    below = {first} - {0}
    while below and time.monotonic() < end:
        for pid in below:
            for kill in (os.killpg, os.kill):
                with suppress(ProcessLookupError, PermissionError):
                    kill(pid, signal.SIGKILL)
        while _reap_one(ended, os.WNOHANG):
            pass
        below = _children()
    return ended


def _reap_one(ended: dict[int, int], options: int) -> bool:
    """Note one child that has ended. False: there is none (left, or yet)."""
    try:
        pid, status = os.waitpid(-1, options)
    except ChildProcessError:
        return False
    if pid:
        ended[pid] = status
    return pid != 0


def _children() -> set[int]:
    """Give the children of this process, orphans of its children among them (Linux; elsewhere nobody can tell)."""
    try:
        return {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}
    except OSError:
        return set()


def _listen_for_children() -> int:
    """Give a descriptor that becomes readable when a child ends."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    return reading
