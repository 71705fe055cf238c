"""How busy a party is, as its agent sees it: its parts, and the processor time and memory of its processes."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from dynamos.knowledge.presence import Announcement
from dynamos.middleware.messages import Load

PARTS_PER_CORE = 4
"""How many parts a core takes by default: most wait for each other's streams most of the time."""
LOOK_SECONDS = 0.25
SHARP = 0.2
"""By how much a load has to change to be told at once, and not with the next heartbeat."""
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_TIMES, _RSS = slice(11, 15), 21
"""Places in /proc/PID/stat behind the name: utime, stime, cutime, cstime; rss. See proc_pid_stat(5)."""


def capacity_of(setting: int) -> int:
    """Give how many parts a party takes at once: as set, or by the cores of this machine where it is 0."""
    return setting or PARTS_PER_CORE * cores()


def cores() -> int:
    """Give how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Gauge:
    """Measures the load of one agent and all its processes. `parts` tells how many parts run.

    Processor time is a share of all cores, smoothed over about a second, so that one short step is no load.
    """

    def __init__(self, parts: Callable[[], int], capacity: int, *, root: int = 0, proc: Path = Path("/proc")) -> None:
        self._parts = parts
        self._capacity = capacity
        self._root = root or os.getpid()
        self._proc = proc
        self._cores = cores()
        self._cpu, self._memory = self._taken()
        self._at = time.monotonic()
        self._share = 0.0

    def look(self) -> Load:
        """Measure again."""
        cpu, self._memory = self._taken()
        now = time.monotonic()
        passed = max(now - self._at, 1e-3)
        share = max(0.0, cpu - self._cpu) / passed / self._cores
        weight = min(1.0, passed)
        self._share += weight * (min(share, 1.0) - self._share)
        self._cpu, self._at = cpu, now
        return self.last

    @property
    def last(self) -> Load:
        """The load as measured last, with the parts of now."""
        return Load(
            parts=self._parts(),
            capacity=self._capacity,
            cpu=round(self._share, 3),
            memory=self._memory,
            memory_share=round(memory_taken(self._proc), 3),
        )

    async def follow(self, announcement: Announcement) -> None:
        """Look often; tell at once where the load has changed much since it was told, until cancelled."""
        told = self.last.level
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            level = self.look().level
            if abs(level - told) >= SHARP:
                told = level
                with suppress(Exception):  # the next heartbeat tells it, and logs why it cannot
                    await announcement.renew()

    def _taken(self) -> tuple[float, int]:
        """Give the seconds of processor time that these processes and their ended children have taken, and the bytes
        that those which live have in memory (what they share counts for each)."""
        ticks = pages = 0
        for pid in self._tree():
            with suppress(OSError, ValueError, IndexError):
                fields = (self._proc / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
                ticks += sum(map(int, fields[_TIMES]))
                pages += int(fields[_RSS])
        return ticks / _TICKS, pages * _PAGE

    def _tree(self) -> Iterator[int]:
        """Give the process and all that descend from it."""
        rest = [self._root]
        while rest:
            pid = rest.pop()
            yield pid
            for task in self._tasks(pid):
                with suppress(OSError):
                    rest += [int(child) for child in (task / "children").read_bytes().split()]

    def _tasks(self, pid: int) -> list[Path]:
        with suppress(OSError):
            return list((self._proc / str(pid) / "task").iterdir())
        return []


def memory_taken(proc: Path = Path("/proc")) -> float:
    """Give the share of the machine's memory that is not to be had any more."""
    with suppress(OSError, ValueError, IndexError, KeyError):
        lines = (line.split() for line in (proc / "meminfo").read_text(encoding="ascii").splitlines())
        found = {words[0]: int(words[1]) for words in lines if words[0] in ("MemTotal:", "MemAvailable:")}
        return 1.0 - found["MemAvailable:"] / found["MemTotal:"]
    return 0.0
