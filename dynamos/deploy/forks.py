"""Children of the supervisor: forked from one warm process, so that nobody imports a library twice.

The rules that make forking safe are kept here: the parent has one thread and has never used an event loop, gRPC or a
database; the child is in its own session, has default signal handlers, its own log, and no descriptor but its own. A
child may live somewhere else than its parent: in the namespaces of a node.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import os
import select
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Protocol

Main = Callable[[int], int]
"""What a child does: takes the descriptor on which it says that it is ready, gives its exit code."""

FIRST_HANDED = 4
"""The descriptor that the first one handed to a child has there; the others follow."""

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15


class Place(Protocol):
    """Where children live, if not where their parent does."""

    def births(self) -> AbstractContextManager[None]:
        """Let children that are forked meanwhile be born there. Raises DynamosError where the place is not there."""
        ...

    def enter(self) -> None:
        """Enter it, as a child that was just born there. Raises DynamosError, OSError."""
        ...


class Here:
    """Where the parent is."""

    def births(self) -> AbstractContextManager[None]:
        return nullcontext()

    def enter(self) -> None:
        return


HERE = Here()


@dataclass(frozen=True, slots=True)
class Child:
    """A child process, and the descriptor on which it says that it is ready."""

    pid: int
    ready: int


def fork(main: Main, *, log: Path, name: str = "", place: Place = HERE, handed: Sequence[int] = ()) -> Child:
    """Run `main` in a forked child that dies with this process. Its output goes to `log`, its input is empty.

    `name` is what `ps` and `top` show of it, where the system lets a process be named. `handed` are descriptors that
    the child has too, from FIRST_HANDED on. Raises what `place` raises.
    """
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        ready, tell = os.pipe()
    except OSError:
        os.close(output)
        raise
    parent = _Parent()
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        with place.births():
            pid = os.fork()
            if pid == 0:
                _live(main, parent, [output, tell, *handed], name, place)
    except BaseException:
        os.close(ready)
        raise
    finally:
        parent.close()
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


class _Parent:
    """The process that forks, as its children know it: also those to whom its number means nothing."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self.fd = os.pidfd_open(self._pid) if sys.platform == "linux" else -1

    def die_together(self) -> None:
        """Ask the kernel to end this process when its parent ends, whatever ends it. Elsewhere than on Linux, look
        once. To be asked again after every change of who this process is."""
        if sys.platform != "linux":
            gone = os.getppid() != self._pid
        else:
            ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            gone = bool(select.select([self.fd], [], [], 0)[0])
        if gone:
            os._exit(1)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _call_it(name: str) -> None:
    if name and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


def _live(main: Main, parent: _Parent, descriptors: Sequence[int], name: str, place: Place) -> NoReturn:
    code = 70
    try:
        os.setsid()
        _call_it(name)
        _default_signals()
        gc.freeze()  # what was there before stays shared with the parent: no collection touches it
        gc.enable()
        tell = _only_own_descriptors(*descriptors, parent.fd)
        parent.fd = FIRST_HANDED + len(descriptors) - 2
        place.enter()
        parent.die_together()
        parent.close()
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


def _only_own_descriptors(output: int, tell: int, *handed: int) -> int:
    """Leave 0 (empty), 1 and 2 (the log), 3 (ready) and what is handed, and give 3."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    kept = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 64) for descriptor in (nothing, output, output, tell, *handed)]
    for place, descriptor in enumerate(kept):
        os.dup2(descriptor, place, inheritable=place < 3)  # noqa: PLR2004
    os.closerange(FIRST_HANDED + len(handed), _highest_descriptor() + 1)
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
