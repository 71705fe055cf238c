"""What an agent needs of the exchange: let the streams of a job in, send others out, and stop both.

The streams may be carried in the agent's own process or in one that lives in another network; the agent does not see
the difference.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from dynamos.exchange.receivers import Receiver
from dynamos.exchange.senders import Sender
from dynamos.exchange.sinks import PipeSink
from dynamos.kit.errors import DynamosError
from dynamos.middleware.agent.inbox import Inbox
from dynamos.model.jobs import Transfer
from dynamos.model.plans import Compression

Aborted = Callable[[DynamosError], None]
"""Told, from any thread but the event loop's, that an incoming stream broke off; the step's pipe breaks off after it
has returned."""


class Sends(Protocol):
    """Sends streams."""

    async def send(
        self,
        address: str,
        *,
        peer: str,
        job: str,
        edge: str,
        grant: str,
        source_fd: int,
        confirm: Callable[[], Awaitable[None]],
        compression: Compression = "none",
    ) -> Transfer:
        """Send what `source_fd` gives, which it takes over, and commit it once `confirm` has returned. See Sender."""
        ...


class Exchange(Sends, Protocol):
    """Streams of one party, in and out."""

    @property
    def address(self) -> str:
        """Where streams are taken: "grpc+tls://host:port"."""
        ...

    async def expect(self, job: str, pipes: Mapping[str, int], aborted: Aborted) -> None:
        """Let the streams of `job` with these edge names in, each into its pipe, which it takes over."""
        ...

    async def forget(self, job: str, error: DynamosError) -> None:
        """Let no more streams of `job` in, end those that are arriving, and break off the pipes that nobody filled."""
        ...

    async def close(self) -> None:
        """End every stream and stop listening, within some seconds."""
        ...


class LocalExchange:
    """Carries streams in this process."""

    def __init__(self, sender: Sender, receiver: Receiver, inbox: Inbox) -> None:
        self._sender = sender
        self._receiver = receiver
        self._inbox = inbox

    @property
    def address(self) -> str:
        return self._receiver.address

    async def start(self) -> None:
        """Listen. Raises Unavailable where the address cannot be had."""
        await self._receiver.start()

    async def expect(self, job: str, pipes: Mapping[str, int], aborted: Aborted) -> None:
        self._inbox.expect(job, {edge: PipeSink(fd, on_abort=aborted) for edge, fd in pipes.items()})

    async def forget(self, job: str, error: DynamosError) -> None:
        for sink in self._inbox.forget(job):
            await asyncio.to_thread(sink.abort, error)
        await self._receiver.drop(job, error)

    async def send(
        self,
        address: str,
        *,
        peer: str,
        job: str,
        edge: str,
        grant: str,
        source_fd: int,
        confirm: Callable[[], Awaitable[None]],
        compression: Compression = "none",
    ) -> Transfer:
        return await self._sender.send(
            address,
            peer=peer,
            job=job,
            edge=edge,
            grant=grant,
            source_fd=source_fd,
            confirm=confirm,
            compression=compression,
        )

    def leave(self, peer: str) -> None:
        """Keep no connection to `peer`."""
        self._sender.leave(peer)

    async def close(self) -> None:
        await self._receiver.close()
        await self._sender.close()
