"""The keeper of a cluster: a small process of this machine that outlives everything of the cluster, and removes what
the kernel does not take away with the processes: its control groups.

It forks the cluster's init, the first process of a pid namespace in which everything else is. If the keeper dies the
kernel kills the init, and with it all. With an owner (a pid) the cluster ends when that process does.
Only the standard library.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import traceback
from contextlib import suppress
from typing import Any, NoReturn

from cluster import groups
from dynamos.jobs import linux
from dynamos.testbed import namespaces
from dynamos.testbed.endings import born
from dynamos.testbed.inits import Init

_QUIETER = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC


def main(text: str) -> None:
    """Keep the cluster that a text describes."""
    spec: dict[str, Any] = json.loads(text)
    os.umask(0o022)
    owner = os.pidfd_open(spec["owner"]) if spec["owner"] else -1
    # The machine's namespaces stay ours: they are left by a process that has nothing else to do.
    pid = os.fork()
    if pid == 0:
        _leave(spec)
    os.write(int(spec["tell"]), json.dumps({"pid": pid, "born": born(pid)}).encode())
    os.close(int(spec["tell"]))
    os.close(int(spec["listener"]))
    watched = [os.pidfd_open(pid), *([owner] if owner >= 0 else [])]
    select.select(watched, [], [])
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    groups.remove(spec["group"], spec["below"])


def _leave(spec: dict[str, Any]) -> NoReturn:
    """Fork the init into a pid namespace, and end when it does: who waits for us waits for all that was in it."""
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    os.close(int(spec["tell"]))
    namespaces.leave("cluster")
    pid = namespaces.fork_as_first()
    if pid == 0:
        _be_init(spec)
    os.close(int(spec["listener"]))
    os.waitpid(pid, 0)
    os._exit(0)


def _be_init(spec: dict[str, Any]) -> NoReturn:
    try:
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
        os.setsid()
        linux.mount("proc", "/proc", "proc", _QUIETER)
        linux.mount("run", "/run", "tmpfs", linux.MS_NOSUID, "mode=755")
        for folder in spec["folders"]:
            os.makedirs(folder, mode=0o755)  # noqa: PTH103
        listener = socket.socket(fileno=int(spec["listener"]))
        listener.set_inheritable(False)
        Init(listener, "container", [], shield=False).serve()
    except BaseException:  # noqa: BLE001  the top of the process
        traceback.print_exc()
    finally:
        os._exit(1)
