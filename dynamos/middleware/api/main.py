"""Starts the HTTP API."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from ipaddress import ip_address
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from dynamos.exchange.receivers import Receiver
from dynamos.kit.errors import Conflict, Unavailable
from dynamos.knowledge import jetstream
from dynamos.knowledge.bases import KnowledgeBase
from dynamos.middleware.api.app import application
from dynamos.middleware.api.desks import Desk, open_desk
from dynamos.middleware.api.gateway import Gateway
from dynamos.middleware.configs import ApiConfig

log = logging.getLogger(__name__)
LEAVE_SECONDS = 5
KEEP_ALIVE_SECONDS = 30
HEADER_SECONDS = 10.0
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

    At the end it takes no more requests, lets those under way finish for a few seconds, and cancels the jobs that are
    left. Raises Conflict where the port is taken, Unavailable where the bus is not there.
    """
    stopped = stopped or asyncio.Event()
    listener = _socket(config)
    _warn(config)
    async with AsyncExitStack() as stack:
        stack.callback(listener.close)
        kb = await (connect or _connect)(config)
        stack.push_async_callback(kb.close)
        desk = await stack.enter_async_context(open_desk(config, kb, listen=listen or _listen(config)))
        server = _Server(_uvicorn(application(desk)))
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
        receiver = Receiver(config.credentials, host=config.gateway or config.host, port=0, admit=gateway.admit)
        await receiver.start()
        try:
            yield receiver.address
        finally:
            await receiver.close()

    return listen


def _socket(config: ApiConfig) -> socket.socket:
    if config.descriptor >= 0:
        return socket.socket(fileno=os.dup(config.descriptor))
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    # With the protocol named, asyncio turns Nagle's algorithm off: a kept connection else waits 40 ms for each answer.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((config.host, config.port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        place = f"{config.host}:{config.port}"
        raise Conflict(f"the API cannot listen on {place}: {error}", where=place, hint="set settings.apiPort") from None
    return listener


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
    """HTTP/1.1 that closes a connection whose first bytes do not become a request in time."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.loop.call_later(HEADER_SECONDS, self._check)

    def _check(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()


class _Server(uvicorn.Server):
    """Leaves signals to whoever runs it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _uvicorn(app: FastAPI) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="asyncio",
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=LEAVE_SECONDS,
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
    await asyncio.wait((task,), timeout=LEAVE_SECONDS + 2)
    task.cancel()
    await asyncio.wait((task,))
