"""Messages between the agent, its zygote and the keepers: JSON over a stream socket, with file descriptors."""

from __future__ import annotations

import json
import os
import socket
import struct
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


def send(wire: socket.socket, message: Message, descriptors: Sequence[int] = ()) -> None:
    """Send one message with copies of `descriptors`, which stay the caller's to close.

    Raises OSError: the other end is gone, or did not read within the socket's timeout.
    """
    body = json.dumps(message, separators=(",", ":")).encode()
    data = memoryview(_LENGTH.pack(len(body)) + body)
    sent = socket.send_fds(wire, [data], list(descriptors))
    if sent < len(data):
        wire.sendall(data[sent:])


def receive(wire: socket.socket) -> tuple[Message, list[int]] | None:
    """Wait for one message and its descriptors, which are the caller's now. None: the other end is gone."""
    try:
        head, descriptors, _, _ = socket.recv_fds(wire, _LENGTH.size, _MOST_DESCRIPTORS, _CLOSE_ON_EXEC)
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


def _exactly(wire: socket.socket, size: int) -> bytes:
    parts = []
    while size:
        part = wire.recv(size)
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
