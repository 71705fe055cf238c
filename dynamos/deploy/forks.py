"""Children of the supervisor: forked from one warm process, so that nobody imports a library twice.

The rules that make forking safe are kept here: the parent has one thread and has never used an event loop, gRPC or a
database; the child is in its own session, has default signal handlers, its own log, and no descriptor but its own.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

Main = Callable[[int], int]
"""What a child does: takes the descriptor on which it says that it is ready, gives its exit code."""

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15


@dataclass(frozen=True, slots=True)
class Child:
    """A child process, and the descriptor on which it says that it is ready."""

    pid: int
    ready: int


def fork(main: Main, *, log: Path, name: str = "") -> Child:
    """Run `main` in a forked child that dies with this process. Its output goes to `log`, its input is empty.

    `name` is what `ps` and `top` show of it, where the system lets a process be named.
    """
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        ready, tell = os.pipe()
    except OSError:
        os.close(output)
        raise
    parent = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _live(main, parent, output, tell, name)
    os.close(output)
    os.close(tell)
    os.set_blocking(ready, False)
    return Child(pid, ready)


def program(argv: list[str], environment: dict[str, str]) -> Main:
    """Give a `main` that becomes another program."""

    def become(_tell: int) -> NoReturn:
        os.execve(argv[0], argv, environment)  # noqa: S606

    return become


def end_group(pid: int, number: int = signal.SIGKILL) -> None:
    """Send a signal to a child and to everything in its process group."""
    for send in (os.killpg, os.kill):
        try:
            send(pid, number)
        except (ProcessLookupError, PermissionError):
            continue


def die_with(parent: int) -> None:
    """Ask the kernel to end this process when its parent ends, whatever ends it. Linux only; elsewhere no-op."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _call_it(name: str) -> None:
    if name and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


def _live(main: Main, parent: int, output: int, tell: int, name: str) -> NoReturn:
    code = 70
    try:
        os.setsid()
        die_with(parent)
        _call_it(name)
        _default_signals()
        gc.freeze()  # what was there before stays shared with the parent: no collection touches it
        gc.enable()
        tell = _only_own_descriptors(output, tell)
        code = main(tell)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001  the top of a process: nothing above could log it
        sys.excepthook(*sys.exc_info())
    finally:
        leave(code)


def leave(code: int) -> NoReturn:
    """End this process now, with what it wrote written: the libraries in memory are not taken apart one by one."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = code or 70
    os._exit(code)


def _default_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _only_own_descriptors(output: int, tell: int) -> int:
    """Leave 0 (empty), 1 and 2 (the log) and 3 (ready), and give 3."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    kept = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 64) for descriptor in (nothing, output, output, tell)]
    for place, descriptor in enumerate(kept):
        os.dup2(descriptor, place, inheritable=place != 3)  # noqa: PLR2004
    os.closerange(4, _highest_descriptor() + 1)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    return 3


def _highest_descriptor() -> int:
    for folder in ("/proc/self/fd", "/dev/fd"):
        try:
            return max(int(name) for name in os.listdir(folder))  # noqa: PTH208
        except OSError:
            continue
    return os.sysconf("SC_OPEN_MAX")
