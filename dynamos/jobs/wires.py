"""Messages between the agent, its zygote and the keepers: JSON over a stream socket, with file descriptors."""

from __future__ import annotations

import json
import os
import socket
import struct
from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

Message = dict[str, Any]

_LENGTH = struct.Struct("!I")
_MOST_DESCRIPTORS = 253  # SCM_MAX_FD
_CLOSE_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


def pair() -> tuple[socket.socket, socket.socket]:
    """Give the two ends of a wire."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)


def pack(message: Message) -> bytes:
    """Give the bytes of one message."""
    body = json.dumps(message, separators=(",", ":")).encode()
    return _LENGTH.pack(len(body)) + body


def send(wire: socket.socket, message: Message, descriptors: Sequence[int] = ()) -> None:
    """Send one message with copies of `descriptors`, which stay the caller's to close. Raises OSError."""
    data = memoryview(pack(message))
    sent = _send(wire, data, descriptors)
    if sent < len(data):
        wire.sendall(data[sent:])


class Outbox:
    """Messages that wait until the other end reads. Two ends that both wait to write would wait for ever."""

    def __init__(self, wire: socket.socket) -> None:
        self._wire = wire
        self._letters: deque[tuple[memoryview, list[int]]] = deque()

    def __bool__(self) -> bool:
        return bool(self._letters)

    def put(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Take a message and copies of its descriptors, and send what goes now. Raises OSError: nobody is there."""
        self._letters.append((memoryview(pack(message)), [os.dup(descriptor) for descriptor in descriptors]))
        self.flush()

    def flush(self) -> None:
        """Send what goes without waiting. Raises OSError: nobody is there."""
        while self._letters:
            data, descriptors = self._letters[0]
            try:
                count = _send(self._wire, data, descriptors, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            close_all(descriptors)  # they travel with the first byte
            if count < len(data):
                self._letters[0] = (data[count:], [])
            else:
                self._letters.popleft()

    def discard(self) -> None:
        """Forget what has not been sent."""
        while self._letters:
            close_all(self._letters.popleft()[1])


def receive(wire: socket.socket) -> tuple[Message, list[int]] | None:
    """Wait for one message and its descriptors, which are the caller's now. None: the other end is gone."""
    try:
        head, descriptors = _receive(wire, _LENGTH.size)
        head += _exactly(wire, _LENGTH.size - len(head)) if head else b""
        if not head:
            return None
        message: Message = json.loads(_exactly(wire, _LENGTH.unpack(head)[0]))
    except (ConnectionError, EOFError):
        return None
    return message, descriptors


class Frames:
    """Puts messages without descriptors together from what a socket gives."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """Take what arrived and give every message that is complete."""
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._buffer)[0]
            if len(self._buffer) < end:
                return
            message = json.loads(self._buffer[_LENGTH.size : end])
            del self._buffer[:end]
            yield message


def close_all(descriptors: Iterable[int]) -> None:
    """Close file descriptors; one that is closed already is no mistake."""
    for descriptor in descriptors:
        with suppress(OSError):
            os.close(descriptor)


# socket.send_fds and socket.recv_fds take flags, but before Python 3.13 they do nothing with them.


def _send(wire: socket.socket, data: memoryview, descriptors: Sequence[int], flags: int = 0) -> int:
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))] if descriptors else []
    return wire.sendmsg([data], rights, flags)


def _receive(wire: socket.socket, size: int) -> tuple[bytes, list[int]]:
    descriptors = array("i")
    room = socket.CMSG_LEN(_MOST_DESCRIPTORS * descriptors.itemsize)
    data, ancillary, _, _ = wire.recvmsg(size, room, _CLOSE_ON_EXEC)
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
    return data, descriptors.tolist()


def _exactly(wire: socket.socket, size: int) -> bytes:
    parts = []
    while size:
        part = wire.recv(size)
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
