"""Worlds: all of a testbed that lives in namespaces hangs under one process, and ends with it, whatever ends it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import dynamos
from dynamos.kit.errors import Broken, Conflict, JobFailed, NotFound, Unavailable
from dynamos.testbed import boxes, identities, messages
from dynamos.testbed.boxes import Box
from dynamos.testbed.endings import Ending, born
from dynamos.testbed.hosts import Host
from dynamos.testbed.locks import locked
from dynamos.testbed.nodes import Node, node_in
from dynamos.testbed.roots import SYSTEM

NODES = "nodes"
_FACTS = "world.json"
_LOG = "world.log"
_BOOT = "import sys; sys.path.insert(0, {path!r}); from dynamos.testbed.boots import main; main()"
_BOOT_SECONDS = 30.0


class World(Box):
    """The first process of a testbed: it has namespaces of its own of every kind, and all nodes are its descendants.

    SIGKILL of it ends everything inside, by the kernel. It changes nothing in the machine's own namespaces. It is a
    box itself, for what joins nodes: bridges and routers may be devices of its network.
    """

    @classmethod
    def create(cls, folder: Path, name: str, *, show: Sequence[Path] = (), shifted: bool = True) -> Self:
        """Make the world of a testbed, with its files in `folder`, and remove what an earlier one left there.

        `show` are folders of this machine that nodes see, read-only, beside its system folders and this program's own.
        With `shifted` its users are nobody on this machine where that can be, see `kind`.
        Raises Conflict where it is there, Unavailable where this machine has no namespaces for us.
        """
        if sys.platform != "linux":
            raise Unavailable("namespaces need Linux", hint="use the driver `processes`")
        folder = folder.resolve()
        with locked(folder, within=_BOOT_SECONDS) as lock:
            if cls.find(folder):
                raise Conflict(f"the world {name!r} is there already", where=str(folder))
            for left in (_FACTS, _LOG):
                (folder / left).unlink(missing_ok=True)
            shutil.rmtree(folder / NODES, ignore_errors=True)
            paths = [_package(), Path(sys.prefix), Path(sys.base_prefix), *(path.resolve() for path in show)]
            shown = [str(path) for path in _outermost(paths)]
            with messages.listener(folder) as listener:
                descriptors = {"listener": listener.fileno(), "lock": lock}
                _boot(folder, {"name": name, "show": shown, "shifted": shifted, **descriptors})
        return cls(folder, name, "")

    @classmethod
    def find(cls, folder: Path) -> Self | None:
        """Give the world whose files are in `folder`, None where it has ended."""
        folder = folder.resolve()
        told = _facts(folder)
        if not _runs(told):
            return None
        world = cls(folder, told["name"], "")
        return world if world.alive else None

    @property
    def kind(self) -> str:
        """Whom its users are outside of it: see `identities`."""
        return str(_facts(self.folder).get("kind", ""))

    @property
    def lacks(self) -> tuple[str, ...]:
        """What does not work in it because of how it could be made here."""
        return identities.LACKS.get(self.kind, ())

    def kill(self) -> None:
        """End everything in it at once, wait until it is gone, and remove its sockets. Logs stay."""
        told = _facts(self.folder)
        if _runs(told):
            ending = Ending(told["pid"])
            ending.kill()
            ending.wait(within=20.0, what=f"the world {self.name!r}")
        (self.folder / _FACTS).unlink(missing_ok=True)
        for left in self.folder.rglob(messages.SOCKET):
            left.unlink(missing_ok=True)

    def node(self, name: str, site: str, *, size: str = "50%") -> Node:
        """Give the node of that name, and make it where there is none. `size` bounds the memory that its files take.

        Raises Conflict where it is at another site.
        """
        folder = self.folder / NODES / name
        found = node_in(folder)
        if found is None:
            boxes.make(self.folder, folder, name, site, size=size)
            found = node_in(folder)
        if found is None:
            raise Unavailable(f"the node {name!r} ended as soon as it was made", where=str(self.folder / _LOG))
        if found.site != site:
            raise Conflict(f"the node {name!r} is at {found.site!r}, not at {site!r}")
        return found

    def nodes(self) -> list[Node]:
        """Give the nodes that are there, by name."""
        found = (node_in(folder) for folder in sorted((self.folder / NODES).glob("*")))
        return [node for node in found if node]

    def find_node(self, name: str) -> Node:
        """Give the node of that name, or the first one of the site of that name. Raises NotFound."""
        nodes = self.nodes()
        found = next((node for node in nodes if node.name == name), None)
        found = found or next((node for node in nodes if node.site == name), None)
        if found is None:
            known = ", ".join(node.name for node in nodes) or "none"
            raise NotFound(f"there is no node or site {name!r}", where=str(self.folder), hint=f"nodes: {known}")
        return found

    def find_box(self, name: str) -> Box:
        """Give a node as `find_node` does, or a container by `NODE/NAME`. Raises NotFound."""
        node_name, _, container_name = name.partition("/")
        node = self.find_node(node_name)
        if not container_name:
            return node
        containers = node.containers()
        found = next((container for container in containers if container.name == container_name), None)
        if found is None:
            known = ", ".join(container.name for container in containers) or "none"
            raise NotFound(f"there is no container {name!r}", where=str(self.folder), hint=f"containers: {known}")
        return found

    def wire(self, a: Host, dev_a: str, b: Host, dev_b: str, mtu: int = 1500) -> None:
        """Join two boxes by a cable that is up, with a device of these names at each end.

        What has these names already goes first, so that this may be repeated.
        """
        ends = ((_box(a), dev_a), (_box(b), dev_b))
        with ends[0][0].namespace() as net_a, ends[1][0].namespace() as net_b:
            one = ["name", dev_a, "mtu", str(mtu), "netns", "/proc/self/fd/3"]
            other = ["name", dev_b, "mtu", str(mtu), "netns", "/proc/self/fd/4"]
            argv = ["ip", "link", "add", *one, "type", "veth", "peer", *other]
            try:
                self.run(argv, fds=[net_a, net_b])
            except JobFailed:
                for box, device in ends:
                    box.run(["ip", "link", "del", device], check=False)
                self.run(argv, fds=[net_a, net_b])
        for box, device in ends:
            box.run(["ip", "link", "set", device, "up"])


def enter(folder: Path, name: str, argv: Sequence[str], *, user: str = "root") -> int:
    """Run a command in a node, a site or a container by `NODE/NAME`, with our own terminal, and give its exit code.

    Call it in the main thread: Ctrl-C is the command's meanwhile. Raises NotFound.
    """
    world = World.find(folder)
    if world is None:
        raise NotFound("the testbed is not up", where=str(folder), hint="dynamos up")
    box = world.find_box(name)
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        return box.spawn(argv, user=user).wait()
    finally:
        signal.signal(signal.SIGINT, before)


def _boot(folder: Path, spec: dict[str, Any]) -> None:
    """Start the process that leaves this machine's namespaces, and wait until the world serves its socket."""
    told, tell = os.pipe()
    file = os.open(folder / _FACTS, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    log = os.open(folder / _LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        argv = [sys.executable, "-I", "-S", "-c", _BOOT.format(path=str(_package().parent))]
        process = subprocess.Popen(
            [*argv, json.dumps(spec | {"tell": tell, "file": file})],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(tell, file, spec["listener"], spec["lock"]),
            cwd="/",
            env={},
        )
    finally:
        for fd in (tell, file, log):
            os.close(fd)
    with os.fdopen(told, "rb") as answers:
        text = answers.read()  # to its end: the kernel closes it with the last of who could answer
    process.wait()
    answer = json.loads(text) if text else {"error": "it ended while it was made"}
    if "error" in answer:
        where = str(folder / _LOG)
        raise Unavailable(f"no world can be made here: {answer['error']}", where=where, hint="dynamos doctor")


def _facts(folder: Path) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told


def _runs(told: dict[str, Any]) -> bool:
    return bool(told) and born(told["pid"]) == told["born"]


def _package() -> Path:
    """The folder of this package, without whatever else is beside it."""
    return Path(dynamos.__file__).resolve().parent


def _outermost(paths: Sequence[Path]) -> list[Path]:
    """Leave out what a system folder or another one of them shows already."""
    kept: list[Path] = []
    for path in sorted(set(paths)):
        in_system = path.parts[1:2] and path.parts[1] in SYSTEM and path.parts[1:3] != ("var", "tmp")
        if not in_system and not any(path.is_relative_to(other) for other in kept):
            kept.append(path)
    return kept


def _box(host: Host) -> Box:
    if not isinstance(host, Box):
        raise Broken(f"{host.name!r} is not in this world")
    return host
