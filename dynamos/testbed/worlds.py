"""Worlds: all of a testbed that lives in namespaces hangs under one process, and ends with it, whatever ends it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Self

import dynamos
from dynamos.kit.errors import Broken, Conflict, NotFound, Unavailable
from dynamos.testbed import boxes, calls
from dynamos.testbed.boxes import Box
from dynamos.testbed.endings import Ending, born
from dynamos.testbed.hosts import Host
from dynamos.testbed.nodes import Node, node_in
from dynamos.testbed.roots import SYSTEM

_FACTS = "world.json"
_LOG = "world.log"
_BOOT = "import sys; sys.path.insert(0, {path!r}); from dynamos.testbed.boots import main; main()"


class World(Box):
    """The first process of a testbed: it has namespaces of its own of every kind, and all nodes are its descendants.

    SIGKILL of it ends everything inside, by the kernel. It changes nothing in the machine's own namespaces.
    """

    @classmethod
    def create(cls, folder: Path, name: str, *, show: Sequence[Path] = ()) -> Self:
        """Make the world of a testbed, with its files in `folder`.

        `show` are folders of this machine that nodes see, read-only, beside its system folders and this program's own.
        Raises Conflict where it is there, Unavailable where the machine has no namespaces for us.
        """
        if sys.platform != "linux":
            raise Unavailable("namespaces need Linux", hint="use the driver `processes`")
        folder = folder.resolve()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if cls.find(folder):
            raise Conflict(f"the world {name!r} is there already", where=str(folder))
        (folder / _FACTS).unlink(missing_ok=True)
        shown = _outermost([_package(), Path(sys.prefix), Path(sys.base_prefix), *(path.resolve() for path in show)])
        with closing(calls.listen(folder)) as listener:
            _boot(folder, listener.fileno(), {"name": name, "show": [str(path) for path in shown]})
        return cls(folder, name, "")

    @classmethod
    def find(cls, folder: Path) -> Self | None:
        """Give the world whose files are in `folder`, None where it has ended."""
        folder = folder.resolve()
        told = _facts(folder)
        if not told or born(told["pid"]) != told["born"]:
            return None
        world = cls(folder, told["name"], "")
        return world if world.alive else None

    def kill(self) -> None:
        """End everything in it at once, wait until it is gone, and remove what it left in its folder."""
        told = _facts(self.folder)
        if told and born(told["pid"]) == told["born"]:
            ending = Ending(told["pid"])
            ending.kill()
            ending.wait(within=20.0, what=f"the world {self.name!r}")
        for left in (_FACTS, calls.SOCKET):
            (self.folder / left).unlink(missing_ok=True)

    def node(self, name: str, site: str, *, size: str = "50%") -> Node:
        """Give the node of that name, and make it where there is none. `size` bounds the memory that its files take."""
        folder = self._nodes / name
        found = node_in(folder)
        if found is None:
            with suppress(Conflict):
                boxes.create(self.folder, folder, name, site, size=size)
            found = Node(folder, name, site)
        if found.site != site:
            raise Conflict(f"the node {name!r} is at {found.site!r}, not at {site!r}")
        return found

    def nodes(self) -> list[Node]:
        """Give the nodes that are there, by name."""
        found = (node_in(folder) for folder in sorted(self._nodes.glob("*")))
        return [node for node in found if node]

    def wire(self, a: Host, dev_a: str, b: Host, dev_b: str, mtu: int = 1500) -> None:
        """Join two boxes by a cable that is up, with a device of these names at each end, and nothing else."""
        one, other = _box(a), _box(b)
        with one.namespace() as net_a, other.namespace() as net_b:
            self.run(
                ["ip", "link", "add", dev_a, "mtu", str(mtu), "netns", "/proc/self/fd/3", "type", "veth",
                 "peer", "name", dev_b, "mtu", str(mtu), "netns", "/proc/self/fd/4"],
                fds=[net_a, net_b],
            )  # fmt: skip
        one.run(["ip", "link", "set", dev_a, "up"])
        other.run(["ip", "link", "set", dev_b, "up"])

    @property
    def _nodes(self) -> Path:
        return self.folder / "nodes"


def _boot(folder: Path, listener: int, spec: dict[str, Any]) -> None:
    """Start the process that leaves this machine's namespaces, and wait until the world serves its socket."""
    told, tell = os.pipe()
    file = os.open(folder / _FACTS, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    log = os.open(folder / _LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        spec |= {"tell": tell, "file": file, "listener": listener}
        argv = [sys.executable, "-I", "-S", "-c", _BOOT.format(path=str(_package().parent)), json.dumps(spec)]
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(tell, file, listener), cwd="/", env={}
        )
        os.close(tell)
        tell = -1
        text = os.read(told, 65536)
        process.wait()
    finally:
        for fd in (told, tell, file, log):
            if fd >= 0:
                os.close(fd)
    answer = json.loads(text) if text else {"error": "it ended while it was made"}
    if "error" in answer:
        raise Unavailable(
            f"no world can be made here: {answer['error']}", where=str(folder / _LOG), hint="dynamos doctor"
        )


def _facts(folder: Path) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told


def _package() -> Path:
    """The folder of this package, without whatever else is beside it."""
    return Path(dynamos.__file__).resolve().parent


def _outermost(paths: Sequence[Path]) -> list[Path]:
    """Leave out what a system folder or another one of them shows already."""
    system = [Path("/", name) for name in SYSTEM]
    kept: list[Path] = []
    for path in sorted(set(paths)):
        if not any(path.is_relative_to(other) for other in (*system, *kept)):
            kept.append(path)
    return kept


def _box(host: Host) -> Box:
    if not isinstance(host, Box):
        raise Broken(f"{host.name!r} is not in this world")
    return host
