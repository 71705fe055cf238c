"""Streams between descriptors of this process and the courier of a pod: one connection each, with back-pressure."""

from __future__ import annotations

import json
import os
import select
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress

_CHUNK = 256 << 10
_REACH_SECONDS = 10.0


class Pumps:
    """The streams of one pod. They end by themselves when both of their ends have, or all at once by `cut`."""

    def __init__(self, address: tuple[str, int], context: ssl.SSLContext) -> None:
        self._address = address
        self._context = context
        self._stopped, self._stop = os.pipe()
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._left = 1
        self._cut = False

    def bring(self, name: str, descriptor: int, done: Callable[[], object]) -> None:
        """Carry what `descriptor` gives to the stream `name` of the pod. The descriptor is taken over."""
        self._begin(self._into, name, descriptor, done)

    def fetch(self, name: str, descriptor: int, done: Callable[[], object]) -> None:
        """Carry the stream `name` of the pod to `descriptor`, which is taken over."""
        self._begin(self._out_of, name, descriptor, done)

    def cut(self) -> None:
        """End every stream now, wherever it is."""
        with self._lock:
            if self._cut:
                return
            self._cut = True
            os.close(self._stop)
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self._leave()

    def _begin(
        self, carry: Callable[[ssl.SSLSocket, int], None], name: str, descriptor: int, done: Callable[[], object]
    ) -> None:
        with self._lock:
            self._left += 1
        work = (carry, name, descriptor, done)
        threading.Thread(target=self._run, args=work, name=f"stream {name}", daemon=True).start()

    def _run(
        self, carry: Callable[[ssl.SSLSocket, int], None], name: str, descriptor: int, done: Callable[[], object]
    ) -> None:
        try:
            with suppress(OSError), self._reach(name) as connection:
                carry(connection, descriptor)
        finally:
            with suppress(OSError):
                os.close(descriptor)
            self._leave()
            done()

    def _reach(self, name: str) -> ssl.SSLSocket:
        """Connect to the courier for one stream. Raises OSError."""
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        # Wrapped before it is connected: of one that is reset meanwhile, the module ssl would leave a socket open.
        connection = self._context.wrap_socket(socket.socket(family), suppress_ragged_eofs=False)
        try:
            connection.settimeout(_REACH_SECONDS)
            connection.connect(self._address)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._join(connection, name)
            connection.settimeout(None)
            connection.sendall(json.dumps({"stream": name}).encode() + b"\n")
        except BaseException:
            self._forget(connection)
            connection.close()
            raise
        return connection

    def _join(self, connection: ssl.SSLSocket, name: str) -> None:
        with self._lock:
            if self._cut:
                raise ConnectionAbortedError(name)
            self._connections.add(connection)

    def _into(self, connection: ssl.SSLSocket, descriptor: int) -> None:
        poll = select.poll()
        for watched in (descriptor, connection.fileno()):
            poll.register(watched, select.POLLIN)
        try:
            while True:
                ready = dict(poll.poll())
                if connection.fileno() in ready:
                    return  # nothing is ever said to us here: the reader is gone
                data = os.read(descriptor, _CHUNK)
                if not data:
                    with suppress(OSError):
                        connection.unwrap()  # says that this was all, and waits until all has been taken
                    return
                connection.sendall(data)
        finally:
            self._forget(connection)

    def _out_of(self, connection: ssl.SSLSocket, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        buffer = bytearray(_CHUNK)
        view = memoryview(buffer)
        try:
            while count := connection.recv_into(buffer):
                self._write(descriptor, view[:count])
        finally:
            self._forget(connection)

    def _write(self, descriptor: int, data: memoryview) -> None:
        """Write all, as fast as the reader takes it. Raises OSError where the reader is gone or all is cut."""
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        poll.register(self._stopped, select.POLLIN)
        while data:
            try:
                data = data[os.write(descriptor, data) :]
            except BlockingIOError:
                if any(watched == self._stopped for watched, _ in poll.poll()):
                    raise ConnectionAbortedError("cut") from None

    def _forget(self, connection: ssl.SSLSocket) -> None:
        with self._lock:
            self._connections.discard(connection)

    def _leave(self) -> None:
        """Close what all threads share, once the last of them is gone."""
        with self._lock:
            self._left -= 1
            last = self._left == 0
        if last:
            os.close(self._stopped)
