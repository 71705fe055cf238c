"""Usage: what the processes of a local testbed used between two moments, as the kernel counts it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from dynamos.deploy.states import StateFolder, born
from dynamos.experiments.records import Usage

_TICKS = os.sysconf("SC_CLK_TCK")


class Reading(NamedTuple):
    """CPU in seconds, with that of children that ended; the peak of memory in bytes."""

    born: int | None
    cpu: float
    peak: int


def read(folder: StateFolder) -> dict[str, Reading]:
    """Give what every unit has used so far, by name. Nothing where there is no /proc."""
    status = folder.read_status()
    found = {unit.name: _read(unit.pid) for unit in (status.units if status else ()) if unit.pid}
    return {name: reading for name, reading in found.items() if reading}


def between(before: Mapping[str, Reading], after: Mapping[str, Reading]) -> tuple[Usage, ...]:
    """Give what each used; of one that was started anew, what it has used since then."""
    found = []
    for name, reading in after.items():
        old = before.get(name)
        used = reading.cpu - old.cpu if old and old.born == reading.born else reading.cpu
        found.append(Usage(process=name, cpu=round(used, 4), peak=reading.peak))
    return tuple(found)


def _read(pid: int) -> Reading | None:
    with suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        peak = next((line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")), "0")
        return Reading(born(pid), sum(map(int, fields[11:15])) / _TICKS, int(peak) * 1024)
    return None
