"""The birth of a world: a process that leaves every namespace of the machine before its first child is the world.

`python -I -S` runs `main` with what it needs as descriptors; nothing but a file in the testbed's folder tells of it.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from typing import Any

from dynamos.jobs import linux
from dynamos.testbed import namespaces, roots
from dynamos.testbed.inits import Init

_ROOT_BASE = 0x5D000000
_IDS = 65536


def main() -> None:
    """Make the world that the words on the command line describe; the caller reads the end of it from the pipe."""
    spec: dict[str, Any] = json.loads(sys.argv[1])
    tell = int(spec["tell"])
    try:
        pid = _bear(spec, tell)
    except OSError as error:
        os.write(tell, json.dumps({"error": str(error), "errno": error.errno}).encode())
        raise SystemExit(1) from None
    raise SystemExit(0 if pid else 1)


def _bear(spec: dict[str, Any], tell: int) -> int:
    """Leave the machine's namespaces in the only order that works, and fork the world."""
    os.setsid()
    os.umask(0o022)
    show = list(spec["show"])
    for name in ("tell", "listener", "file"):
        os.set_inheritable(int(spec[name]), False)
    privileged = os.geteuid() == 0
    if privileged:
        linux.unshare(linux.NEW_MOUNT)
        linux.mount("", "/", "", linux.MS_REC | linux.MS_PRIVATE)
        user = namespaces.user_namespace(dict.fromkeys(("uid_map", "gid_map"), f"0 {_ROOT_BASE} {_IDS}\n"))
        roots.machine_root(show, user)
        linux.setns(user, linux.NEW_USER)
    else:
        maps = {"uid_map": f"0 {os.getuid()} 1\n", "gid_map": f"0 {os.getgid()} 1\n"}
        user = namespaces.user_namespace(maps)
        linux.setns(user, linux.NEW_USER)
        linux.unshare(linux.NEW_MOUNT)
        linux.mount("", "/", "", linux.MS_REC | linux.MS_PRIVATE)
        roots.machine_root(show, -1)
    os.close(user)
    if privileged:
        os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    linux.prctl(linux.PR_SET_DUMPABLE, 1)  # else its children's namespaces could not be looked up in /proc
    go, told = os.pipe()
    linux.unshare(linux.NEW_PID)
    pid = os.fork()
    if pid == 0:
        os.close(told)
        _be_world(spec, go, show)
    os.close(go)
    os.write(int(spec["file"]), json.dumps({"pid": pid, "born": _born(pid), "name": spec["name"]}).encode())
    os.write(told, b"1")
    return pid


def _be_world(spec: dict[str, Any], go: int, show: list[str]) -> None:
    """Be the first process of the world, once whoever made it has written down who it is."""
    tell = int(spec["tell"])
    try:
        if not os.read(go, 1):
            os._exit(1)
        os.close(go)
        namespaces.leave(spec["name"])
        roots.world_mounts()
        listener = socket.socket(fileno=int(spec["listener"]))
        os.close(int(spec["file"]))
        listener.listen(128)
        os.write(tell, b"{}")
        os.close(tell)
        Init(listener, show, inner="node").serve()
    except OSError as error:
        os.write(tell, json.dumps({"error": str(error), "errno": error.errno}).encode())
    finally:
        os._exit(1)


def _born(pid: int) -> int:
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        return int(file.read().rpartition(")")[2].split()[19])
