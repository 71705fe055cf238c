"""The world of a testbed with networks of its own, as its supervisor uses it: made, looked after, and taken down."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from dynamos.deploy.states import StateFolder
from dynamos.kit.errors import NotFound, Unavailable
from dynamos.model.profiles import Profile
from dynamos.testbed import apply
from dynamos.testbed.children import PATH
from dynamos.testbed.entrances import Entrance, Shown
from dynamos.testbed.hosts import Completed
from dynamos.testbed.namespaced import NamespacesGround
from dynamos.testbed.nodes import Node
from dynamos.testbed.overlays import registry
from dynamos.testbed.roots import SYSTEM
from dynamos.testbed.wanted import wanted
from dynamos.testbed.worlds import NODES
from dynamos.testbed.worlds import World as Namespaces

if TYPE_CHECKING:
    from dynamos.testbed.hosts import Host

TESTBED = "testbed"
"""The task that makes sites, links and overlays."""

Reads = Callable[[], Iterable[Path]]
_LISTENS = "0A"


class World:
    """The world of one testbed. Its nodes need not be there yet when a place on them is given."""

    def __init__(self, folder: StateFolder, profile: Profile) -> None:
        self._folder = folder
        self._profile = profile
        self._seen = 0

    def bring_up(self) -> None:
        """Make what the profile says. Raises what it cannot be made for. To be done in a process of its own, for it
        works with threads."""
        apply.up(NamespacesGround(self._folder.world), wanted(self._profile))

    def check(self) -> None:
        """Raise Unavailable where the world has ended, or is another one than before."""
        found = Namespaces.find(self._folder.world)
        self._seen = self._seen or (found.pid if found else 0)
        if found is None or found.pid != self._seen:
            where = str(self._folder.world)
            raise Unavailable("the world of this testbed has ended", where=where, hint="dynamos up makes another one")

    def clear(self) -> None:
        """End the world and everything in it. Does nothing where there is none, or another testbed's in its place."""
        found = Namespaces.find(self._folder.world)
        if found and self._seen in (0, found.pid):
            end_world(self._folder)

    def place(self, node: str, *, reads: Reads = tuple, writes: Iterable[Path] = ()) -> AtNode:
        """Give the place of a program on a node, with these folders of this machine. What it reads is asked for when it
        gets there."""
        return AtNode(self._folder.world, node, reads, tuple(writes))

    def listens(self, node: str, port: int) -> str | None:
        """Tell whether somebody on the node takes connections at the port."""
        try:
            pid = Node(self._folder.world / NODES / node, node, "").pid
            lines = Path(f"/proc/{pid}/net/tcp").read_text(encoding="ascii").splitlines()[1:]
        except (NotFound, Unavailable, OSError):
            return None
        found = any(fields[1].endswith(f":{port:04X}") and fields[3] == _LISTENS for fields in map(str.split, lines))
        return f"{node}:{port}" if found else None


class AtNode:
    """A place on a node, which is looked for whenever a child is born there. Folders that are not there are left out,
    and so are those that every node has."""

    def __init__(self, world: Path, node: str, reads: Reads, writes: tuple[Path, ...]) -> None:
        self._world = world
        self._node = node
        self._reads = reads
        self._writes = writes

    def births(self) -> AbstractContextManager[None]:
        return self._entrance(()).births()

    def enter(self) -> None:
        shown = [Shown(path, writable=True) for path in self._writes]
        shown += [Shown(path) for path in self._reads() if not _everywhere(path)]
        self._entrance([each for each in shown if each.path.exists()]).enter()

    def _entrance(self, shown: Sequence[Shown]) -> Entrance:
        node = Node(self._world / NODES / self._node, self._node, "")
        return Entrance(node, Namespaces(self._world, "", "").kind, shown)


def _everywhere(path: Path) -> bool:
    return any(path.is_relative_to(Path("/", name)) for name in SYSTEM)


def check_rights() -> None:
    """Raise Unavailable where units cannot be born on nodes: only root may send its children there."""
    if os.geteuid() != 0:
        hint = "run it as root, or use the driver `processes`, which has no networks of its own"
        raise Unavailable("a testbed of sites with networks needs root", where="driver", hint=hint)


def check_needs(profile: Profile, where: Callable[[], str]) -> None:
    """Raise Unavailable, with the package, where this machine lacks what the overlay's driver needs; nothing has been
    made then. `where` gives the place of the driver in the profile."""
    lacks = registry.driver(profile.overlay.driver).missing(cast("Host", _Machine()))
    if lacks:
        told = "; ".join(dict.fromkeys(mistake.message for mistake in lacks))
        message = f"the overlay {profile.overlay.driver!r} cannot be made here: {told}"
        raise Unavailable(message, where=where(), hint=lacks[0].hint)


class _Machine:
    """This machine, as far as a driver looks whether it has what it needs: nodes have the same programs and kernel."""

    name = "this machine"

    def run(self, argv: Sequence[str], *, check: bool = True, **_: object) -> Completed:
        done = subprocess.run(argv, env={"PATH": PATH}, capture_output=True, check=check, timeout=30, cwd="/")
        return Completed(tuple(argv), done.returncode, done.stdout, done.stderr)


def end_world(folder: StateFolder) -> bool:
    """End the world of a testbed, and tell whether there was one."""
    world = Namespaces.find(folder.world)
    if world is None:
        return False
    apply.down(NamespacesGround(folder.world))
    return True
