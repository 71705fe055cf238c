"""Machines of a cluster: `python -I -S` runs `main` as a daemon of the cluster's init, and it bears the first process
of a machine. That has namespaces and control groups of its own and a root whose writes go to memory, and serves as the
init of a box does. Unlike a node of a world it has no user namespace: kubelet and runc need the machine's real root.

A machine that ends stays ended until its daemon is stopped and started. Only the standard library.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from cluster import groups
from dynamos.jobs import linux
from dynamos.testbed import namespaces, roots
from dynamos.testbed.inits import Init

MS_SHARED = 1 << 20
LISTENER = 3
_QUIETER = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
_DEVICES = {
    "null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "kmsg": (1, 11),
    "tty": (5, 0), "net/tun": (10, 200),
}  # fmt: skip
_LINKS = {"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}
_MEMORY = ("run", "tmp", "var/tmp", "var/lib/containerd", "var/lib/kubelet", "var/lib/cni", "var/log/pods", "etc/cni")
SETTINGS: Mapping[str, str] = {
    "vm/overcommit_memory": "1", "vm/panic_on_oom": "0", "kernel/panic": "10", "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000", "kernel/keys/root_maxbytes": "25000000",
}  # fmt: skip
"""What a kubelet sets of the whole kernel's settings: here it finds files that say so already, and the machine's own
stay as they are."""


def main(text: str) -> NoReturn:
    """Bear the machine that a text describes, and end with it."""
    spec: dict[str, Any] = json.loads(text)
    groups.join(spec["group"], spec["below"])
    namespaces.leave(spec["name"])
    pid = namespaces.fork_as_first()
    if pid == 0:
        _be_first(spec)
    os.close(LISTENER)
    signal.signal(signal.SIGTERM, lambda *_: _end(pid))
    os.waitpid(pid, 0)
    while True:
        signal.pause()


def _end(pid: int) -> NoReturn:
    """End the machine, by the kernel, and wait until nothing is left in it."""
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass
    os._exit(0)


def _be_first(spec: dict[str, Any]) -> NoReturn:
    """Be the machine's first process: lay its root, and serve."""
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
        _lay_root(spec)
        listener = socket.socket(fileno=LISTENER)
        listener.set_inheritable(False)
        Init(listener, "container", [], shield=False).serve()
    except BaseException:  # noqa: BLE001  the top of the process
        traceback.print_exc()
    finally:
        os._exit(1)


def _lay_root(spec: dict[str, Any]) -> None:
    held = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in (*spec["show"], *spec["share"])}
    base = Path("/run")
    linux.mount("machine", str(base), "tmpfs", linux.MS_NOSUID, f"mode=755,size={spec['size']}")
    upper, work, root = (base / name for name in ("upper", "work", "root"))
    for path in (upper, work, root):
        path.mkdir()
    linux.mount("overlay", str(root), "overlay", 0, f"lowerdir=/,upperdir={upper},workdir={work},index=off")
    _fill(root, spec["size"])
    for path, fd in held.items():
        (root / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
        linux.mount(f"/proc/self/fd/{fd}", f"{root}{path}", "", linux.MS_BIND | linux.MS_REC)
        if path in spec["show"]:
            linux.restrict(f"{root}{path}", linux.ATTR_RDONLY)
        os.close(fd)
    roots.enter(str(root))
    linux.mount("", "/", "", linux.MS_REC | MS_SHARED)


def _fill(root: Path, size: str) -> None:
    linux.mount("proc", f"{root}/proc", "proc", _QUIETER)
    linux.mount("sysfs", f"{root}/sys", "sysfs", _QUIETER)
    for path in _MEMORY:
        (root / path).mkdir(parents=True, exist_ok=True)
        mode = "1777" if path.endswith("tmp") else "755"
        linux.mount("memory", f"{root}/{path}", "tmpfs", linux.MS_NOSUID, f"mode={mode},size={size}")
    (root / "run/lock").mkdir()
    (root / "run/settings").mkdir()
    for name, value in SETTINGS.items():
        file = root / "run/settings" / name.replace("/", ".")
        file.write_text(f"{value}\n")
        linux.mount(str(file), f"{root}/proc/sys/{name}", "", linux.MS_BIND)
    linux.mount("groups", f"{root}/sys/fs/cgroup", "tmpfs", _QUIETER, "mode=755")
    for name in groups.NEEDED:
        (root / "sys/fs/cgroup" / name).mkdir()
        data = "none,name=systemd" if name == "systemd" else name
        linux.mount("cgroup", f"{root}/sys/fs/cgroup/{name}", "cgroup", _QUIETER, data)
    _devices(root / "dev")


def _devices(dev: Path) -> None:
    linux.mount("dev", str(dev), "tmpfs", linux.MS_NOSUID, "mode=755,size=1m")
    for name in ("net", "pts", "shm", "mqueue"):
        (dev / name).mkdir()
    for name, numbers in _DEVICES.items():
        os.mknod(dev / name, stat.S_IFCHR | 0o666, os.makedev(*numbers))
        (dev / name).chmod(0o666)
    linux.mount("devpts", f"{dev}/pts", "devpts", linux.MS_NOSUID, "newinstance,ptmxmode=0666,mode=620")
    linux.mount("shm", f"{dev}/shm", "tmpfs", linux.MS_NOSUID, "mode=1777")
    linux.mount("mqueue", f"{dev}/mqueue", "mqueue", _QUIETER)
    for name, target in _LINKS.items():
        (dev / name).symlink_to(target)
