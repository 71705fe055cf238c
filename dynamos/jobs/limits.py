"""Resource limits that every process can be held to, with or without cgroups."""

from __future__ import annotations

import math
import resource
import sys
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from dynamos.jobs.specs import StepSpec

_OPEN_FILES = 1024


def apply(spec: StepSpec, *, own_user: bool, together: Collection[str]) -> tuple[str, ...]:
    """Hold this process and its children to the limits of `spec`; give the names of those that hold.

    `own_user`: nobody else is counted with this user, so that the number of processes can be limited.
    `together`: what a control group limits for all processes of the step; the rest is limited for each of them.
    """
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, _OPEN_FILES)
    _limit(resource.RLIMIT_FSIZE, spec.scratch)
    seconds = max(1, math.ceil(spec.cpu))
    _limit(resource.RLIMIT_CPU, seconds, seconds + 1)
    if own_user:
        _limit(resource.RLIMIT_NPROC, spec.processes)
    if "memory" not in together:
        _limit(resource.RLIMIT_DATA, _data_bytes() + spec.memory)
    of_each = [f"{name}-of-each" for name in ("memory", "cpu") if name not in together]
    return (*(("processes",) if own_user else ()), *of_each)


def _limit(kind: int, soft: int, hard: int | None = None) -> None:
    ceiling = resource.getrlimit(kind)[1]
    wanted = soft if hard is None else hard
    if ceiling != resource.RLIM_INFINITY:
        soft, wanted = min(soft, ceiling), min(wanted, ceiling)
    with suppress(OSError, ValueError):  # macOS has names of limits that it does not let anybody set
        resource.setrlimit(kind, (soft, wanted))


def _data_bytes() -> int:
    """Give what the preloaded interpreter has for data already, which a service must not be charged for."""
    if sys.platform != "linux":
        return 0
    pages = int(Path("/proc/self/statm").read_text().split()[5])
    return pages * resource.getpagesize()
