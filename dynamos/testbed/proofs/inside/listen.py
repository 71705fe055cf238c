"""Listens on ports until it is ended, answers whoever knocks, and writes down who got here.

The word on the command line is JSON: `ports` (protocol and number of each) and `told`, the file to write lines to:
`busy PROTOCOL PORT` where somebody listens already, `ready`, then `PROTOCOL PORT TOKEN BYTES` for each that arrived.
Over TCP a knock is a line `TOKEN LENGTH` and so many bytes, over UDP one datagram that begins like that; the answer is
`TOKEN BYTES`.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

_LINE = 256
_CHUNK = 1 << 18
_CONNECTIONS = 4096


class Listener:
    """Serves every port in one thread."""

    def __init__(self, told: TextIO) -> None:
        self._told = told
        self._selector = selectors.DefaultSelector()

    def listen(self, protocol: str, port: int) -> None:
        """Take a port; where somebody else has it, say so."""
        stream = protocol == "tcp"
        server = socket.socket(socket.AF_INET, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM)
        try:
            if stream:
                server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(("0.0.0.0", port))  # noqa: S104  whoever may get here shall
            if stream:
                server.listen(128)
        except OSError:
            server.close()
            self.say(f"busy {protocol} {port}")
            return
        server.setblocking(False)
        self._selector.register(server, selectors.EVENT_READ, (self._accept if stream else self._datagram, port))

    def say(self, line: str) -> None:
        """Write a line that a reader sees at once."""
        self._told.write(f"{line}\n")
        self._told.flush()

    def serve(self) -> None:
        """Work until the process is ended."""
        while True:
            for key, _ in self._selector.select():
                work, data = key.data
                with suppress(OSError):
                    work(key.fileobj, data)

    def _accept(self, server: socket.socket, port: int) -> None:
        connection, _ = server.accept()
        connection.setblocking(False)
        if len(self._selector.get_map()) > _CONNECTIONS:
            connection.close()
            return
        state = {"port": port, "head": b"", "token": "", "left": -1, "got": 0}
        self._selector.register(connection, selectors.EVENT_READ, (self._read, state))

    def _read(self, connection: socket.socket, state: dict[str, Any]) -> None:
        try:
            block = connection.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            block = b""
        if not block:
            self._close(connection)
            return
        if state["left"] < 0:
            state["head"] += block
            line, found, block = state["head"].partition(b"\n")
            if not found:
                if len(state["head"]) > _LINE:
                    self._close(connection)
                return
            knock = _knock(line)
            if knock is None:
                self._close(connection)
                return
            state["token"], state["left"] = knock
        state["got"] += len(block)
        state["left"] -= len(block)
        if state["left"] <= 0:
            self.say(f"tcp {state['port']} {state['token']} {state['got']}")
            connection.send(f"{state['token']} {state['got']}\n".encode())
            state["left"] = 1 << 62

    def _close(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        connection.close()

    def _datagram(self, server: socket.socket, port: int) -> None:
        block, sender = server.recvfrom(1 << 16)
        line, _, rest = block.partition(b"\n")
        knock = _knock(line)
        if knock:
            self.say(f"udp {port} {knock[0]} {len(rest)}")
            server.sendto(f"{knock[0]} {len(rest)}\n".encode(), sender)


def _knock(line: bytes) -> tuple[str, int] | None:
    """Read a knock's first line."""
    words = line[:_LINE].decode("ascii", errors="replace").split()
    if len(words) != 2 or not words[0].isalnum() or not words[1].isdigit():  # noqa: PLR2004
        return None
    return words[0], int(words[1])


def main(spec: dict[str, Any]) -> None:
    """Listen as the word on the command line says."""
    path = Path(spec["told"])
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="ascii") as told:
        listener = Listener(told)
        for protocol, port in spec["ports"]:
            listener.listen(protocol, int(port))
        listener.say("ready")
        listener.serve()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
