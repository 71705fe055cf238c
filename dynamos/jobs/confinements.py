"""What stands between a service and the machine: namespaces where they can be had, else a process of its own.

A confinement is used in this order: `enter` and `furnish` in the keeper before it forks the service, then `lower` in
the keeper and `seal` in the service. Each gives the names of what holds from then on.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from dynamos.jobs import limits, linux, privileges, seccomp
from dynamos.jobs.roots import DATA, HOST, SCRATCH, SERVICE, covers
from dynamos.jobs.specs import StepSpec

_FLAGS = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
_SHOWN = linux.ATTR_RDONLY | linux.ATTR_NOSUID | linux.ATTR_NODEV


class Confinement(Protocol):
    """How one service is kept apart. After `furnish`: where it finds its data and scratch, and its command line."""

    data: str
    scratch: str
    argv: list[str]

    def enter(self) -> tuple[str, ...]:
        """Leave what the zygote shares with others."""
        ...

    def furnish(self, spec: StepSpec, owners: int) -> tuple[str, ...]:
        """Bring what the step may use: scratch, data, its program. `owners`: the namespace that maps data's owner."""
        ...

    def lower(self) -> None:
        """Give up what the keeper does not need to watch."""
        ...

    def seal(self, spec: StepSpec, *, together: Collection[str]) -> tuple[str, ...]:
        """Give up everything, in the process that is to run the service. `together`: what its control group limits."""
        ...

    def clear(self) -> None:
        """Remove what would outlive the keeper."""
        ...


class Namespaces:
    """Fresh user, mount, pid, net, ipc and uts namespaces around each service (the keeper is born in its pid's)."""

    def __init__(self, user: int, shown: Collection[str]) -> None:
        self.data, self.scratch, self.argv = DATA, SCRATCH, list[str]()
        self._user = user
        self._shown = shown

    def enter(self) -> tuple[str, ...]:
        linux.unshare(linux.NEW_MOUNT | linux.NEW_NET | linux.NEW_IPC | linux.NEW_UTS)
        socket.sethostname("service")
        linux.unmount("/proc")
        try:
            linux.mount("proc", "/proc", "proc", _FLAGS, "subset=pid")
        except OSError:  # kernels before 5.8 cannot hide the rest; the service owns nothing there
            linux.mount("proc", "/proc", "proc", _FLAGS)
        return ("mount", "pid", "network", "ipc", "uts")

    def furnish(self, spec: StepSpec, owners: int) -> tuple[str, ...]:
        size = f"mode=0700,uid={self._user},gid={self._user_group()},size={spec.scratch},nr_inodes=16384"
        linux.mount("scratch", SCRATCH, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, size)
        if spec.data:
            self._bring_data(HOST + spec.data, owners)
        self.argv = self._bring(list(spec.command), spec.folder)
        linux.unmount(HOST)
        os.chdir(SCRATCH)
        return ("read-only", "scratch")

    def lower(self) -> None:
        privileges.become(self._user)
        linux.set_no_capabilities()
        privileges.forbid_new()
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)  # after the change of user, which clears it

    def seal(self, spec: StepSpec, *, together: Collection[str]) -> tuple[str, ...]:
        held = []
        other = os.geteuid() != self._user
        privileges.become(self._user)
        try:
            privileges.enter_user_namespace(inner=privileges.INNER_ID)
            held.append("user")
        except OSError:
            if not other:
                raise  # as the zygote's own user it would have power over the mounts
        held += limits.apply(spec, own_user="user" in held, together=together)
        privileges.drop_capabilities()
        privileges.forbid_new()
        seccomp.install()
        return (*held, "capabilities", "seccomp", *(("own-uid",) if other else ()))

    def clear(self) -> None:
        """Nothing is left of namespaces when their last process ends."""

    def _user_group(self) -> int:
        return self._user if self._user != os.geteuid() else os.getegid()

    def _bring_data(self, source: str, owners: int) -> None:
        attributes = _SHOWN | linux.ATTR_NOEXEC
        if owners >= 0:
            with suppress(OSError):  # a file system that cannot show other owners; what everybody may read is left
                linux.bind(source, DATA, attributes, user_namespace=owners)
                return
        linux.bind(source, DATA, attributes)

    def _bring(self, argv: list[str], real: str) -> list[str]:
        """Show the folder of a program that lies outside what everybody sees, and name it as it is seen."""
        if not real or any(covers(path, argv[0]) for path in self._shown):
            return argv
        linux.bind(HOST + real, SERVICE, _SHOWN)
        folder = str(Path(argv[0]).parent)
        return [SERVICE + word[len(folder) :] if covers(folder, word) else word for word in argv]


class Plain:
    """A process of its own with limits: what there is on every POSIX system. Says honestly that it is no more."""

    def __init__(self) -> None:
        self.data, self.scratch, self.argv = "", "", list[str]()

    def enter(self) -> tuple[str, ...]:
        if sys.platform == "linux":
            linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)  # so that nobody escapes the keeper by double fork
        return ("process",)

    def furnish(self, spec: StepSpec, owners: int) -> tuple[str, ...]:  # noqa: ARG002
        self.data, self.argv = spec.data, list(spec.command)
        self.scratch = tempfile.mkdtemp(prefix="dynamos-scratch-")
        os.chdir(self.scratch)
        return ()

    def lower(self) -> None:
        """The keeper has no more than the service."""

    def seal(self, spec: StepSpec, *, together: Collection[str]) -> tuple[str, ...]:
        held = limits.apply(spec, own_user=False, together=together)
        if not seccomp.available():
            return held
        with suppress(OSError):
            linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
            seccomp.install()
            return (*held, "seccomp")
        return held

    def clear(self) -> None:
        shutil.rmtree(self.scratch, ignore_errors=True)
