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


def adopt() -> None:
    """Become the parent of whatever a child of ours leaves behind."""
    if sys.platform == "linux":
        linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)


def end_with_parent() -> None:
    """End when whoever started us ends, however it does."""
    if sys.platform == "linux":
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)


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
    while (
        new := {pid: since for pid, since in of(os.getpid()).items() if pid not in known}
    ) and time.monotonic() < end:
        time.sleep(_LOOK_SECONDS)
    names = [_name(pid) for pid in new]
    kill(new, within=within)
    return names


def kill(processes: dict[int, int], *, within: float) -> None:
    """Kill these processes, and wait until they are gone."""
    for pid, since in processes.items():
        if born(pid) == since:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + within
    while any(born(pid) == since for pid, since in processes.items()) and time.monotonic() < end:
        time.sleep(_LOOK_SECONDS)
    for pid in processes:
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
    except OSError:
        return str(pid)
