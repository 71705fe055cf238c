"""Children of an init: programs that it runs, and files that it writes and reads, each in a process of its own.

Only the standard library: the first process of every node imports this.
"""

from __future__ import annotations

import fcntl
import os
import signal
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NOT_FOUND, NOT_ALLOWED, FAILED = 127, 126, 125
"""Exit codes as a shell has them: nothing of that name, not allowed; and ours for everything else."""

_CHUNK = 1 << 20
_BEYOND = 256
_SIGNALS = (signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGXFSZ)


def fork(work: Callable[[], object], fds: Sequence[int], *, user: str = "root") -> int:
    """Fork a child that does `work` in a session of its own, with these descriptors as 0, 1, 2, ...; give its pid."""
    pid = os.fork()
    if pid:
        return pid
    code = FAILED
    try:
        os.setsid()
        _take(fds)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        os.umask(0o022)
        _become(user)
        work()
        code = 0
    except OSError as error:
        code = {FileNotFoundError: NOT_FOUND, PermissionError: NOT_ALLOWED}.get(type(error), FAILED)
        say(f"{error.strerror}: {error.filename}" if error.filename else str(error))
    except BaseException:  # noqa: BLE001  the top of the process
        say(traceback.format_exc())
    os._exit(code)


def end(pid: int, number: int) -> None:
    """Send a signal to a child and what it has started in its session."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        # It has no session of its own yet.
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def program(message: dict[str, Any]) -> Callable[[], NoReturn]:
    """Give the work of becoming the program that a message names, in a clean environment."""
    argv = [str(word) for word in message["argv"]]
    env = environment(str(message.get("user") or "root")) | (message.get("env") or {})

    def become() -> NoReturn:
        os.chdir(message.get("cwd") or "/")
        try:
            os.execvpe(argv[0], argv, env)  # noqa: S606
        except FileNotFoundError:
            raise FileNotFoundError(2, "no such program", argv[0]) from None

    return become


def environment(user: str) -> dict[str, str]:
    """Give the whole environment that a program has."""
    home = "/root" if user == "root" else f"/home/{user}"
    return {"PATH": PATH, "HOME": home, "USER": user, "LOGNAME": user, "LANG": "C.UTF-8"}


def has(name: str, path: str) -> bool:
    """Tell whether there is a program of that name."""
    places = [""] if "/" in name else path.split(":")
    return any(os.access(Path(place, name), os.X_OK) for place in places)


def put(path: str, mode: int) -> None:
    """Write standard input to a file, with its folders; nobody sees half of it."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    near = target.with_name(f".{target.name}.{os.getpid()}")
    fd = os.open(near, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        _copy(0, fd)
        os.fchmod(fd, mode)
        near.rename(target)
    except OSError:
        near.unlink()
        raise
    finally:
        os.close(fd)


def get(path: str) -> None:
    """Write a file to standard output."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _copy(fd, 1)
    finally:
        os.close(fd)


def say(text: str) -> None:
    """Write to standard error, which may be gone."""
    with suppress(OSError):
        os.write(2, text.encode() + b"\n")


def _take(fds: Sequence[int]) -> None:
    """Make these descriptors 0, 1, 2 and so on, in this order; the others close when a program is run."""
    lifted = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _BEYOND) for fd in fds]
    for number, fd in enumerate(lifted):
        os.dup2(fd, number, inheritable=True)
        os.close(fd)


def _become(user: str) -> None:
    if user == "root":
        return
    entries = (line.split(":") for line in Path("/etc/passwd").read_text(encoding="utf-8").splitlines())
    found = next((entry for entry in entries if entry[0] == user), None)
    if found is None:
        raise PermissionError(1, "no such user", user)
    uid, gid = int(found[2]), int(found[3])
    os.initgroups(user, gid)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def _copy(source: int, target: int) -> None:
    while block := os.read(source, _CHUNK):
        view = memoryview(block)
        while view:
            view = view[os.write(target, view) :]
