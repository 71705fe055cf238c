"""Looks at every packet on some devices for certain texts until it is ended, and then writes what it saw.

The word on the command line is JSON: `devices`, `texts` and `told`, the file for what it has seen: written once with
`ready` when it looks, and again when it is ended, with, for each device, `packets`, `bytes`, `missed` (packets that
came faster than it looks) and `found`: how many packets had each text.
"""

from __future__ import annotations

import json
import select
import signal
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

_ALL = 0x0003
_STATISTICS, _FORCED_BUFFER = 6, 33
_PACKET = 263
_LARGEST = 1 << 17
_BUFFER = 64 * 2**20


class Device:
    """What was seen on one device."""

    def __init__(self, name: str, texts: list[bytes]) -> None:
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        with suppress(OSError):  # only the machine's root may have more than everybody
            self.socket.setsockopt(socket.SOL_SOCKET, _FORCED_BUFFER, _BUFFER)
        self.socket.bind((name, _ALL))
        self.socket.setblocking(False)
        self.packets, self.bytes = 0, 0
        self.found = dict.fromkeys(texts, 0)

    def look(self) -> None:
        """Look at what has arrived."""
        while True:
            try:
                packet = self.socket.recv(_LARGEST)
            except (BlockingIOError, OSError):
                return
            self.packets += 1
            self.bytes += len(packet)
            for text in self.found:
                if text in packet:
                    self.found[text] += 1

    def as_dict(self) -> dict[str, Any]:
        """Give what was seen."""
        _, missed = struct.unpack("II", self.socket.getsockopt(_PACKET, _STATISTICS, 8))
        found = {text.decode(): count for text, count in self.found.items()}
        return {"packets": self.packets, "bytes": self.bytes, "missed": missed, "found": found}


def main(spec: dict[str, Any]) -> None:
    """Look as the word on the command line says."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    texts = [text.encode() for text in spec["texts"]]
    devices = {name: Device(name, texts) for name in spec["devices"]}
    by_fd = {device.socket.fileno(): device for device in devices.values()}
    poll = select.poll()
    for fd in by_fd:
        poll.register(fd, select.POLLIN)
    told = Path(spec["told"])
    told.parent.mkdir(parents=True, exist_ok=True)
    _write(told, {"ready": True})
    try:
        while True:
            for fd, _ in poll.poll():
                by_fd[fd].look()
    finally:
        for device in devices.values():
            device.look()
        _write(told, {"devices": {name: device.as_dict() for name, device in devices.items()}})


def _write(path: Path, value: dict[str, Any]) -> None:
    near = path.with_suffix(".new")
    near.write_text(json.dumps(value), encoding="ascii")
    near.replace(path)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
