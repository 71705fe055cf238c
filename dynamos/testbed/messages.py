"""What goes over an init's socket: one packet a message, JSON, with file descriptors beside it.

Only the standard library, and little of it: the first process of every node imports this.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SOCKET = "init.sock"
"""The socket of an init, in its folder."""
_LARGEST = 1 << 18
_MOST_DESCRIPTORS = 64


@contextmanager
def listener(folder: Path) -> Iterator[socket.socket]:
    """Make the socket of an init in its folder; whoever is to serve it begins to listen."""
    (folder / SOCKET).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock, _short(folder) as place:
        sock.bind(f"{place}/{SOCKET}")
        yield sock


def connect(folder: Path) -> socket.socket:
    """Connect to the init whose folder it is. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with _short(folder) as place:
            sock.connect(f"{place}/{SOCKET}")
    except OSError:
        sock.close()
        raise
    return sock


def send(connection: socket.socket, message: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
    """Send one message, and copies of these descriptors with it."""
    socket.send_fds(connection, [json.dumps(message).encode()], list(fds))


def receive(connection: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """Receive one message with its descriptors; None where the other side has closed."""
    data, fds, _, _ = socket.recv_fds(connection, _LARGEST, _MOST_DESCRIPTORS)
    for fd in fds:
        os.set_inheritable(fd, False)  # recv_fds of Python 3.11 would not pass MSG_CMSG_CLOEXEC on
    return (json.loads(data) if data else None), fds


@contextmanager
def _short(folder: Path) -> Iterator[str]:
    """Give a path of a folder that fits into a socket's address, however long its own is."""
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)
