"""Calls to an init: connect to its socket, ask for one thing, and tell what came of it in the project's own errors."""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

from dynamos.kit.errors import Broken, Conflict, NotFound, TimedOut, Unavailable
from dynamos.testbed import messages

SOCKET = "init.sock"
_CHUNK = 1 << 16
_CREDENTIALS = struct.Struct("3i")


def listen(folder: Path) -> socket.socket:
    """Make the socket of an init in its folder; whoever is to serve it begins to listen."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with _short(folder) as place:
        with suppress(FileNotFoundError):
            os.unlink(f"{place}/{SOCKET}")
        sock.bind(f"{place}/{SOCKET}")
    return sock


def connect(folder: Path) -> socket.socket:
    """Connect to the init whose folder it is. Raises NotFound where nobody serves it."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with _short(folder) as place:
            sock.connect(f"{place}/{SOCKET}")
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        sock.close()
        raise NotFound(f"{folder.name!r} is not there", where=str(folder), hint="bring the testbed up first") from None
    except OSError:
        sock.close()
        raise
    return sock


def pid_of(connection: socket.socket) -> int:
    """Give the pid, as this process sees it, of the init on the other side."""
    size = _CREDENTIALS.size
    pid: int = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))[0]
    return pid


def ask(
    folder: Path, message: Mapping[str, Any], fds: Sequence[int] = (), *, within: float = 30.0
) -> tuple[dict[str, Any], list[int]]:
    """Ask an init for one thing and give its answer, with the descriptors that came along."""
    with closing(connect(folder)) as connection:
        messages.send(connection, message, fds)
        connection.settimeout(within)
        try:
            answer, received = messages.receive(connection)
        except TimeoutError:
            raise TimedOut(f"{folder.name!r} did not {message['do']} within {within:g} s", where=str(folder)) from None
        except ConnectionError:
            answer, received = None, []
    return checked(answer, folder), received


def checked(answer: dict[str, Any] | None, folder: Path) -> dict[str, Any]:
    """Give an answer that is none of failure."""
    if answer is None:
        raise Unavailable(f"{folder.name!r} ended while it worked", where=str(folder))
    if "error" in answer:
        kinds = {2: NotFound, 17: Conflict}
        raise kinds.get(answer.get("errno", 0), Broken)(str(answer["error"]), where=str(folder))
    return answer


def finish(
    folder: Path, message: Mapping[str, Any], *, stdin: bytes | None = None, fds: Sequence[int] = (), within: float
) -> tuple[int, bytes, bytes]:
    """Have an init run something to its end, and give its exit code and output. Raises TimedOut, and ends it then."""
    with ExitStack() as stack:
        source = stack.enter_context(_source(stdin))
        outputs = [_pipe(stack) for _ in range(2)]
        connection = stack.enter_context(closing(connect(folder)))
        messages.send(connection, message, [source.fileno(), *(write.fileno() for _, write in outputs), *fds])
        for _, write in outputs:
            write.close()
        readers = {read.fileno(): bytearray() for read, _ in outputs}
        code = _collect(connection, readers, folder, message, time.monotonic() + within)
        stdout, stderr = (bytes(text) for text in readers.values())
        return code, stdout, stderr


def _collect(
    connection: socket.socket, readers: dict[int, bytearray], folder: Path, message: Mapping[str, Any], end: float
) -> int:
    """Read output until the work has ended, and then what is there already: a child may hold on to a pipe for ever."""
    poll = select.poll()
    open_fds = set(readers)
    for fd in (connection.fileno(), *readers):
        os.set_blocking(fd, False)
        poll.register(fd, select.POLLIN)
    while True:
        events = poll.poll(max(0.0, end - time.monotonic()) * 1000)
        if not events:
            what = " ".join(map(str, message.get("argv", [message["do"], message.get("path", "")])))
            raise TimedOut(f"{what!r} did not end in time", where=folder.name)
        for fd, _ in events:
            if fd in open_fds and not _drain(fd, readers[fd]):
                poll.unregister(fd)
                open_fds.discard(fd)
        if any(fd == connection.fileno() for fd, _ in events):
            answer = checked(_received(connection), folder)
            for fd in open_fds:
                _drain(fd, readers[fd])
            return int(answer["code"])


def _received(connection: socket.socket) -> dict[str, Any] | None:
    try:
        return messages.receive(connection)[0]
    except ConnectionError:
        return None


def _drain(fd: int, into: bytearray) -> bool:
    """Read what is there; False at the end."""
    while True:
        try:
            block = os.read(fd, _CHUNK)
        except BlockingIOError:
            return True
        if not block:
            return False
        into += block


def _source(content: bytes | None) -> Any:
    """Give a file that a child reads as its standard input."""
    if not content:
        return open(os.devnull, "rb")  # noqa: SIM115, PTH123
    file = open(os.memfd_create("stdin", os.MFD_CLOEXEC), "w+b", buffering=0)  # noqa: SIM115, PTH123
    view = memoryview(content)
    while view:
        view = view[file.write(view) or 0 :]
    file.seek(0)
    return file


def _pipe(stack: ExitStack) -> tuple[Any, Any]:
    read, write = os.pipe()
    return (
        stack.enter_context(os.fdopen(read, "rb", buffering=0)),
        stack.enter_context(os.fdopen(write, "wb", buffering=0)),
    )


class _short:  # noqa: N801
    """A path of a folder that fits into a socket's address, however long its own is."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fd = -1

    def __enter__(self) -> str:
        self._fd = os.open(self._folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._fd}"

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
