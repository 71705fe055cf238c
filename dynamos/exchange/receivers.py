"""Takes streams from other parties: an Arrow Flight server that shows its certificate and wants to see the peer's."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pyarrow as pa
from pyarrow import flight

from dynamos.exchange.faults import to_flight
from dynamos.exchange.incoming import Incoming
from dynamos.exchange.streams import Admit
from dynamos.exchange.wire import BATCH_LIMIT
from dynamos.kit.credentials import Credentials
from dynamos.kit.errors import Broken, Cancelled, DynamosError, NotFound, Refused, Unavailable

log = logging.getLogger(__name__)

STREAMS = 256
_CLOSE = 2.0


class Receiver:
    """Listens for streams under one unit's credentials; `admit` says where each goes, if it may.

    Up to `streams` at a time. A batch is held in memory one at a time per stream, and may have `limit` bytes; beyond
    that, back-pressure reaches the sender. gRPC may not live through a fork: fork before `start`, not after.
    """

    def __init__(
        self,
        credentials: Credentials,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        admit: Admit,
        streams: int = STREAMS,
        limit: int = BATCH_LIMIT,
    ) -> None:
        self._credentials = credentials
        self._host = host
        self._port = port
        self._admit = admit
        self._streams = streams
        self._limit = limit
        self._lock = threading.Lock()
        self._live: set[Incoming] = set()
        self._closing = False
        self._server: _Server | None = None

    @property
    def port(self) -> int:
        """The port that it listens on, once started."""
        return self._port

    @property
    def address(self) -> str:
        """Where to send to: "grpc+tls://host:port"."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"grpc+tls://{host}:{self._port}"

    async def start(self) -> None:
        """Listen. Raises Unavailable where the address cannot be had, NotFound where a credential is missing."""
        self._server = await asyncio.to_thread(self._listen)
        self._port = self._server.port

    async def drop(self, job: str, error: DynamosError) -> None:
        """End every stream of the job that is arriving: its sink is aborted with `error`, and the sender told."""
        with self._lock:
            found = [stream for stream in self._live if stream.job == job]
        for stream in found:
            await asyncio.to_thread(stream.stop, error)

    async def close(self) -> None:
        """Abort what is arriving and stop listening, in 2 s at most."""
        with self._lock:
            self._closing = True
            found = tuple(self._live)
        for stream in found:
            await asyncio.to_thread(stream.stop, Cancelled("the receiver is closing"))
        if self._server is not None:
            # Flight's shutdown waits for calls without a bound, and a peer need not end its own.
            closer = threading.Thread(target=self._server.shutdown, name="exchange-shutdown", daemon=True)
            closer.start()
            await asyncio.to_thread(closer.join, _CLOSE)
            if closer.is_alive():
                log.warning("exchange.close-late", extra={"streams": len(self._live)})
            self._server = None

    def take(self, context: flight.ServerCallContext, reader: Any, writer: Any, path: list[bytes]) -> None:
        """Take one stream, in a thread of the server. Raises DynamosError only."""
        stream = Incoming(context, reader, writer, path, limit=self._limit)
        with self._lock:
            if self._closing or len(self._live) >= self._streams:
                raise Unavailable("no more streams can be taken now", code="busy")
            self._live.add(stream)
        try:
            stream.take(self._admit)
        finally:
            with self._lock:
                self._live.discard(stream)

    def _listen(self) -> _Server:
        try:
            pair = (self._credentials.certificate.read_bytes(), self._credentials.key.read_bytes())
            root = self._credentials.authority.read_bytes()
        except FileNotFoundError as error:
            raise NotFound("a credential is missing", where=str(error.filename)) from None
        try:
            return _Server(self, self.address, pair, root)
        except (pa.ArrowException, flight.FlightError, OSError) as error:
            raise Unavailable(f"cannot listen at {self.address}: {error}") from None


class _Server(flight.FlightServerBase):  # type: ignore[misc]
    def __init__(self, receiver: Receiver, address: str, pair: tuple[bytes, bytes], root: bytes) -> None:
        self._receiver = receiver
        super().__init__(
            address,
            tls_certificates=[pair],
            verify_client=True,
            root_certificates=root,
            middleware={"only-exchange": _OnlyExchange()},
        )

    def do_exchange(self, context: Any, descriptor: flight.FlightDescriptor, reader: Any, writer: Any) -> None:
        try:
            self._receiver.take(context, reader, writer, descriptor.path or [])
        except DynamosError as error:
            raise to_flight(error) from None
        except Exception:  # the top of a server's thread
            log.exception("exchange.broken")
            raise to_flight(Broken("the receiver failed; its log says how")) from None


class _OnlyExchange(flight.ServerMiddlewareFactory):  # type: ignore[misc]
    """Refuses every other call of Flight before anything is read."""

    def start_call(self, info: flight.CallInfo, headers: object) -> None:  # noqa: ARG002 - Flight's signature
        if info.method != flight.FlightMethod.DO_EXCHANGE:
            raise to_flight(Refused("a receiver only takes streams", code="method"))
