"""One stream on its way in, as a thread of the receiver takes it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pyarrow as pa
from pyarrow import flight

from dynamos.exchange.faults import from_flight
from dynamos.exchange.frames import checked
from dynamos.exchange.streams import Admit, Arrival, Sink
from dynamos.exchange.wire import Tally, heard, say
from dynamos.kit.credentials import unit_of
from dynamos.kit.errors import BadInput, Broken, DynamosError, JobFailed, Unauthenticated

log = logging.getLogger(__name__)

_TRANSPORT = (flight.FlightError, pa.ArrowException, OSError)


class Incoming:
    """Takes one stream into its sink: complete and closed, or aborted; there is no third."""

    def __init__(self, context: Any, reader: Any, writer: Any, path: list[bytes], *, limit: int) -> None:
        self._reader = reader
        self._writer = writer
        self._limit = limit
        self._tally = Tally()
        self._sink: Sink | None = None
        self._error: DynamosError | None = None
        # Held around each call of the sink: a stop from another thread acts between two calls, never during one.
        self._turn = threading.Lock()
        self.peer = unit_of(context.peer_identity().decode(errors="replace"))[1]
        self.job, self.edge = _names(path)

    def take(self, admit: Admit) -> None:
        """Do all of it. Raises DynamosError for the sender to know."""
        if not self.peer:
            raise Unauthenticated("the certificate names no unit", code="wrong-peer")
        grant = self._next().app_metadata
        arrival = Arrival(self.job, self.edge, self.peer, bytes(grant or b"").decode("ascii", errors="replace"))
        self._sink = admit(arrival)
        try:
            self._writer.write_metadata(say("admitted"))
            self._drain()
        except DynamosError as error:
            self._abort(error)
            raise
        except _TRANSPORT as error:
            broken = from_flight(error, peer=self.peer)
            self._abort(broken)
            raise broken from None
        except BaseException:
            self._abort(Broken("the receiver failed; its log says how"))
            raise
        # From here on the stream is complete, whether or not the sender hears of it.
        self._writer.write_metadata(say("received", self._tally))

    def stop(self, error: DynamosError) -> None:
        """End the stream with `error`, from another thread: now, or when the sink's present call returns."""
        self._error = self._error or error
        if self._turn.acquire(blocking=False):
            try:
                self._abort_once()
            finally:
                self._turn.release()

    def _drain(self) -> None:
        sink = self._sink
        assert sink is not None
        opened = False
        while True:
            chunk = self._next()
            told = None if chunk.data is not None else heard(chunk.app_metadata, "complete")
            if not opened:
                self._call(sink.open, self._reader.schema)
                opened = True
            if told is not None:
                break
            if chunk.data.nbytes > self._limit:
                raise JobFailed(f"a batch of {chunk.data.nbytes} bytes is too large", code="too-large")
            self._call(sink.write, checked(chunk.data))
            self._tally.add(chunk.data)
        if not self._tally.agrees(told):
            raise JobFailed(f"{self.peer} sent another number of rows than it says", code="protocol")
        self._call(sink.close, last=True)

    def _next(self) -> Any:
        try:
            return self._reader.read_chunk()
        except StopIteration:
            raise JobFailed(f"the stream from {self.peer} broke off", code="stream-broke", where=self.peer) from None

    def _call(self, action: Callable[..., None], *values: object, last: bool = False) -> None:
        with self._turn:
            if self._error is not None:
                raise self._error
            action(*values)
            if last:
                self._sink = None  # closed is closed: a stop that comes now is too late

    def _abort(self, error: DynamosError) -> None:
        self._error = self._error or error
        with self._turn:
            self._abort_once()

    def _abort_once(self) -> None:
        sink, self._sink = self._sink, None
        if sink is None or self._error is None:
            return
        try:
            sink.abort(self._error)
        except Exception:  # the stream's own error is the one to tell
            log.exception("exchange.abort-failed", extra={"job": self.job, "edge": self.edge})


def _names(path: list[bytes]) -> tuple[str, str]:
    try:
        job, edge = (name.decode() for name in path)
    except ValueError:
        raise BadInput("a stream is named by job and edge", code="protocol") from None
    return job, edge
