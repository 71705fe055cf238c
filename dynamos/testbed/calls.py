"""Calls to an init: connect to its socket, ask for one thing, and tell what came of it in the project's own errors."""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, BinaryIO

from dynamos.kit.errors import Broken, Conflict, DynamosError, NotFound, TimedOut, Unavailable
from dynamos.testbed import messages

_CHUNK = 1 << 16
_CREDENTIALS = struct.Struct("3i")
_KINDS: dict[int, type[DynamosError]] = {2: NotFound, 17: Conflict}
"""Errors by the number that the kernel has for them."""


def connect(folder: Path) -> socket.socket:
    """Connect to the init whose folder it is. Raises NotFound where nobody serves it."""
    try:
        return messages.connect(folder)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        raise NotFound(f"{folder.name!r} is not there", where=str(folder), hint="bring the testbed up") from None
    except OSError as error:
        raise Unavailable(f"{folder.name!r} cannot be reached: {error.strerror}", where=str(folder)) from None


def pid_of(connection: socket.socket) -> int:
    """Give the pid, as this process sees it, of the init on the other side."""
    pid: int = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))[0]
    return pid


def ask(
    folder: Path, message: Mapping[str, Any], fds: Sequence[int] = (), *, within: float = 30.0
) -> tuple[dict[str, Any], list[int]]:
    """Ask an init for one thing and give its answer, with the descriptors that came along.

    Raises NotFound, Conflict, TimedOut, Unavailable where it ended meanwhile, Broken.
    """
    with closing(connect(folder)) as connection:
        connection.settimeout(within)
        try:
            messages.send(connection, message, fds)
            answer, received = messages.receive(connection)
        except TimeoutError:
            raise TimedOut(f"{folder.name!r} did not {message['do']} within {within:g} s", where=str(folder)) from None
        except ConnectionError:
            answer, received = None, []
    return _checked(answer, folder), received


def finish(
    folder: Path, message: Mapping[str, Any], *, stdin: bytes | None = None, fds: Sequence[int] = (), within: float
) -> tuple[int, bytes, bytes]:
    """Have an init run something to its end, and give its exit code and output. Raises TimedOut, and ends it then."""
    with ExitStack() as stack:
        source = stack.enter_context(_source(stdin))
        pipes = [_pipe(stack) for _ in range(2)]
        connection = stack.enter_context(closing(connect(folder)))
        try:
            messages.send(connection, message, [source.fileno(), *(write.fileno() for _, write in pipes), *fds])
        except ConnectionError:
            _checked(None, folder)
        for _, write in pipes:
            write.close()
        outputs = {read.fileno(): bytearray() for read, _ in pipes}
        code = _collect(connection, outputs, folder, message, within)
        stdout, stderr = (bytes(text) for text in outputs.values())
        return code, stdout, stderr


def _collect(
    connection: socket.socket, outputs: dict[int, bytearray], folder: Path, message: Mapping[str, Any], within: float
) -> int:
    """Read output until the work has ended, and then what is there already: a child may hold on to a pipe for ever."""
    end = time.monotonic() + within
    poll = select.poll()
    unfinished = set(outputs)
    for fd in (connection.fileno(), *outputs):
        os.set_blocking(fd, False)
        poll.register(fd, select.POLLIN)
    while True:
        events = {fd for fd, _ in poll.poll(max(0.0, end - time.monotonic()) * 1000)}
        if not events:
            what = " ".join(map(str, message.get("argv", [message["do"], message.get("path", "")])))
            raise TimedOut(f"{what!r} did not end within {within:g} s", where=folder.name)
        for fd in events & unfinished:
            if not _drain(fd, outputs[fd]):
                poll.unregister(fd)
                unfinished.discard(fd)
        if connection.fileno() in events:
            answer = _checked(_received(connection), folder)
            for fd in unfinished:
                _drain(fd, outputs[fd])
            return int(answer["code"])


def _checked(answer: dict[str, Any] | None, folder: Path) -> dict[str, Any]:
    """Give an answer that is none of failure."""
    if answer is None:
        raise Unavailable(f"{folder.name!r} ended while it worked", where=str(folder))
    if "error" in answer:
        raise _KINDS.get(answer.get("errno", 0), Broken)(str(answer["error"]), where=folder.name)
    return answer


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


def _source(content: bytes | None) -> BinaryIO:
    """Give a file that a child reads as its standard input."""
    if not content:
        return Path(os.devnull).open("rb")
    file = os.fdopen(os.memfd_create("stdin", os.MFD_CLOEXEC), "w+b")
    file.write(content)
    file.seek(0)
    return file


def _pipe(stack: ExitStack) -> tuple[BinaryIO, BinaryIO]:
    read, write = os.pipe()
    return stack.enter_context(os.fdopen(read, "rb")), stack.enter_context(os.fdopen(write, "wb"))
