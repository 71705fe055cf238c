"""What this machine allows: tried for real, and told as data for `dynamos doctor`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from dynamos.jobs import linux
from dynamos.jobs.clients import Hello, ZygoteClient
from dynamos.jobs.specs import Settings
from dynamos.kit.errors import DynamosError, NotFound

_TRIAL_SECONDS = 20.0
_USER_HINT = "allow user namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone), or run as root"
_GROUP_HINT = "run as root, or in a delegated control group (systemd: Delegate=yes); limits per process hold meanwhile"
_NAMESPACES = {
    "user": linux.NEW_USER,
    "mount": linux.NEW_MOUNT,
    "pid": linux.NEW_PID,
    "network": linux.NEW_NET,
    "ipc": linux.NEW_IPC,
    "uts": linux.NEW_UTS,
}
_MEASURES = {
    # name of what should hold: (what it means, what to do where it does not)
    "user": ("services have a user namespace of their own", _USER_HINT),
    "mount": ("services see a small tree of files of their own", _USER_HINT),
    "pid": ("services see no process but their own", _USER_HINT),
    "network": ("services have no network", _USER_HINT),
    "ipc": ("services share no memory or queue with others", _USER_HINT),
    "uts": ("services do not see the machine's name", _USER_HINT),
    "read-only": ("services cannot write outside their scratch", "a kernel from 5.12 on is needed"),
    "scratch": ("scratch space is limited", ""),
    "capabilities": ("services have no capabilities", ""),
    "seccomp": (
        "services cannot make dangerous system calls",
        "a kernel with seccomp on x86_64 or aarch64 is needed",
    ),
    "memory": ("memory is limited for all processes of a step together", _GROUP_HINT),
    "processes": ("the number of processes is limited", _GROUP_HINT),
    "cpu": ("CPU time is limited", ""),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried: whether it holds, what that means or why not, and what to do."""

    name: str
    ok: bool
    detail: str
    hint: str = ""


def probe() -> list[Finding]:
    """Take an empty step through the sandbox and tell what held; where it cannot be had, which part is missing."""
    hello = rehearse()
    works = hello.mode == "sandbox"
    found = [Finding("sandbox", works, "services run isolated" if works else hello.why, "" if works else _USER_HINT)]
    for name, (meaning, hint) in _MEASURES.items():
        ok, why = name in hello.isolation, "does not hold on this machine"
        if not works and name in _NAMESPACES:
            why = _tried(name)
            ok = not why
        found.append(Finding(name, ok, meaning if ok else why, "" if ok else hint))
    return found


def sandbox_missing() -> str:
    """Give why services cannot be isolated on this machine, or ""."""
    hello = rehearse()
    return "" if hello.mode == "sandbox" else hello.why


def rehearse() -> Hello:
    """Start a zygote without services for a moment and give its first word."""
    client = ZygoteClient.start(Settings("probe", required=True, programs=__name__, spare=0))
    try:
        return client.hello(within=_TRIAL_SECONDS)
    except DynamosError as error:
        return Hello("", (), error.message)
    finally:
        client.dismiss()


def find(name: str) -> Callable[[object], int]:
    """A rehearsal has no services."""
    raise NotFound(f"there is no service {name!r} in a rehearsal")


def preload() -> None:
    """A rehearsal imports nothing."""


def _tried(name: str) -> str:
    """Try one namespace in a process of its own; give why it cannot be had, or ""."""
    done = subprocess.run(
        [sys.executable, "-m", __name__, name], capture_output=True, text=True, check=False, timeout=_TRIAL_SECONDS
    )
    return "" if done.returncode == 0 else done.stderr.strip().splitlines()[-1] if done.stderr else "it failed"


def _try(name: str) -> NoReturn:
    if not linux.available():
        sys.exit("this needs Linux on x86_64 or aarch64")
    try:
        linux.unshare(linux.NEW_USER | _NAMESPACES[name])
    except OSError as error:
        sys.exit(str(error))
    sys.exit(0)


if __name__ == "__main__":
    _try(sys.argv[1])
