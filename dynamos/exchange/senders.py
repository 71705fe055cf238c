"""Sends what local steps write to other parties."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from dynamos.exchange.connections import Connections
from dynamos.exchange.outgoing import Outgoing
from dynamos.exchange.wire import BATCH_LIMIT
from dynamos.kit.credentials import Credentials
from dynamos.kit.errors import Cancelled, DynamosError, Unavailable
from dynamos.model.jobs import Transfer
from dynamos.model.plans import Compression

T = TypeVar("T")
Confirm = Awaitable[None] | Callable[[], Awaitable[None]]

STREAMS = 256
PATIENCE = 5.0
_JOIN = 2.0


class Sender:
    """Sends streams under one unit's credentials, at most `streams` at a time, each in a thread of its own.

    More are refused, not queued: streams of one job wait for each other, and a queue could wait for itself.
    """

    def __init__(
        self, credentials: Credentials, *, streams: int = STREAMS, limit: int = BATCH_LIMIT, patience: float = PATIENCE
    ) -> None:
        self._connections = Connections(credentials)
        self._streams = streams
        self._limit = limit
        self._patience = patience
        self._pool = ThreadPoolExecutor(streams, thread_name_prefix="exchange-send")
        self._live: set[Outgoing] = set()
        self._closed = False

    async def send(
        self,
        address: str,
        *,
        peer: str,
        job: str,
        edge: str,
        grant: str,
        source_fd: int,
        confirm: Confirm,
        compression: Compression = "none",
    ) -> Transfer:
        """Send the Arrow stream from `source_fd` to `peer`, and commit it once `confirm` has returned.

        Takes the descriptor over and closes it, whatever happens. `confirm` is awaited when the source has ended; it
        raises where the step has failed, and then the receiver is told so and the stream counts for nothing. While
        nothing was read from the source, a peer that is away is tried again for `patience` seconds. Cancelling aborts
        the stream at the receiver and joins the thread, for 2 s at most.

        Raises what the receiver raises (Refused, Unauthenticated, NotFound ...), Unauthenticated (wrong-peer) where
        another answers than `peer`, Unavailable (peer-away, busy), JobFailed (not-arrow, truncated, too-large,
        stream-broke), and what `confirm` raises.
        """
        started = time.monotonic()
        if self._closed or len(self._live) >= self._streams:
            os.close(source_fd)
            _discard(confirm)
            raise Unavailable("no more streams can be sent now", code="busy")
        stream = Outgoing(
            self._connections, address, peer, (job, edge, grant), source_fd, limit=self._limit, compression=compression
        )
        self._live.add(stream)
        confirmed = False
        try:
            await self._in_thread(stream, lambda: stream.carry(patience=self._patience))
            confirmed = True
            await (confirm() if callable(confirm) else confirm)
            tally = await self._in_thread(stream, stream.commit)
        except BaseException as error:
            await self._give_up(stream, error)
            raise
        finally:
            if not confirmed:
                _discard(confirm)
            self._live.discard(stream)
            stream.close()
        wall = (time.monotonic() - started) * 1000
        return Transfer(
            edge=edge,
            rows=tally.rows,
            bytes=tally.bytes,
            wall_ms=wall,
            way_ms=stream.way_seconds * 1000,
            compression=compression,
        )

    def leave(self, peer: str) -> None:
        """Keep no connection to `peer`: the next stream makes one of its own."""
        self._connections.leave(peer)

    async def close(self) -> None:
        """Cancel every stream and end the threads."""
        self._closed = True
        for stream in tuple(self._live):
            stream.cancel()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._connections.close()

    async def _in_thread(self, stream: Outgoing, work: Callable[[], T]) -> T:
        future = asyncio.get_running_loop().run_in_executor(self._pool, stream.exclusively, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            stream.cancel()
            await asyncio.wait({future}, timeout=_JOIN)
            if future.done() and not future.cancelled():
                future.exception()  # seen: a cancelled stream fails, and that is no news
            raise

    async def _give_up(self, stream: Outgoing, error: BaseException) -> None:
        if isinstance(error, asyncio.CancelledError):
            stream.cancel()
            return
        reason = error if isinstance(error, DynamosError) else Cancelled("the sender failed")
        try:
            async with asyncio.timeout(_JOIN):
                await self._in_thread(stream, lambda: stream.give_up(reason))
        except (TimeoutError, RuntimeError):
            # The receiver does not listen, or the pool is closed: then it learns from the call's end.
            stream.cancel()


def _discard(confirm: Confirm) -> None:
    # A coroutine that nobody awaits warns; here it is meant.
    if isinstance(confirm, Coroutine):
        confirm.close()
