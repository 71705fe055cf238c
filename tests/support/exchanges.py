"""Two parties that exchange streams over loopback, for tests."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Self

import pyarrow as pa

from dynamos.exchange.receivers import Receiver
from dynamos.exchange.senders import Sender
from dynamos.exchange.sinks import CollectSink
from dynamos.exchange.streams import Arrival, Sink
from dynamos.kit.clocks import SystemClock
from dynamos.kit.credentials import Credentials
from dynamos.kit.errors import NotFound, Refused
from dynamos.middleware.identity.grants import sign, verify
from dynamos.model.jobs import Transfer
from support.identities import make_grant


class Door:
    """Admits each expected (job, edge) once, of the party that the grant names, as an agent does."""

    def __init__(self, orchestrator: Path, sinks: dict[tuple[str, str], Sink]) -> None:
        self.orchestrator = orchestrator
        self.sinks = sinks
        self.arrivals: list[Arrival] = []
        self.taken: set[tuple[str, str]] = set()
        self.lock = threading.Lock()

    def __call__(self, arrival: Arrival) -> Sink:
        self.arrivals.append(arrival)
        grant = verify(arrival.grant, self.orchestrator, party=arrival.peer, clock=SystemClock())
        key = (arrival.job, arrival.edge)
        if grant.job != arrival.job or arrival.edge not in {edge.name for edge in grant.part.outgoing}:
            raise Refused("the grant is for another stream", code="grant-for-another")
        with self.lock:
            if key in self.taken:
                raise Refused("the stream was taken before", code="grant-spent")
            if key not in self.sinks:
                raise NotFound(f"nobody waits for {arrival.job}/{arrival.edge}")
            self.taken.add(key)
        return self.sinks[key]


class Pair:
    """The sender `united` and the receiver `clearing`."""

    def __init__(self, units: dict[str, Credentials], sink: Sink | None = None, **options: object) -> None:
        self.units = units
        self.sink = sink or CollectSink()
        self.door = Door(units["orchestrator"].certificate, {("job-1", "rows"): self.sink})
        self.receiver = Receiver(units["clearing"], admit=self.door, **options)
        self.sender = Sender(units["united"], patience=1.0)

    def grant(self, party: str = "united", **changes: object) -> str:
        return sign(make_grant(party, **changes), self.units["orchestrator"].key)

    async def send(self, source: int, *, sender: Sender | None = None, **changes: object) -> Transfer:
        call = {
            "address": self.receiver.address,
            "peer": "clearing",
            "job": "job-1",
            "edge": "rows",
            "grant": self.grant(),
            "source_fd": source,
            "confirm": confirmed,
        } | changes
        return await (sender or self.sender).send(call.pop("address"), **call)


@asynccontextmanager
async def pair(units: dict[str, Credentials], sink: Sink | None = None, **options: object) -> AsyncIterator[Pair]:
    both = Pair(units, sink, **options)
    await both.receiver.start()
    try:
        yield both
    finally:
        await both.sender.close()
        await both.receiver.close()


async def confirmed() -> None:
    """The step ended well."""


def written(
    schema: pa.Schema, batches: Iterable[pa.RecordBatch], *, options: pa.ipc.IpcWriteOptions | None = None
) -> int:
    """Give the reading end of a pipe that a thread writes the stream to."""

    def write(file) -> None:
        with pa.ipc.new_stream(file, schema, options=options) as writer:
            for batch in batches:
                writer.write_batch(batch)

    return poured(write)


def raw(content: bytes) -> int:
    """Give the reading end of a pipe that holds `content`, then ends."""
    return poured(lambda file: file.write(content))


def poured(write: Callable) -> int:
    """Give the reading end of a pipe that `write` fills in a thread; it may break off when nobody reads."""
    reading, writing = os.pipe()

    def pour() -> None:
        try:
            with os.fdopen(writing, "wb") as file:
                write(file)
        except BrokenPipeError:
            pass

    threading.Thread(target=pour, daemon=True).start()
    return reading


class Relay:
    """Stands between one sender and the receiver at `port`, and counts the bytes that go to the receiver."""

    def __init__(self, port: int) -> None:
        self.count = 0
        self._port = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._join)]
        self.address = f"grpc+tls://127.0.0.1:{self._listening.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        for end in (self._listening, *self._ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), "the relay has ended"
        for end in (self._listening, *self._ends):
            end.close()

    def _join(self) -> None:
        with suppress(OSError):
            near, _ = self._listening.accept()
            self._ends.append(near)
            far = socket.create_connection(("127.0.0.1", self._port))
            self._ends.append(far)
            back = threading.Thread(target=self._copy, args=(far, near))
            self._threads.append(back)
            back.start()
            self._copy(near, far, counted=True)

    def _copy(self, source: socket.socket, target: socket.socket, *, counted: bool = False) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self.count += len(data) if counted else 0
                target.sendall(data)


async def happened(condition: str, event: threading.Event) -> None:
    """Wait for what another thread does, five seconds at most."""
    assert await asyncio.to_thread(event.wait, 5), condition
