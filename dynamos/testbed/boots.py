"""The birth of a world: a process that leaves every namespace of the machine before its only child is the world.

`python -I -S` runs `main` with what it needs as descriptors. The lock of the testbed's folder is held by whoever is on
the way to be the world, so that nobody makes another one meanwhile.
"""

from __future__ import annotations

import gc
import json
import os
import socket
import sys
from typing import Any

from dynamos.jobs import linux
from dynamos.testbed import identities, namespaces, roots
from dynamos.testbed.endings import born
from dynamos.testbed.inits import Init


def main() -> None:
    """Make the world that the word on the command line describes, and say on its pipe what came of it."""
    spec: dict[str, Any] = json.loads(sys.argv[1])
    for name in ("tell", "listener", "file", "lock"):
        os.set_inheritable(int(spec[name]), False)
    try:
        _bear(spec)
    except OSError as error:
        _tell(spec, {"error": str(error)})
        raise SystemExit(1) from None


def _bear(spec: dict[str, Any]) -> None:
    """Leave the machine's namespaces in the only order that works, and fork the world."""
    os.setsid()
    os.umask(0o022)
    machine_root = identities.is_machine_root()
    kind = _leave_machine(list(spec["show"]), shifted=spec["shifted"])
    # Without this its children's namespaces could not be looked up in /proc.
    linux.prctl(linux.PR_SET_DUMPABLE, 1)
    go, told = os.pipe()
    linux.unshare(linux.NEW_PID)
    pid = os.fork()
    if pid == 0:
        os.close(told)
        _be_world(spec, go, shield=machine_root and kind == identities.SAME)
    os.close(go)
    facts = {"pid": pid, "born": born(pid), "name": spec["name"], "kind": kind}
    os.write(int(spec["file"]), json.dumps(facts).encode())
    os.write(told, b"1")


def _leave_machine(show: list[str], *, shifted: bool) -> str:
    """Enter the world's user namespace, with a view of the machine as root, and tell the kind of that namespace."""
    privileged = os.geteuid() == 0
    if privileged:
        linux.unshare(linux.NEW_MOUNT)
        namespaces.keep_mounts_private()
    user, kind = identities.user_namespace(privileged=privileged, shifted=shifted)
    if privileged:
        roots.machine_root(show, user if kind == identities.SHIFTED else -1)
    linux.setns(user, linux.NEW_USER)
    os.close(user)
    if not privileged:
        linux.unshare(linux.NEW_MOUNT)
        namespaces.keep_mounts_private()
        roots.machine_root(show, -1)
    if kind != identities.SINGLE:
        os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    return kind


def _be_world(spec: dict[str, Any], go: int, *, shield: bool) -> None:
    """Be the first process of the world, once whoever made it has written down who it is."""
    try:
        if not os.read(go, 1):
            os._exit(1)
        os.close(go)
        namespaces.leave(spec["name"])
        roots.world_mounts(list(spec["show"]))
        listener = socket.socket(fileno=int(spec["listener"]))
        listener.listen(128)
        _tell(spec, {})
        for name in ("file", "lock", "tell"):
            os.close(int(spec[name]))
        gc.freeze()  # what is here already is shared with every init, and stays so
        Init(listener, "world", list(spec["show"]), shield=shield).serve()
    except OSError as error:
        _tell(spec, {"error": str(error)})
    finally:
        os._exit(1)


def _tell(spec: dict[str, Any], answer: dict[str, str]) -> None:
    os.write(int(spec["tell"]), json.dumps(answer).encode())
