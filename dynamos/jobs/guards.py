"""The guard of a zygote: starts it in a pid namespace of its own, and cleans up behind it.

The agent dies: the zygote sees the end of its wire and ends. The zygote dies: the kernel ends every keeper and service
in its pid namespace, and the guard removes its control groups. The guard dies: the kernel ends the zygote.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import NoReturn

from dynamos.jobs import descriptors, linux, privileges, wires
from dynamos.jobs.cgroups import Groups
from dynamos.jobs.specs import Settings
from dynamos.jobs.zygotes import Zygote

logger = logging.getLogger(__name__)

_ENDING_SECONDS = 3.0


def guard(settings: Settings, wire: socket.socket) -> NoReturn:
    """Live as the guard: start the zygote, and clean up behind it. For a process just forked or started for this."""
    code = 1
    try:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        descriptors.keep_only([0, 1, 2, wire.fileno()])
        groups = Groups.open(settings.party) if sys.platform == "linux" else None
        try:
            code = _guard(settings, wire, groups)
        finally:
            if groups:
                groups.remove()
    except BaseException:
        logger.exception("guard.broken")
    finally:
        os._exit(code)


def _guard(settings: Settings, wire: socket.socket, groups: Groups | None) -> int:
    """Run a zygote until it ends. A sandbox that cannot be had is told to the agent, which decides."""
    user = privileges.outer_id(settings.party)
    if settings.mode == "sandbox":
        try:
            if not linux.available():
                raise OSError("namespaces need Linux on x86_64 or aarch64")  # noqa: TRY301
            if os.geteuid() != 0:
                privileges.enter_user_namespace(inner=os.geteuid())
            linux.unshare(linux.NEW_PID)
        except OSError as error:
            wires.send(wire, {"hello": {"mode": "", "isolation": [], "why": str(error)}})
            return 1
    pid = os.fork()
    if pid == 0:
        _live(settings, wire, groups, user=user)
    _outlast(pid, wire)
    return 0


def _outlast(pid: int, wire: socket.socket) -> None:
    """Wait for the zygote's end. When the agent has gone, it gets a bounded time for it."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    poll = select.poll()
    poll.register(reading, select.POLLIN)
    poll.register(wire.fileno(), 0)  # only its end is of interest
    patience: float | None = None
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        if patience is not None and time.monotonic() > patience:
            os.kill(pid, signal.SIGKILL)
        for descriptor, event in poll.poll(None if patience is None else 100):
            if descriptor == reading:
                os.read(reading, 4096)
            elif event:
                patience = time.monotonic() + _ENDING_SECONDS
                poll.unregister(wire.fileno())


def _live(settings: Settings, wire: socket.socket, groups: Groups | None, *, user: int) -> NoReturn:
    """Live as the zygote: say hello with what holds, or with why nothing does."""
    greeted = False
    try:
        if sys.platform == "linux":
            linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
        zygote = Zygote(settings, wire, groups, user=user)
        isolation = zygote.prepare()
        wires.send(wire, {"hello": {"mode": settings.mode, "isolation": isolation, "why": ""}})
        greeted = True
        zygote.serve()
    except BaseException as error:
        logger.exception("zygote.broken")
        if not greeted:
            with suppress(OSError):
                why = f"{type(error).__name__}: {error}"
                wires.send(wire, {"hello": {"mode": "", "isolation": [], "why": why}})
    finally:
        os._exit(0)
