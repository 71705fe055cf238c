"""Machines that exist, as nodes: `python -m dynamos.testbed.machines CONFIG` serves this machine as a world serves its
nodes, so that whoever makes containers and overlays finds the same here.

It has processes and mounts of its own, and the machine's network. Containers and daemons of overlays live under it and
end with it. Containers that the machine has already (a testbed in namespaces made them) are taken as they are.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Self

from dynamos.jobs import linux
from dynamos.kit.errors import BadInput
from dynamos.testbed import identities, messages, namespaces, roots
from dynamos.testbed.inits import Init

NETWORKS = Path("/run/netns")
CONTAINERS = "containers"
_KINDS = (
    ("net", linux.NEW_NET), ("uts", linux.NEW_UTS), ("ipc", linux.NEW_IPC), ("pid", linux.NEW_PID),
    ("mnt", linux.NEW_MOUNT),
)  # fmt: skip
_QUIETER = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC


@dataclass(frozen=True, slots=True)
class MachineConfig:
    """What a machine serves: `folder` is where its socket is found, `containers` are the names of those that are to be
    on it, whoever makes them."""

    folder: Path
    containers: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read it. Raises BadInput that names the file."""
        try:
            told = json.loads(path.read_bytes())
            return cls(Path(told["folder"]), tuple(map(str, told["containers"])))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadInput(f"this configures no machine: {error!r}", where=str(path)) from None


def serve(config: MachineConfig) -> NoReturn:
    """Serve this machine until SIGTERM, or until a container that was there already has ended."""
    (config.folder / CONTAINERS).mkdir(mode=0o700, parents=True, exist_ok=True)
    found = {name: pid for name in config.containers if (pid := first_process(NETWORKS / name))}
    shims = [_adopt(config.folder / CONTAINERS / name, pid) for name, pid in found.items()]
    with messages.listener(config.folder) as listener:
        shims.append(_fork_node(listener))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _end(shims))
    told = {"address": str(config.folder), "adopted": sorted(found)}
    sys.stderr.write(json.dumps(told) + "\n")
    sys.stderr.flush()
    with suppress(ChildProcessError):
        os.wait()
    _end(shims)


def first_process(network: Path) -> int:
    """Give the first process of the container whose network is at that path, 0 where there is none."""
    try:
        wanted = network.stat()
    except OSError:
        return 0
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with suppress(OSError):
            its = (folder / "ns" / "net").stat()
            if (its.st_dev, its.st_ino) == (wanted.st_dev, wanted.st_ino) and _is_first(folder):
                return int(folder.name)
    return 0


def _is_first(folder: Path) -> bool:
    lines = (folder / "status").read_text(encoding="ascii", errors="replace").splitlines()
    numbers = next((line.split()[1:] for line in lines if line.startswith("NSpid:")), [])
    return numbers[-1:] == ["1"]


def _end(shims: Iterable[int]) -> NoReturn:
    for pid in shims:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    os._exit(0)


def _fork_node(listener: socket.socket) -> int:
    """Fork what serves as the init of a node; everything on it ends when this process does."""
    parent = os.getpid()
    linux.unshare(linux.NEW_PID)
    pid = os.fork()
    if pid:
        return pid
    try:
        _follow(parent)
        linux.unshare(linux.NEW_MOUNT)
        namespaces.keep_mounts_private()
        linux.mount("proc", "/proc", "proc", _QUIETER)
        Path(roots.STORE).mkdir(mode=0o700, exist_ok=True)
        NETWORKS.mkdir(mode=0o755, exist_ok=True)
        linux.mount("store", roots.STORE, "tmpfs", linux.MS_NOSUID, "mode=700")
        Path(roots.CONTAINERS).mkdir(mode=0o700)
        # `ip netns exec` and containers mount these anew, which needs whole ones that can be seen.
        for name, kind in (("sys", "sysfs"), ("proc", "proc")):
            (Path(roots.STORE) / name).mkdir()
            linux.mount(kind, f"{roots.STORE}/{name}", kind, _QUIETER)
        Init(listener, "node", [], shield=identities.is_machine_root()).serve()
    except OSError as error:
        sys.stderr.write(f"this machine cannot be served: {error}\n")
        sys.stderr.flush()
    finally:
        os._exit(1)


def _adopt(folder: Path, first: int) -> int:
    """Fork what serves a container that is there, from inside: it ends with the container, or with this process."""
    folder.mkdir(mode=0o700, exist_ok=True)
    with messages.listener(folder) as listener:
        parent = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        try:
            _follow(parent)
            spaces = [(os.open(f"/proc/{first}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC), kind) for name, kind in _KINDS]
            for fd, kind in spaces:
                linux.setns(fd, kind)
                os.close(fd)
            me = os.getpid()
            inside = os.fork()
            if inside == 0:
                _follow(me, elsewhere=True)
                Init(listener, "container", [], shield=False).serve()
            os.waitpid(inside, 0)
        except OSError as error:
            sys.stderr.write(f"{folder.name} cannot be entered: {error}\n")
            sys.stderr.flush()
        finally:
            os._exit(1)


def _follow(parent: int, *, elsewhere: bool = False) -> None:
    """End with the process that forked this one. One that is in another pid namespace does not see who that is."""
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    if not elsewhere and os.getppid() not in (parent, 0):
        os._exit(1)


def main() -> None:
    """Serve this machine from the command line."""
    if len(sys.argv) != 2:  # noqa: PLR2004
        sys.stderr.write("usage: python -m dynamos.testbed.machines CONFIG\n")
        raise SystemExit(2)
    try:
        config = MachineConfig.read(Path(sys.argv[1]))
    except BadInput as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(error.exit) from None
    serve(config)


if __name__ == "__main__":
    main()
