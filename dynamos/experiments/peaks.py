"""Peaks: the most memory that each process of a local testbed needed within a while, and that a job's services did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from dynamos.experiments import usage
from dynamos.experiments.answers import Answer
from dynamos.experiments.beds import Bed

MIB = 1 << 20
_FORGET_PEAK = "5"
"""What makes the kernel count a process's peak anew from what it has now: see proc_pid_clear_refs(5)."""


@contextmanager
def watched(bed: Bed) -> Iterator[dict[str, float]]:
    """Give a mapping that holds, at the end, the peak of resident memory of each unit since now, in MiB by name.

    Empty where this machine runs no testbed or has no /proc.
    """
    found: dict[str, float] = {}
    if bed.state is None:
        yield found
        return
    for unit in bed.status().units:
        with suppress(OSError):
            Path(f"/proc/{unit.pid}/clear_refs").write_text(_FORGET_PEAK, encoding="ascii")
    try:
        yield found
    finally:
        found |= {name: reading.peak / MIB for name, reading in usage.read(bed.state).items()}


def of_services(answer: Answer) -> Mapping[str, float]:
    """Give the peak of every service of a job in MiB by party/service, as their runners measured it."""
    parts = answer.job.get("parts", {})
    return {
        f"{party}/{each['service']}": each["peakBytes"] / MIB
        for party, part in parts.items()
        for each in part.get("usages", ())
        if each.get("peakBytes")
    }
