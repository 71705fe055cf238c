"""Connections to other parties: one per peer, kept, so that the next stream needs no handshake."""

from __future__ import annotations

import threading

import pyarrow as pa
from pyarrow import flight

from dynamos.kit.credentials import Credentials, dns_name
from dynamos.kit.errors import BadInput, NotFound

_CONNECT_MS = 2000
_UNHEARD_MS = 10_000
_PING_MS = 600_000
_OPTIONS = [
    # A proxy in the environment must not come between two parties.
    ("grpc.enable_http_proxy", 0),
    # How long one attempt may take, and how soon the next: who waits in all is the sender's patience.
    ("grpc.min_reconnect_backoff_ms", _CONNECT_MS),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
    # A link that fails for less is waited for; what the peer has not acknowledged for longer ends the stream. gRPC sets
    # that bound (TCP_USER_TIMEOUT) with the pings of HTTP/2 only, which are kept rare: a server takes offence at more
    # than one in five minutes.
    ("grpc.keepalive_time_ms", _PING_MS),
    ("grpc.keepalive_timeout_ms", _UNHEARD_MS),
]


class Connections:
    """Flight clients by peer. For threads. A peer that has moved gets a new one."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._lock = threading.Lock()
        self._clients: dict[str, tuple[str, flight.FlightClient]] = {}

    def to(self, peer: str, address: str) -> flight.FlightClient:
        """Give the client for `peer` at `address` ("grpc+tls://host:port"); it connects at its first call.

        The server must show a certificate of the marketplace's authority for the DNS name of `peer`: the address says
        only where to look. Raises BadInput for an address without TLS, NotFound where a credential is missing.
        """
        if not address.startswith("grpc+tls://"):
            raise BadInput(f"{address!r} is no address of a receiver", hint="grpc+tls://host:port")
        with self._lock:
            known = self._clients.get(peer)
            if known is None or known[0] != address:
                known = self._clients[peer] = (address, self._client(peer, address))
            return known[1]

    def leave(self, peer: str) -> None:
        """Let go of the connection to `peer`, which ends with the last stream on it. Does nothing where there is
        none."""
        with self._lock:
            self._clients.pop(peer, None)

    def close(self) -> None:
        with self._lock:
            self._clients.clear()

    def _client(self, peer: str, address: str) -> flight.FlightClient:
        try:
            return flight.FlightClient(
                address,
                tls_root_certs=self._credentials.authority.read_bytes(),
                cert_chain=self._credentials.certificate.read_bytes(),
                private_key=self._credentials.key.read_bytes(),
                override_hostname=dns_name(peer),
                generic_options=_OPTIONS,
            )
        except FileNotFoundError as error:
            raise NotFound("a credential is missing", where=str(error.filename)) from None
        except (pa.ArrowException, ValueError) as error:
            raise BadInput(f"{address!r} is no address of a receiver: {error}") from None
