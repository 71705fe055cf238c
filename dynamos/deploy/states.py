"""The state folder of a testbed: where everything lies, who holds it, and what its supervisor last said."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dynamos.kit.errors import BadInput, Broken, DynamosError, Full, NotFound, Unavailable
from dynamos.model.values import Name, Value

PRIVATE = 0o700
WORLD = "world"


class Phase(StrEnum):
    """Where a unit, or the testbed as a whole, is in its life."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


class UnitStatus(Value):
    """One unit as its supervisor sees it. `born` is the kernel's start time of the process: with it a pid is sure."""

    name: str
    role: str
    phase: Phase
    pid: int | None = None
    born: int | None = None
    address: str = ""
    since: datetime
    restarts: int = 0
    error: dict[str, Any] | None = None


class TestbedStatus(Value):
    """What the supervisor of one testbed says of itself and its units, written at every change."""

    __test__ = False

    testbed: Name
    marketplace: Name
    profile: str
    phase: Phase
    supervisor: int
    born: int | None = None
    started: datetime
    ready_seconds: float | None = None
    api: str = ""
    open: bool = False
    units: tuple[UnitStatus, ...] = ()
    error: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class StateFolder:
    """The paths of one testbed's state."""

    root: Path

    @property
    def status(self) -> Path:
        return self.root / "status.json"

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def log(self) -> Path:
        return self.root / "supervisor.log"

    @property
    def authority(self) -> Path:
        return self.root / "authority"

    @property
    def issuer(self) -> Path:
        return self.root / "issuer"

    @property
    def reach(self) -> Path:
        """Where it is written how the API is reached of a testbed that is on a cluster."""
        return self.root / "cluster.json"

    @property
    def world(self) -> Path:
        """Where the testbed's world has its files, if it has one."""
        return self.root / WORLD

    def unit(self, name: str) -> Path:
        """Give the folder of one unit; nothing of another unit is in it."""
        return self.root / "units" / name

    def unit_log(self, name: str) -> Path:
        return self.unit(name) / "log.jsonl"

    def make(self) -> None:
        """Make the folder, for its owner only. Raises BadInput where that cannot be, Full where there is no room."""
        with explained(self.root):
            private_folder(self.root)
            private_folder(self.root / "units")

    @contextmanager
    def held(self, *, within: float = 0.2) -> Iterator[bool]:
        """Hold the testbed for this process alone, and tell whether that worked.

        The kernel lets go when the process ends, however it ends. A look at the lock by `is_held` lasts microseconds,
        so a short wait tells it from another supervisor.
        """
        with explained(self.lock):
            descriptor = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            end = time.monotonic() + within
            while not (mine := _try_lock(descriptor, fcntl.LOCK_EX)) and time.monotonic() < end:
                time.sleep(0.01)
            yield mine
        finally:
            os.close(descriptor)

    def is_held(self) -> bool:
        """Tell whether a supervisor holds the testbed now."""
        try:
            with explained(self.lock):
                descriptor = os.open(self.lock, os.O_RDONLY | os.O_CLOEXEC)
        except NotFound:
            return False
        try:
            return not _try_lock(descriptor, fcntl.LOCK_SH)
        finally:
            os.close(descriptor)

    def read_status(self) -> TestbedStatus | None:
        """Give what the supervisor last wrote, or None where there is nothing that can be read as such."""
        try:
            with explained(self.status):
                return TestbedStatus.model_validate_json(self.status.read_bytes())
        except (NotFound, ValidationError):
            return None

    def write_status(self, status: TestbedStatus) -> None:
        """Replace what is there in one step: a reader sees the old or the new one, never half of one."""
        with explained(self.status):
            write_private(self.status, status.model_dump_json(by_alias=True, exclude_none=True))


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def private_folder(folder: Path) -> None:
    """Make the folder, its parents too, and close it to everybody but its owner."""
    folder.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
    folder.chmod(PRIVATE)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, in one step."""
    half = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        half.replace(path)
    except OSError:
        with suppress(OSError):
            half.unlink()
        raise


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what the operating system says about a path into an error that tells a person what to do."""
    try:
        yield
    except DynamosError:  # some are OSErrors too, such as TimedOut
        raise
    except OSError as error:
        raise explain(error, path) from error


def explain(error: OSError, path: Path) -> DynamosError:
    """Give the error that fits what the operating system said about `path`."""
    where = str(error.filename or path)
    if error.errno in (errno.ENOENT, errno.ESRCH):
        return NotFound("there is no such file", where=where)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Full(
            "no room left on the disk", where=where, hint="free some space, or choose another place with --state"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return BadInput("this place may not be used", where=where, hint="choose another place with --state")
    if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
        return BadInput("a file is in the way", where=where, hint="choose another place with --state")
    if error.errno in (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM):
        return Unavailable(f"the machine has no more to give: {error.strerror}", where=where)
    return Broken(error.strerror or str(error), where=where)


def born(pid: int) -> int | None:
    """Give the kernel's start time of a process, in clock ticks since boot: with it a pid is sure.

    None where there is no such process, where it has ended and only waits to be taken, and where there is no /proc.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def tail(path: Path, *, lines: int = 15, raw: bool = False) -> list[str]:
    """Give the last lines of a log, reading no more than its last 64 KiB; nothing where there is no log."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 65536))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [line if raw else readable(line) for line in text.splitlines()[-lines:]]


def readable(line: str) -> str:
    """Give one line of a unit's log as people read it; lines that are not JSON stay as they are."""
    try:
        record = json.loads(line)
    except ValueError:
        return line
    if not isinstance(record, dict) or "message" not in record:
        return line
    fixed = ("time", "level", "logger", "message", "stack")
    keys = " ".join(f"{key}={value}" for key, value in record.items() if key not in fixed)
    text = f"{str(record.get('time', ''))[11:23]} {record.get('level', '')!s:<7} {record['message']}  {keys}".rstrip()
    return f"{text}\n{record['stack']}" if record.get("stack") else text
