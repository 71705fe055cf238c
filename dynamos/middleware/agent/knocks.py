"""Knocks: how soon a way carries after it was opened, and whether it is shut before.

What is asked of a cluster's network holds a little later, and a packet that came too early is repeated by the kernel
after a whole second only. So a new connection is begun every few milliseconds until one is answered.
"""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import suppress
from urllib.parse import urlsplit

from dynamos.kit.errors import BadInput, TimedOut, Unavailable

EVERY_SECONDS = 0.02
_SLOWER, _MOST_SECONDS = 1.2, 0.5
_KEPT = 32
_ALONE_SECONDS = 2.0


async def knock(way: str, address: str, *, within: float) -> float:
    """Wait until somebody answers at `address` ("grpc+tls://host:port"), and give how many seconds that took.

    Raises TimedOut (way-shut) that names the way, BadInput for what is no address.
    """
    host, port = place_of(address)
    began, pause, last = time.monotonic(), EVERY_SECONDS, "nothing"
    tries: set[asyncio.Task[None]] = set()
    try:
        while (left := began + within - time.monotonic()) > 0:
            if len(tries) < _KEPT:
                tries.add(asyncio.create_task(_try(host, port)))
            done, tries = await asyncio.wait(tries, timeout=min(pause, left), return_when=asyncio.FIRST_COMPLETED)
            errors = [task.exception() for task in done]
            if None in errors:
                return time.monotonic() - began
            if errors:
                last = str(errors[0])
                await asyncio.sleep(min(pause, left))
            pause = min(pause * _SLOWER, _MOST_SECONDS)
    finally:
        for task in tries:
            task.cancel()
        await asyncio.gather(*tries, return_exceptions=True)
    raise TimedOut(
        f"the way {way} carried nothing within {within:g} s; last seen: {last}", where=address, code="way-shut"
    )


async def answers(address: str, *, within: float) -> bool:
    """Tell whether anybody answers there within so many seconds."""
    try:
        await knock("", address, within=within)
    except TimedOut:
        return False
    return True


def place_of(address: str) -> tuple[str, int]:
    """Give the host and port of an address of a receiver. Raises BadInput."""
    with suppress(ValueError):
        parts = urlsplit(address)
        if parts.hostname and parts.port:
            return parts.hostname, parts.port
    raise BadInput(f"{address!r} is no address of a receiver", hint="grpc+tls://host:port")


async def _try(host: str, port: int) -> None:
    try:
        async with asyncio.timeout(_ALONE_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        raise Unavailable("nobody answers") from None
    except socket.gaierror as error:
        raise Unavailable(f"{host} has no address: {error.strerror}") from None
    writer.transport.abort()
