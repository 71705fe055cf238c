"""Doors: a listening socket that outlives whoever answers at it. `python -m dynamos.kit.doors CONFIG` keeps one.

Connections that come while nobody answers wait in the socket's queue, and nobody is turned away. Whoever runs as the
door's own user is handed the socket, by a Unix socket with an abstract name; others are not, whatever they say.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import struct
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Self

from dynamos.kit.errors import BadInput, Conflict, DynamosError, Refused, Unavailable

BACKLOG = 4096
"""How many connections may wait at a door; the kernel has a bound of its own (net.core.somaxconn)."""
_PATIENCE = 10.0
_CREDENTIALS = struct.Struct("3i")


@dataclass(frozen=True, slots=True)
class Door:
    """`name` is that of the Unix socket at which the listening one is handed out."""

    name: str
    host: str
    port: int

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read it from JSON. Raises BadInput that names the file."""
        try:
            told = json.loads(path.read_bytes())
            return cls(str(told["name"]), str(told["host"]), int(told["port"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadInput(f"this configures no door: {error!r}", where=str(path)) from None

    def keep(self) -> NoReturn:
        """Listen, and hand the socket to whoever of our own user asks, for ever. Raises Conflict: it is taken."""
        place = f"{self.host}:{self.port}"
        with listening(self.host, self.port) as listener, socket.socket(socket.AF_UNIX) as hatch:
            try:
                hatch.bind(f"\0{self.name}")
            except OSError as error:
                raise Conflict(f"there is such a door already: {error}", where=self.name) from None
            hatch.listen()
            sys.stderr.write(json.dumps({"address": place}) + "\n")
            sys.stderr.flush()
            while True:
                asker, _ = hatch.accept()
                with asker:
                    if _user_of(asker) == os.geteuid():
                        socket.send_fds(asker, [b"\0"], [listener.fileno()])


def listening(host: str, port: int, *, backlog: int = BACKLOG) -> socket.socket:
    """Give a socket that listens. Raises Conflict where the address is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio turns Nagle's algorithm off: a kept connection else waits 40 ms for each answer.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        place = f"{host}:{port}"
        raise Conflict(f"the API cannot listen on {place}: {error}", where=place, hint="set settings.apiPort") from None
    return listener


def handed(name: str, *, within: float = _PATIENCE) -> socket.socket:
    """Give the listening socket of the door with this name. Raises Unavailable where there is none within `within`
    seconds, Refused where it is another user's."""
    end = time.monotonic() + within
    while True:
        with socket.socket(socket.AF_UNIX) as asker:
            asker.settimeout(max(0.1, end - time.monotonic()))
            try:
                asker.connect(f"\0{name}")
                if _user_of(asker) != os.geteuid():
                    raise Refused("the door is another user's", where=name)
                _, descriptors, _, _ = socket.recv_fds(asker, 1, 1)
            except OSError as error:
                descriptors, last = [], error
                if error.errno not in (errno.ECONNREFUSED, errno.ENOENT) or time.monotonic() >= end:
                    raise Unavailable(f"there is no door: {last}", where=name, hint="is its unit running?") from None
            if descriptors:
                return socket.socket(fileno=descriptors[0])
        if time.monotonic() >= end:
            raise Unavailable("the door hands nothing out", where=name)
        time.sleep(0.05)  # the door is another process, and tells nobody when it opens


def _user_of(peer: socket.socket) -> int:
    """Give the user at the other end of a Unix socket, as the kernel knows it."""
    told = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(told)[1])


def main() -> None:
    """Keep the door that a file configures."""
    if len(sys.argv) != 2:  # noqa: PLR2004
        sys.stderr.write("usage: python -m dynamos.kit.doors CONFIG\n")
        raise SystemExit(2)
    try:
        Door.read(Path(sys.argv[1])).keep()
    except DynamosError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(error.exit) from None


if __name__ == "__main__":
    main()
