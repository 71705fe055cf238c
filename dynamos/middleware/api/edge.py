"""What every request passes first: limits, the trace, the mode's header, metrics, and the last net for defects."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dynamos.kit.errors import Broken, DynamosError, Refused, Unavailable
from dynamos.middleware import telemetry
from dynamos.middleware.api import problems
from dynamos.middleware.api.metrics import Metrics

log = logging.getLogger(__name__)
tracer = trace.get_tracer("dynamos.api")
MODE_HEADER = "DYNAMOS-Mode"
TRACE_HEADER = "DYNAMOS-Trace"
TRACED = "/api/"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})
_SERVER_ERROR = 500


class Edge:
    """An ASGI middleware. At most `limit` requests are under way at once; `leaving` tells that the process stops."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        open: bool,  # noqa: A002 - the setting's name
        limit: int,
        leaving: Callable[[], bool],
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._open = open
        self._limit = limit
        self._leaving = leaving
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope = _without_slash(scope)
        answer = _Answer(send, self._headers())
        began = time.monotonic()
        self._under_way += 1
        self._metrics.in_flight.set(self._under_way)
        try:
            if scope["path"].startswith(TRACED):
                await self._traced(scope, receive, answer)
            else:
                await self._guarded(scope, receive, answer)
        finally:
            self._under_way -= 1
            self._metrics.in_flight.set(self._under_way)
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.answered(method, _route(scope), answer.status, time.monotonic() - began)

    def _headers(self) -> dict[str, str]:
        headers = {"x-content-type-options": "nosniff"}
        return {**headers, MODE_HEADER: "open"} if self._open else headers

    async def _traced(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        carrier = {name: value for name, value in Headers(scope=scope).items() if name in ("traceparent", "tracestate")}
        with (
            telemetry.attach(carrier),
            tracer.start_as_current_span(
                f"{scope['method']} {scope['path']}", kind=SpanKind.SERVER, record_exception=False
            ) as span,
        ):
            if identifier := telemetry.trace_id():
                answer.headers[TRACE_HEADER] = identifier
            await self._guarded(scope, receive, answer)
            span.update_name(f"{scope['method']} {_route(scope)}")
            span.set_attribute("http.response.status_code", answer.status)
            if answer.status >= _SERVER_ERROR:
                span.set_status(Status(StatusCode.ERROR))

    async def _guarded(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        """Answer, whatever happens: a defect is logged, and told without what it knew."""
        error: DynamosError | None = self._refusal(scope)
        if error is None:
            try:
                await self._app(scope, receive, answer)
            except DynamosError as known:
                error = known
            except asyncio.CancelledError:
                if not self._leaving():
                    raise
                error = Unavailable("the API is stopping", code="stopping", hint="try again when it is back")
            except Exception:
                log.exception("api.broken method=%s path=%s", scope["method"], scope["path"])
                error = Broken("the API has a defect", hint="see the API's log")
        if error is not None and not answer.started:
            await problems.response(error, instance=scope["path"])(scope, receive, answer)

    def _refusal(self, scope: Scope) -> DynamosError | None:
        if self._under_way > self._limit:
            return Unavailable(f"{self._limit} requests are under way already", code="busy", retry_after=1)
        if self._open and Headers(scope=scope).get("sec-fetch-site") == "cross-site":
            return Refused("an open API takes no requests from other sites' pages", code="cross-site")
        return None


class _Answer:
    """Sends on what the application says; remembers the status; adds headers."""

    def __init__(self, send: Send, headers: Mapping[str, str]) -> None:
        self._send = send
        self.headers = dict(headers)
        self.started = False
        self.status = 499

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in self.headers.items():
                headers[name] = value
        await self._send(message)


def _without_slash(scope: Scope) -> Scope:
    """Take a path with a slash at its end for the one without, as upstream does."""
    path = str(scope["path"])
    return {**scope, "path": path.rstrip("/")} if path.startswith(TRACED) and path.endswith("/") else scope


def _route(scope: Scope) -> str:
    """Give the route's path, the same for all values of its parameters."""
    return str(getattr(scope.get("route"), "path", "unknown"))
