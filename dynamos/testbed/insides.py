"""What is inside a world or a node: further inits, each the first process of a box of its own.

Only the standard library: the first process of every node imports this.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from dynamos.jobs import linux
from dynamos.testbed import children, roots

_NETWORKS = Path("/run/netns")


class Insides:
    """The boxes that an init has made, by the pid of their inits."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._names.values()

    def add(self, pid: int, name: str) -> None:
        """Remember a box that is being made."""
        self._names[pid] = name

    def show_network(self, pid: int) -> None:
        """Let `ip netns` know a box by its name."""
        path = _NETWORKS / self._names[pid]
        path.touch(0o444)
        linux.mount(f"/proc/{pid}/ns/net", str(path), "", linux.MS_BIND)

    def kill(self, name: str) -> bool:
        """Kill a box, by the kernel; tell whether there was one."""
        return any(self.kill_pid(pid) for pid, known in self._names.items() if known == name)

    def kill_pid(self, pid: int) -> bool:
        """Kill the box of that pid; tell whether there was one."""
        if pid in self._names:
            os.kill(pid, signal.SIGKILL)
        return pid in self._names

    def forget(self, pid: int) -> str:
        """Remove what is left of a box that has ended, and give its name; nothing where it was none."""
        name = self._names.pop(pid, "")
        if not name:
            return ""
        with suppress(OSError):
            linux.unmount(str(_NETWORKS / name))
        with suppress(OSError):
            (_NETWORKS / name).unlink()
        written = f"{roots.CONTAINERS}/{name}"
        if Path(written).is_dir():
            # Under a name that no next box has: it may take long.
            away = f"{written}.{pid}.gone"
            Path(written).rename(away)
            children.fork(children.program({"argv": ["rm", "-rf", "--", away]}), (0, 1, 2))
        return name
