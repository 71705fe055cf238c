"""Descendants: the processes that a trial started, so that none of them stays."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from dynamos.deploy.states import born
from dynamos.jobs import linux

_LOOK_SECONDS = 0.02
_END_SECONDS = 3.0


def guarded() -> None:
    """Go on in a child of this process, which stays as its guard: when the child ends, or whoever started us does,
    however that is, or SIGTERM comes, the guard ends whatever is left below it and then itself."""
    starter = os.getppid()
    adopt()
    _end_with_parent(signal.SIGTERM)
    watched = {signal.SIGTERM, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    child = os.fork()
    if not child:
        adopt()
        _end_with_parent(signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, watched)
        return
    code = 0
    while os.getppid() == starter and signal.sigwait(watched) == signal.SIGCHLD:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            break
        _reap(child)
    kill_all(within=_END_SECONDS)
    os._exit(code if code >= 0 else 128 - code)


def adopt() -> None:
    """Become the parent of whatever a child of ours leaves behind."""
    if sys.platform == "linux":
        linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)


def of(pid: int) -> dict[int, int]:
    """Give every descendant of a process that runs: its pid and when it was born. Nothing without /proc."""
    found: dict[int, int] = {}
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, path.read_text(encoding="ascii").split()):
                if since := born(child):
                    found[child] = since
                found |= of(child)
    return found


def end_new(before: Iterable[int], *, within: float) -> list[str]:
    """End the descendants of this process that were not there before, and give their names.

    Those that end by themselves at once are none.
    """
    known = set(before)
    end = time.monotonic() + within / 4
    while (new := _others(known)) and time.monotonic() < end:
        time.sleep(_LOOK_SECONDS)
    names = [_name(pid) for pid in new]
    kill_all(but=known, within=within)
    return names


def kill_all(*, but: Iterable[int] = (), within: float) -> None:
    """Kill the descendants of this process, and wait until they are gone, with those that they start meanwhile."""
    known = set(but)
    end = time.monotonic() + within
    while (left := _others(known)) and time.monotonic() < end:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_LOOK_SECONDS)
        for pid in left:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _others(known: set[int]) -> dict[int, int]:
    return {pid: since for pid, since in of(os.getpid()).items() if pid not in known}


def _reap(but: int) -> None:
    """Take children that have ended, but not that one."""
    with suppress(OSError):
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii")
        for pid in map(int, children.split()):
            if pid != but:
                os.waitpid(pid, os.WNOHANG)


def _end_with_parent(number: int) -> None:
    """Have a signal sent to this process when whoever started it ends, however it does."""
    if sys.platform == "linux":
        linux.prctl(linux.PR_SET_PDEATHSIG, number)


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
    except OSError:
        return str(pid)
