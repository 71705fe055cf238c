"""Machines: what this one is, as far as it makes a difference to a figure. What cannot be read is left out."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """Give processor, cores and memory, and what a group of processes is held to."""
    told = _table(Path("/proc/cpuinfo"))
    memory = _table(Path("/proc/meminfo")).get("MemTotal", "").split()
    return _present({
        "processor": told.get("model name") or told.get("Model") or platform.processor(),
        "architecture": platform.machine(),
        "virtual": "hypervisor" in told.get("flags", "").split() if told.get("flags") else None,
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "memory_bytes": int(memory[0]) * 1024 if memory else None,
        "core_limit": _core_limit(),
        "memory_limit": _number(_first(Path("/sys/fs/cgroup/memory.max"))),
        "governor": _first(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
    })  # fmt: skip


def kernel() -> dict[str, Any]:
    """Give the operating system, its kernel, and the clock that times are read from."""
    with suppress(OSError):
        name = platform.freedesktop_os_release().get("PRETTY_NAME")
        return _kernel(name)
    return _kernel(None)


def load() -> list[float] | None:
    """Give the machine's load, averaged over 1, 5 and 15 minutes; None where it does not tell."""
    with suppress(OSError, AttributeError):
        return [round(value, 2) for value in os.getloadavg()]
    return None


def _kernel(name: str | None) -> dict[str, Any]:
    clock = time.get_clock_info("perf_counter")
    return _present({
        "system": platform.system(),
        "distribution": name,
        "release": platform.release(),
        "version": platform.version(),
        "clock_source": _first(Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")),
        "clock_seconds": clock.resolution,
    })  # fmt: skip


def _core_limit() -> float | None:
    """Give to how many cores a control group of version 2 holds us."""
    words = (_first(Path("/sys/fs/cgroup/cpu.max")) or "").split()
    quota, period = (_number(words[0]), _number(words[1])) if len(words) > 1 else (None, None)
    return quota / period if quota and period else None


def _table(path: Path) -> dict[str, str]:
    """Give the first value of each name in a file of lines like `name : value`."""
    found: dict[str, str] = {}
    with suppress(OSError):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            found.setdefault(name.strip(), value.strip())
    return found


def _first(path: Path) -> str | None:
    with suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace").strip() or None
    return None


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


def _present(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value not in (None, "")}
