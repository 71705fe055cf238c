"""Vitals: how the kubelet learns, over HTTP, whether a unit is ready and whether its event loop still turns."""

from __future__ import annotations

import asyncio
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from dynamos.kit.errors import Conflict

TURN_SECONDS = 3.0
"""How long the event loop may take to come to what it is asked."""


class Vitals:
    """Answers at `port`: /readyz once `ready` was called, /healthz as long as the loop that called it turns.

    Raises Conflict where somebody else is at the port.
    """

    def __init__(self, port: int, host: str = "") -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        vitals = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answers = {"/readyz": vitals.is_ready, "/healthz": vitals.is_alive}
                known = answers.get(self.path)
                self.send_response(404 if known is None else 200 if known() else 503)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Say nothing: it comes every few seconds."""

        try:
            self._server = ThreadingHTTPServer((host, port), Handler)
        except OSError as error:
            raise Conflict(f"nobody can ask at port {port} how the unit is: {error.strerror}", where=host) from error
        self._server.daemon_threads = True
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, name="vitals", daemon=True).start()

    def ready(self, _address: str = "") -> None:
        """Say that work is taken from now on. Called from the unit's event loop."""
        self._loop = asyncio.get_running_loop()

    def is_ready(self) -> bool:
        return self._loop is not None and self.is_alive()

    def is_alive(self) -> bool:
        """Tell whether the loop turns; before there is one, whoever starts is alive."""
        loop = self._loop
        if loop is None:
            return True
        turned = threading.Event()
        try:
            loop.call_soon_threadsafe(turned.set)
        except RuntimeError:  # closed: the unit ends
            return False
        return turned.wait(TURN_SECONDS)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
