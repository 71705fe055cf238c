"""What goes over an init's socket: one packet a message, JSON, with file descriptors beside it.

Only the standard library, and little of it: the first process of every node imports this.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping, Sequence
from typing import Any

_LARGEST = 1 << 18
_MOST_DESCRIPTORS = 64


def send(connection: socket.socket, message: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
    """Send one message, and copies of these descriptors with it."""
    socket.send_fds(connection, [json.dumps(message).encode()], list(fds))


def receive(connection: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """Receive one message with its descriptors; None where the other side has closed."""
    data, fds, _, _ = socket.recv_fds(connection, _LARGEST, _MOST_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
    return (json.loads(data) if data else None), fds
