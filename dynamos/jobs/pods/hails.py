"""Hails: a courier that is up says so to its agent, and thereby from which address, long before the cluster does.

A hail is one datagram with the name of a pod, sent again until the agent has come. It proves nothing and is not
answered: whoever sends a false one makes the agent knock where TLS keeps it out, and what the cluster tells counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Self

HAIL_PORT = 7071
"""Where agents hear hails."""
_MOST_NAME = 253


class Hails(asyncio.DatagramProtocol):
    """Gives the name of each pod that hails, and its address, to `heard`."""

    def __init__(self, heard: Callable[[str, str], object]) -> None:
        self._heard = heard
        self._transport: asyncio.BaseTransport | None = None

    @classmethod
    async def open(cls, address: str, heard: Callable[[str, str], object]) -> Self:
        """Listen at an address of this machine. Raises OSError."""
        loop = asyncio.get_running_loop()
        _, found = await loop.create_datagram_endpoint(lambda: cls(heard), local_addr=(address, HAIL_PORT))
        return found

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if len(data) <= _MOST_NAME and data.isascii():
            self._heard(data.decode(), addr[0])

    def close(self) -> None:
        """Hear no more."""
        if self._transport is not None:
            self._transport.close()
