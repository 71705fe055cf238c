"""How much memory each process of a testbed has needed at most."""

from __future__ import annotations

from pathlib import Path

MIB = 2**20


def descendants(pid: int) -> list[int]:
    """Give the process and everything under it that lives now."""
    found, at = [pid], 0
    while at < len(found):
        for task in Path(f"/proc/{found[at]}/task").glob("*/children"):
            found += [int(child) for child in task.read_text().split()]
        at += 1
    return found


def peak(pid: int) -> int:
    """Give the most resident memory that a process has had so far, in bytes; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def of_units(units: list[dict[str, object]]) -> dict[str, int]:
    """Give the peak of every unit of a testbed's status, in bytes, the processes under it apart from it."""
    return {str(unit["name"]): peak(int(str(unit["pid"]))) for unit in units if unit.get("pid")}
