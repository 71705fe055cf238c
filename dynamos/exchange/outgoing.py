"""One stream on its way out, as a thread carries it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import pyarrow as pa
from pyarrow import flight

from dynamos.exchange.connections import Connections
from dynamos.exchange.faults import from_flight
from dynamos.exchange.frames import Frames
from dynamos.exchange.pipes import PipeReader
from dynamos.exchange.wire import Say, Tally, heard, pieces, say
from dynamos.kit.errors import Cancelled, DynamosError, JobFailed, Unauthenticated, Unavailable

T = TypeVar("T")
_TRANSPORT = (flight.FlightError, pa.ArrowException, OSError)
_FIRST_DELAY, _LAST_DELAY = 0.02, 0.5


class Outgoing:
    """Carries one stream: `carry`, then `commit` or `give_up`, in any thread but one at a time; `cancel` at any time.

    Each raises DynamosError only.
    """

    def __init__(
        self,
        connections: Connections,
        address: str,
        peer: str,
        ticket: tuple[str, str, str],
        source_fd: int,
        *,
        limit: int,
        compression: str,
    ) -> None:
        self._connections = connections
        self._address = address
        self._peer = peer
        self._job, self._edge, self._grant = ticket
        self._source = PipeReader(source_fd)
        self._limit = limit
        self._options = pa.ipc.IpcWriteOptions(compression=None if compression == "none" else compression)
        self._tally = Tally()
        self._writer: flight.FlightStreamWriter | None = None
        self._reader: flight.FlightStreamReader | None = None
        self._cancelled = threading.Event()
        self._working = threading.Lock()
        self._closing = False
        self.way_seconds = 0.0

    def exclusively(self, work: Callable[[], T]) -> T:
        """Do `work`; a `close` that comes meanwhile happens after it."""
        try:
            with self._working:
                return work()
        finally:
            if self._closing:
                self.close()

    def carry(self, *, patience: float) -> None:
        """Knock until the receiver admits the stream, then send everything that the source has."""
        self._knock(patience)
        assert self._writer is not None
        schema, batches = Frames(self._source, limit=self._limit).batches()
        with self._faults():
            # Here and not with the call: Flight takes a call's write options for DoPut only.
            self._writer.begin(schema, options=self._options)
        for batch in batches:
            for piece in pieces(batch):
                began = time.monotonic()
                with self._faults():
                    self._writer.write_batch(piece)
                self.way_seconds += time.monotonic() - began
                self._tally.add(piece)

    def commit(self) -> Tally:
        """Say that the stream is complete; give what was sent once the receiver has said that it has it."""
        assert self._writer is not None
        began = time.monotonic()
        with self._faults():
            self._writer.write_metadata(say("complete", self._tally))
            self._writer.done_writing()
            answer = self._hear("received")
            self._writer.close()
        self.way_seconds += time.monotonic() - began
        if not self._tally.agrees(answer):
            raise JobFailed(f"{self._peer} says that it got another number of rows", code="protocol")
        return self._tally

    def give_up(self, error: DynamosError) -> None:
        """Tell the receiver why, if it still listens."""
        if self._writer is None or self._cancelled.is_set():
            return
        with contextlib.suppress(*_TRANSPORT, StopIteration):
            self._writer.write_metadata(say("abort", error=error))
            self._writer.done_writing()
            self._writer.close()

    def cancel(self) -> None:
        """Break off at once, also where the thread is held up by the source or by the receiver."""
        self._cancelled.set()
        self._source.interrupt(Cancelled("the stream was cancelled"))
        if self._reader is not None:
            self._reader.cancel()

    def close(self) -> None:
        """Close the source, now or when the thread that works on it is done."""
        self._closing = True
        if self._working.acquire(blocking=False):
            try:
                self._source.close()
            finally:
                self._working.release()

    def _knock(self, patience: float) -> None:
        end = time.monotonic() + patience
        delay = _FIRST_DELAY
        while True:
            try:
                self._open()
            except Unavailable:
                if time.monotonic() + delay >= end:
                    raise
            else:
                return
            if self._cancelled.wait(delay):
                raise Cancelled("the stream was cancelled")
            delay = min(delay * 2, _LAST_DELAY)

    def _open(self) -> None:
        if not self._grant:
            raise Unauthenticated("there is no grant for the stream", code="grant-missing")
        client = self._connections.to(self._peer, self._address)
        descriptor = flight.FlightDescriptor.for_path(self._job, self._edge)
        with self._faults():
            self._writer, self._reader = client.do_exchange(descriptor)
            if self._cancelled.is_set():
                self._reader.cancel()
            self._writer.write_metadata(self._grant.encode())
            self._hear("admitted")

    def _hear(self, word: Say) -> dict[str, object]:
        assert self._reader is not None
        return heard(self._reader.read_chunk().app_metadata, word)

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except StopIteration:
            raise JobFailed(f"{self._peer} ended the stream early", code="stream-broke") from None
        except _TRANSPORT as error:
            if self._cancelled.is_set():
                raise Cancelled("the stream was cancelled") from None
            raise from_flight(error, peer=self._peer) from None
