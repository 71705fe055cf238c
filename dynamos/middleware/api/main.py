"""Starts the HTTP API."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from ipaddress import ip_address
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

import dynamos
from dynamos.exchange.receivers import Receiver
from dynamos.kit import doors
from dynamos.kit.clocks import SystemClock
from dynamos.kit.errors import Unavailable
from dynamos.knowledge import jetstream
from dynamos.knowledge.bases import PRESENCE, KnowledgeBase
from dynamos.knowledge.presence import announce
from dynamos.middleware.api import handovers
from dynamos.middleware.api.app import application
from dynamos.middleware.api.desks import Desk, open_desk
from dynamos.middleware.api.gateway import Gateway
from dynamos.middleware.api.peers import is_peer, server_context
from dynamos.middleware.configs import ApiConfig
from dynamos.middleware.instances import key_of
from dynamos.middleware.messages import Presence

log = logging.getLogger(__name__)
LEAVE_SECONDS = 5
KEEP_ALIVE_SECONDS = 30
HEADER_SECONDS = 10.0
FIRST_SECONDS = 2.0
"""How long a connection that came just before we leave may take for its request."""
HEADER_BYTES = 32 << 10
BACKLOG = 512

Connect = Callable[[ApiConfig], Awaitable[KnowledgeBase]]
Listen = Callable[[Gateway], AbstractAsyncContextManager[str]]


def serve(config: ApiConfig, ready: Callable[[str], Any]) -> None:
    """Run the API until SIGTERM or SIGINT; call `ready` with its address once it takes requests."""
    asyncio.run(_serve(config, ready))


async def _serve(config: ApiConfig, ready: Callable[[str], Any]) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await run(config, ready=ready, stopped=stopped)


async def run(
    config: ApiConfig,
    *,
    ready: Callable[[str], Any],
    stopped: asyncio.Event | None = None,
    connect: Connect | None = None,
    listen: Listen | None = None,
) -> None:
    """Run the API until `stopped` is set or the task is cancelled; call `ready` with its address in between.

    At the end it takes no more requests, lets those under way finish for a few seconds (`drain`, if that is more), and
    cancels the jobs that are left. With `drain`, the results that are here are left to its next life.

    Raises Conflict where the port is taken, Unavailable where the bus is not there.
    """
    stopped = stopped or asyncio.Event()
    listener = _socket(config)
    _warn(config)
    async with AsyncExitStack() as stack:
        stack.callback(listener.close)
        kb = await (connect or _connect)(config)
        stack.push_async_callback(kb.close)
        desk = await stack.enter_async_context(open_desk(config, kb, listen=listen or _listen(config)))
        app = application(desk)
        address = await stack.enter_async_context(_door_for_peers(config, app))
        await stack.enter_async_context(announce(kb.store(PRESENCE), *_presence(config, desk, address)))
        server = _Server(_uvicorn(app, leave=max(LEAVE_SECONDS, int(config.drain))))
        task = asyncio.create_task(server.serve(sockets=[listener]), name="http")
        stack.push_async_callback(_leave, desk, server, task)
        await _started(server, task)
        ready(_address(listener))
        await _first(stopped.wait(), task)


async def _connect(config: ApiConfig) -> KnowledgeBase:
    return await jetstream.connect(config.bus, config.credentials, config.name, server=config.server)


def _listen(config: ApiConfig) -> Listen:
    """Open the gateway to the parties' agents, on the same host as the API unless it is said where."""

    @contextlib.asynccontextmanager
    async def listen(gateway: Gateway) -> AsyncIterator[str]:
        host = config.gateway or config.host
        receiver = Receiver(config.credentials, host=host, port=config.gateway_port, admit=gateway.admit)
        await receiver.start()
        try:
            yield receiver.address
        finally:
            await receiver.close()

    return listen


def _socket(config: ApiConfig) -> socket.socket:
    if config.descriptor >= 0:
        return socket.socket(fileno=os.dup(config.descriptor))
    if config.door:
        return doors.handed(config.door)
    return doors.listening(config.host, config.port, backlog=BACKLOG)


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _warn(config: ApiConfig) -> None:
    """Say loudly what is not safe."""
    if config.settings.open:
        log.warning("api.open marketplace=%s meaning=%s", config.marketplace, "ANYBODY may ask in ANYBODY's name")
    try:
        local = ip_address(config.host).is_loopback
    except ValueError:
        local = config.host == "localhost"
    if not local:
        log.warning("api.plain host=%s hint=%s", config.host, "tokens travel in clear text: put TLS in front of it")


class _Protocol(H11Protocol):
    """HTTP/1.1 that closes a connection whose first bytes do not become a request in time.

    A connection whose request is still on its way when the server leaves has it answered, and is closed then.
    """

    last = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.loop.call_later(HEADER_SECONDS, self._check)

    def shutdown(self) -> None:
        if self.cycle is not None or self.transport.is_closing():
            super().shutdown()
            return
        self.last = True
        self.loop.call_later(FIRST_SECONDS, self._check)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.last:
            self.transport.close()

    def _check(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()


class _ForPeers(_Protocol):
    """The same for other APIs, and for nobody else."""

    marketplace = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if not is_peer(transport.get_extra_info("peercert"), self.marketplace):
            log.warning("api.no-peer peer=%s", transport.get_extra_info("peername"))
            transport.abort()


class _Config(uvicorn.Config):
    """A configuration whose connections have this TLS, if any."""

    def __init__(self, app: FastAPI, *, sealed: ssl.SSLContext | None, **settings: Any) -> None:
        super().__init__(app, **settings)
        self._sealed = sealed

    def load(self) -> None:
        super().load()
        self.ssl = self._sealed


class _Server(uvicorn.Server):
    """Leaves signals to whoever runs it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def _door_for_peers(config: ApiConfig, app: FastAPI) -> AsyncIterator[str]:
    """Answer other APIs during the block, at the address that is given."""
    with doors.listening(config.gateway or config.host, config.peer_port, backlog=BACKLOG) as listener:
        protocol = type("ForPeers", (_ForPeers,), {"marketplace": config.marketplace})
        sealed = server_context(config.credentials)
        server = _Server(_uvicorn(app, leave=LEAVE_SECONDS, sealed=sealed, http=protocol))
        task = asyncio.create_task(server.serve(sockets=[listener]), name="https for peers")
        try:
            await _started(server, task)
            yield _address(listener).replace("http:", "https:")
        finally:
            server.should_exit = True
            await asyncio.wait((task,), timeout=LEAVE_SECONDS + 2)
            task.cancel()
            await asyncio.wait((task,))


def _presence(config: ApiConfig, desk: Desk, address: str) -> tuple[str, Presence]:
    """Give what we say of ourselves, and the key that we say it under."""
    now, instance = SystemClock().now().isoformat(), desk.peers.instance
    said = Presence(
        party=config.name, instance=instance, address=address, active_since=now, config_updated=now,
        version=dynamos.__version__,
    )  # fmt: skip
    return key_of(config.name, instance), said


def _uvicorn(
    app: FastAPI, *, leave: int, sealed: ssl.SSLContext | None = None, http: type[asyncio.Protocol] = _Protocol
) -> uvicorn.Config:
    return _Config(
        app,
        sealed=sealed,
        loop="asyncio",
        http=http,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=leave,
        h11_max_incomplete_event_size=HEADER_BYTES,
    )


async def _started(server: uvicorn.Server, task: asyncio.Task[None]) -> None:
    while not server.started:
        if task.done():
            task.result()
            raise Unavailable("the HTTP server ended before it began")
        await asyncio.sleep(0)


async def _first(stopped: Awaitable[Any], task: asyncio.Task[None]) -> None:
    waiting = asyncio.ensure_future(stopped)
    try:
        await asyncio.wait((waiting, task), return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()


async def _leave(desk: Desk, server: uvicorn.Server, task: asyncio.Task[None]) -> None:
    """Take no more, let what is under way end within a bound."""
    desk.leaving = True
    server.should_exit = True
    drain = desk.config.drain
    end = time.monotonic() + drain
    await asyncio.wait((task,), timeout=max(LEAVE_SECONDS, drain) + 2)
    task.cancel()
    await asyncio.wait((task,))
    if drain:
        await desk.submissions.settle(max(0.0, end - time.monotonic()))
        log.info("results.handed jobs=%d", await asyncio.to_thread(handovers.save, desk.results, desk.config.folder))
