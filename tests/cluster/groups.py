"""Control groups of a cluster's machines: one below whatever the caller is in, of each controller of version 1.

Only the standard library: the first process of every machine imports this.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

TOP = Path("/sys/fs/cgroup")
PREFIX = "dynamos-cluster-"
NEEDED = ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "systemd")
"""Controllers of which a kubelet makes groups; `systemd` is a hierarchy without one, which runc looks for."""


def missing() -> list[str]:
    """Give the controllers that this machine has no hierarchy of version 1 for."""
    return [name for name in NEEDED if not (TOP / name / "cgroup.procs").exists()]


def parents() -> dict[str, str]:
    """Give, by controller, the group that this process is in, as a path."""
    found = {}
    for line in Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines():
        _, names, path = line.split(":", 2)
        for name in names.removeprefix("name=").split(","):
            if name in NEEDED:
                found[name] = str(TOP / name / path.lstrip("/"))
    return found


def join(name: str, below: Mapping[str, str]) -> None:
    """Put this process into the group `name` of every controller, below these, and make it first."""
    for controller, parent in below.items():
        group = Path(parent)
        for part in name.split("/"):
            group /= part
            with suppress(FileExistsError):
                group.mkdir()
            if controller == "cpuset":  # empty in a new group, which then takes no process
                for file in ("cpuset.cpus", "cpuset.mems"):
                    (group / file).write_text((group.parent / file).read_text())
        (group / "cgroup.procs").write_text("0")


def left(name: str, below: Mapping[str, str]) -> list[Path]:
    """Give the groups of that name that are still there."""
    return [Path(parent, name) for parent in below.values() if Path(parent, name).is_dir()]


def remove(name: str, below: Mapping[str, str], *, within: float = 10.0) -> None:
    """Remove the groups of that name with all that is below them. The processes in them have been killed; some may
    take a moment. Raises OSError where they are still there after `within` seconds."""
    end = time.monotonic() + within
    for group in left(name, below):
        while True:
            try:
                for path in _deepest_first(group):
                    path.rmdir()
                break
            except OSError:
                if time.monotonic() >= end:
                    raise
                time.sleep(0.02)


def _deepest_first(group: Path) -> Iterator[Path]:
    for folder, _, _ in os.walk(group, topdown=False):
        yield Path(folder)
