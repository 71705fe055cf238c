"""Control groups: what all processes of a step may use together, and what they did use.

Every zygote has one folder per controller, below the group it was started in, named `dynamos-<party>-<pid>-<start>`
after its guard. The guard removes it when the zygote has ended, however it ended. Where the guard was killed as well,
the next guard that starts in the same place finds folders whose guard is gone, and removes them.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dynamos.jobs.specs import StepSpec

logger = logging.getLogger(__name__)

_NAME = re.compile(r"dynamos-.*-(\d+)-(\d+)")
_LEAVING_SECONDS = 0.01
_CONTROLLERS = ("memory", "pids", "cpuacct")


@dataclass(frozen=True, slots=True)
class _Files:
    """What the files of a version of cgroups are called."""

    join: str
    memory_limit: str
    memory_peak: str
    memory_events: str
    cpu: str
    cpu_pattern: re.Pattern[str]
    cpu_unit: float


_V1 = _Files(
    "tasks", "memory.limit_in_bytes", "memory.max_usage_in_bytes", "memory.oom_control", "cpuacct.usage",
    re.compile(r"(\d+)"), 1e-9,
)  # fmt: skip
_V2 = _Files(
    "cgroup.procs", "memory.max", "memory.peak", "memory.events", "cpu.stat", re.compile(r"usage_usec (\d+)"), 1e-6
)
_OOM = re.compile(r"oom_kill (\d+)")


class Groups:
    """The folders of one zygote: controller -> path. `host` is put before every path (for a zygote in its own root)."""

    def __init__(self, folders: Mapping[str, Path], files: _Files) -> None:
        self.folders = dict(folders)
        self._made = set(folders.values())
        self.files = files
        self.host = ""

    @classmethod
    def open(cls, party: str) -> Groups | None:
        """Make the folders of a zygote of `party`, named after this process. None: there is nothing that we may use."""
        bases, files = _delegated()
        if not bases:
            return None
        for base in set(bases.values()):
            sweep(base)
        name = f"dynamos-{party}-{os.getpid()}-{_started(os.getpid())}"
        folders = {}
        for controller, base in bases.items():
            with suppress(OSError):
                (base / name).mkdir(exist_ok=True)
                folders[controller] = base / name
        groups = cls(folders, files)
        if files is _V2:
            groups._enable()
        if not groups.folders:
            groups.remove()
            return None
        return groups

    def group(self, name: str) -> Group:
        """Make the group of one step. Raises OSError."""
        return Group({c: f"{self.host}{folder}/{name}" for c, folder in self.folders.items()}, self.files)

    def remove(self, *, within: float = 5.0) -> None:
        """Remove the folders and all in them, as soon as their last process is gone, which must be soon."""
        end = time.monotonic() + within
        left = self._made
        while left := {folder for folder in left if not _remove(folder)}:
            if time.monotonic() > end:
                logger.error("cgroup.stays", extra={"folders": sorted(map(str, left))})
                return
            time.sleep(_LEAVING_SECONDS)

    def _enable(self) -> None:
        """Hand the controllers down to the steps' groups (version 2). Those that cannot be are left out."""
        for controller in list(self.folders):
            own = self.folders[controller]
            try:
                _make_room(own.parent)
                for folder in (own.parent, own):
                    if controller != "cpuacct":  # version 2 always counts CPU time
                        (folder / "cgroup.subtree_control").write_text(f"+{controller}", encoding="ascii")
            except OSError:
                del self.folders[controller]
        if not self.folders.keys() & {"memory", "pids"}:
            self.folders.clear()


class Group:
    """The group of one step. The step joins through `joins`, which are open before its root is taken away."""

    def __init__(self, paths: Mapping[str, str], files: _Files) -> None:
        self._paths = paths
        self._files = files
        self._cpu = -1
        self.joins: list[int] = []
        for path in dict.fromkeys(paths.values()):
            Path(path).mkdir(parents=True, exist_ok=True)
            self.joins.append(os.open(f"{path}/{files.join}", os.O_WRONLY | os.O_CLOEXEC))
        if "cpuacct" in paths:
            self._cpu = os.open(f"{paths['cpuacct']}/{files.cpu}", os.O_RDONLY | os.O_CLOEXEC)

    @property
    def descriptors(self) -> list[int]:
        """What a keeper needs to have this group."""
        return [*self.joins, *([self._cpu] if self._cpu >= 0 else [])]

    @property
    def controls(self) -> tuple[str, ...]:
        """The names of what is limited for all processes of the step together."""
        names = {"memory": "memory", "pids": "processes", "cpuacct": "cpu"}
        return tuple(names[controller] for controller in self._paths if controller in names)

    def limit(self, spec: StepSpec) -> None:
        """Set the limits of `spec`."""
        if "memory" in self._paths:
            _write(f"{self._paths['memory']}/{self._files.memory_limit}", spec.memory)
            for file, value in (("memory.memsw.limit_in_bytes", spec.memory), ("memory.swap.max", 0)):
                with suppress(OSError):  # each version has one of them, if it counts swap at all
                    _write(f"{self._paths['memory']}/{file}", value)
        if "pids" in self._paths:
            _write(f"{self._paths['pids']}/pids.max", spec.processes)

    def join(self) -> None:
        """Put this process, which has one thread, in."""
        for descriptor in self.joins:
            os.write(descriptor, b"0")

    def cpu(self) -> float:
        """Give the CPU time of all processes so far in seconds; 0 where it is not counted."""
        if self._cpu < 0:
            return 0.0
        found = self._files.cpu_pattern.search(os.pread(self._cpu, 4096, 0).decode())
        return int(found[1]) * self._files.cpu_unit if found else 0.0

    def memory(self) -> tuple[int, bool]:
        """Give the peak in bytes (0: not counted), and whether the kernel had to kill for want of memory."""
        if "memory" not in self._paths:
            return 0, False
        folder = self._paths["memory"]
        killed = _OOM.search(_read(f"{folder}/{self._files.memory_events}"))
        return int(_read(f"{folder}/{self._files.memory_peak}") or 0), bool(killed and int(killed[1]))

    def let_go(self) -> None:
        """Close the way in: for a process that does not join."""
        for descriptor in self.joins:
            os.close(descriptor)
        self.joins = []

    def close(self) -> bool:
        """Remove the group, in which nothing should run any more. False: the kernel is not done with it yet."""
        if self._cpu >= 0:
            os.close(self._cpu)
            self._cpu = -1
        done = True
        for path in dict.fromkeys(self._paths.values()):
            try:
                Path(path).rmdir()
            except FileNotFoundError:
                continue
            except OSError:
                done = False
        return done


def sweep(base: Path) -> None:
    """Remove the folders of zygotes whose guard is gone. A folder in which something runs stays."""
    for folder in base.glob("dynamos-*"):
        found = _NAME.fullmatch(folder.name)
        if found and _started(int(found[1])) != found[2]:
            logger.info("cgroup.swept", extra={"path": str(folder)})
            _remove(folder)


def _remove(folder: Path) -> bool:
    """Remove a folder of groups. False: something runs in one of them."""
    with suppress(OSError):
        for inner in [path for path in folder.iterdir() if path.is_dir()]:
            inner.rmdir()
        folder.rmdir()
    return not folder.exists()


def _make_room(folder: Path) -> None:
    """Move the processes of a group that systemd has delegated to us into a leaf, as version 2 wants it."""
    with suppress(OSError):
        if os.getxattr(folder, "user.delegate") != b"1":
            return
        leaf = folder / "main"
        leaf.mkdir(exist_ok=True)
        for pid in (folder / "cgroup.procs").read_text(encoding="ascii").split():
            (leaf / "cgroup.procs").write_text(pid, encoding="ascii")


def _started(pid: int) -> str:
    """Give when a process was started, in clock ticks since boot; "" for none. With its number it names it for ever."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(") ")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _delegated() -> tuple[dict[str, Path], _Files]:
    """Give the groups that this process is in and may make groups below: version 1 first, else version 2."""
    try:
        own = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()]
        mounts = list(_mounts())
    except OSError:
        return {}, _V1
    old, new = {}, {}
    for _, controllers, path in own:
        for kind, names, root, point in mounts:
            folder = Path(point) / os.path.relpath(path, root) if path.startswith(root.rstrip("/") or "/") else None
            if folder is None or not os.access(folder, os.W_OK):
                continue
            if kind == "cgroup":
                old.update(dict.fromkeys(set(controllers.split(",")) & names & set(_CONTROLLERS), folder))
            elif kind == "cgroup2" and not controllers:
                offered = set(_read(f"{folder}/cgroup.controllers").split()) & set(_CONTROLLERS)
                new.update(dict.fromkeys((*offered, *(("cpuacct",) if offered else ())), folder))
    return (old, _V1) if old else (new, _V2)


def _mounts() -> Iterator[tuple[str, set[str], str, str]]:
    """Give type, options of the super block, root and mount point of every cgroup mount."""
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            fields = before.split()
            yield kind, set(options.split(",")), fields[3], fields[4]


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii")
    except OSError:
        return ""


def _write(path: str, value: int) -> None:
    Path(path).write_text(str(value), encoding="ascii")
