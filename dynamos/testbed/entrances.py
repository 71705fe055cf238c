"""Entrances to nodes: how a process that was forked on this machine comes to live in a node.

It is born in the node's pid namespace, so that it ends with the node, by the kernel. Then it enters every other
namespace, and takes along the folders that it is to have there: each a mount of its own, with owners as the node sees
them. What it has in memory it keeps.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dynamos.jobs import linux
from dynamos.kit.errors import Unavailable
from dynamos.testbed import identities
from dynamos.testbed.boxes import Box

_KINDS = {
    "net": linux.NEW_NET, "uts": linux.NEW_UTS, "ipc": linux.NEW_IPC, "cgroup": linux.NEW_CGROUP,
    "mnt": linux.NEW_MOUNT,
}  # fmt: skip
"""All but the user namespace, which is entered first, and the pid namespace, which one is born in. The last one changes
what paths mean."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A folder or file of this machine that a process has at the same path in its node."""

    path: Path
    writable: bool = False


class Entrance:
    """The way into one node, or into a container, for children of this process. Only root can take it.

    `kind` is that of the world, see `identities`.
    """

    def __init__(self, box: Box, kind: str, shown: Sequence[Shown] = ()) -> None:
        self._box = box
        self._kind = kind
        self._shown = tuple(shown)

    @contextmanager
    def births(self) -> Iterator[None]:
        """Let children that are forked meanwhile be born in the node's pid namespace.

        Raises NotFound where the node is not there, Unavailable where that is not allowed.
        """
        with self._box.namespace("pid") as theirs:
            home = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
            try:
                linux.setns(theirs, linux.NEW_PID)
                try:
                    yield
                finally:
                    linux.setns(home, linux.NEW_PID)
            except OSError as error:
                raise Unavailable(f"nobody can be born in {self._box.name!r}: {error}", where="setns") from None
            finally:
                os.close(home)

    def enter(self) -> None:
        """Enter the node, as a child that was born there and has one thread. Raises NotFound, OSError."""
        with self._box.namespace("user") as user:
            opened: list[tuple[int, int]] = []
            for kind, number in _KINDS.items():
                with self._box.namespace(kind) as fd:
                    opened.append((os.dup(fd), number))
            trees = [(shown, self._tree(shown, user)) for shown in self._shown]
            linux.setns(user, linux.NEW_USER)
        for fd, number in opened:
            linux.setns(fd, number)
            os.close(fd)
        if self._kind != identities.SINGLE:
            os.setgroups([])
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
        linux.prctl(linux.PR_SET_DUMPABLE, 1)  # else what it is in /proc would not be its own
        os.chdir("/")
        for shown, tree in trees:
            if not _is_there(tree, str(shown.path)):  # else an earlier life of the process has brought it
                _place(tree, str(shown.path))
                linux.attach(tree, str(shown.path))
            os.close(tree)

    def _tree(self, shown: Shown, user: int) -> int:
        attributes = linux.ATTR_NOSUID | linux.ATTR_NODEV | (0 if shown.writable else linux.ATTR_RDONLY)
        mapped = user if self._kind == identities.SHIFTED else -1
        return linux.detached(str(shown.path), attributes, user_namespace=mapped, recursive=False)


def _is_there(tree: int, path: str) -> bool:
    """Tell whether a path shows already what it is to show."""
    try:
        there, wanted = Path(path).stat(), os.fstat(tree)
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (wanted.st_dev, wanted.st_ino)


def _place(tree: int, path: str) -> None:
    """Make a place to attach to, of the right sort, where there is none."""
    if Path(f"/proc/self/fd/{tree}").is_dir():
        Path(path).mkdir(mode=0o700, parents=True, exist_ok=True)
    elif not Path(path).exists():
        Path(path).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        Path(path).touch(0o600)
