"""Children of an init: programs that it runs, and files that it writes and reads, each in a process of its own.

Only the standard library: the first process of every node imports this.
"""

from __future__ import annotations

import fcntl
import os
import signal
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CHUNK = 1 << 20
_BEYOND = 256
NOT_FOUND, NOT_ALLOWED, FAILED = 127, 126, 125
"""Exit codes of a shell: no such program, may not be run; and ours for a file that cannot be written or read."""


def fork(work: Callable[[], object], fds: Sequence[int], *, user: str = "root") -> int:
    """Fork a child that does `work` in a session of its own and with these descriptors as 0, 1, 2, and give its pid."""
    pid = os.fork()
    if pid:
        return pid
    code = FAILED
    try:
        os.setsid()
        _take(fds)
        for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.umask(0o022)
        _become(user)
        work()
        code = 0
    except OSError as error:
        kinds = {FileNotFoundError: NOT_FOUND, PermissionError: NOT_ALLOWED}
        code = kinds.get(type(error), FAILED)
        say(f"{error.strerror}: {error.filename}" if error.filename else str(error))
    except BaseException:  # noqa: BLE001: the top of the process
        say(traceback.format_exc())
    os._exit(code)


def program(message: dict[str, Any]) -> Callable[[], NoReturn]:
    """Give the work of becoming the program that a message names."""
    argv = [str(word) for word in message["argv"]]
    user = str(message.get("user") or "root")
    home = "/root" if user == "root" else f"/home/{user}"
    env = {"PATH": PATH, "HOME": home, "USER": user, "LOGNAME": user, "LANG": "C.UTF-8", **(message.get("env") or {})}

    def become() -> NoReturn:
        os.chdir(message.get("cwd") or "/")
        try:
            os.execvpe(argv[0], argv, env)
        except FileNotFoundError:
            raise FileNotFoundError(2, "no such program", argv[0]) from None

    return become


def put(path: str, mode: int) -> None:
    """Write standard input to a file, with its folders; nobody sees half of it."""
    os.makedirs(os.path.dirname(path) or "/", exist_ok=True)
    near = f"{path}.{os.getpid()}.new"
    fd = os.open(near, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        _copy(0, fd)
        os.fchmod(fd, mode)
        os.rename(near, path)
    except OSError:
        os.unlink(near)
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


def _take(fds: Sequence[int]) -> None:
    """Make these descriptors 0, 1, 2 and so on, in this order; the others close when a program is run."""
    lifted = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _BEYOND) for fd in fds]
    for number, fd in enumerate(lifted):
        os.dup2(fd, number, inheritable=True)
        os.close(fd)


def _become(user: str) -> None:
    if user == "root":
        return
    with open("/etc/passwd", encoding="utf-8") as file:
        fields = [line.split(":") for line in file]
    found = next((line for line in fields if line[0] == user), None)
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


def say(text: str) -> None:
    """Write to standard error, which may be gone."""
    try:
        os.write(2, text.encode() + b"\n")
    except OSError:
        pass
