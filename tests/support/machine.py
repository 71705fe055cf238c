"""What processes leave on a machine, seen through /proc: to tell that nothing is left."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

Things = frozenset[str]


def _own_groups() -> list[Path]:
    found = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        found.append(Path("/sys/fs/cgroup") / controllers.removeprefix("name=") / path.lstrip("/"))
    return found


_BASES = _own_groups() if sys.platform == "linux" else []


def gone(what: str, left: Callable[[], Iterable[object]], *, within: float = 10.0) -> None:
    """Wait until `left` gives nothing. Fails the test after `within` seconds, with what is left."""
    end = time.monotonic() + within
    while remaining := sorted(map(str, left())):
        assert time.monotonic() < end, f"{what} are still there after {within:g} s: {remaining}"
        time.sleep(0.01)


def leftovers(*, root: int | None = None, of: Things | None = None) -> Things:
    """Give descriptors of this process, and the processes, mounts, namespaces and control groups below `root`.

    `root` is this process if not given. With `of`, give which of these things are still there.
    """
    if of is not None:
        return frozenset(thing for thing in of if _exists(thing))
    top = root or os.getpid()
    family = _family(top)
    found = {f"process {pid} {_started(pid)}" for pid in family}
    found |= {f"namespace {name}" for pid in family for name in _namespaces(pid) - _namespaces(os.getpid())}
    found |= {f"group {folder}" for folder in groups(family)}
    if root is None:
        found |= {f"descriptor {fd}" for fd in os.listdir("/proc/self/fd")}  # noqa: PTH208
        found |= {f"mount {line}" for line in Path("/proc/self/mounts").read_text().splitlines()}
    return frozenset(found)


@contextmanager
def namespaces_held(root: int) -> Iterator[None]:
    """Keep the namespaces of `root` and its children open meanwhile: the kernel gives their numbers to nobody else."""
    with ExitStack() as held:
        for pid in _family(root):
            for path in Path(f"/proc/{pid}/ns").iterdir():
                held.callback(os.close, os.open(path, os.O_RDONLY))
        yield


def count_by_kind(things: Things) -> Counter[str]:
    """Count things by kind: keepers wait for work, so that there are always some, but never more."""
    return Counter(thing.partition(" ")[0] for thing in things)


def groups(guards: Iterable[int]) -> set[str]:
    """Give the control groups of DYNAMOS that these guards have made, and those in them."""
    found = set()
    for pid in guards:
        for base in _BASES:
            for folder in base.glob(f"dynamos-*-{pid}-*"):
                found |= {str(folder), *(str(path) for path in folder.iterdir() if path.is_dir())}
    return found


def alive(pid: int) -> bool:
    """Tell whether a process runs: one that has ended and was not waited for does not."""
    return bool(_started(pid))


def _exists(thing: str) -> bool:
    kind, _, rest = thing.partition(" ")
    if kind == "process":
        pid, _, started = rest.partition(" ")
        return _started(int(pid)) == started
    if kind == "namespace":
        return any(rest in _namespaces(int(path.name)) for path in Path("/proc").glob("[0-9]*"))
    return Path(rest).exists()


def _family(top: int) -> set[int]:
    found, young = set(), [top]
    while young:
        pid = young.pop()
        found.add(pid)
        try:
            for task in Path(f"/proc/{pid}/task").iterdir():
                young += [int(child) for child in (task / "children").read_text().split()]
        except OSError:
            continue
    return {pid for pid in found if _started(pid)}


def _started(pid: int) -> str:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except (OSError, IndexError):
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def _namespaces(pid: int) -> set[str]:
    try:
        return {str(path.readlink()) for path in Path(f"/proc/{pid}/ns").iterdir()}
    except OSError:
        return set()
