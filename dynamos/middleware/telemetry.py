"""One trace from edge to job: spans of every unit go into the append-only log `traces`.

Units make spans with `opentelemetry.trace.get_tracer(...)`. After `setup`, finished spans are written to the log by a
task of their own: the path of a request never waits for it. What does not fit into the queue is dropped and counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from opentelemetry import context, trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.trace import format_span_id, format_trace_id
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from dynamos.kit.errors import DynamosError
from dynamos.knowledge.bases import KnowledgeBase, Log

log = logging.getLogger(__name__)
TRACES = "traces"
QUEUE_SPANS = 4096
CLOSE_SECONDS = 2.0
SPANS_OF_ONE_TRACE = 1000
_TRACE_DIGITS = 32

_propagator = TraceContextTextMapPropagator()
_lock = threading.Lock()
_provider: TracerProvider | None = None
_tracers: list[Tracer] = []


def inject() -> dict[str, str]:
    """Give the W3C context of the current span, to be sent with a message. Empty where there is no span."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return carrier


@contextlib.contextmanager
def attach(carrier: Mapping[str, str]) -> Iterator[None]:
    """Make the spans of the block children of the span that `inject` told of. A carrier that says nothing valid is
    ignored."""
    token = context.attach(_propagator.extract(dict(carrier)))
    try:
        yield
    finally:
        context.detach(token)


def trace_id() -> str:
    """Give the id of the current trace in hexadecimal, or an empty text."""
    found = trace.get_current_span().get_span_context()
    return format_trace_id(found.trace_id) if found.is_valid else ""


def trace_of(text: str) -> str:
    """Give the trace id in a job's `trace`, be it the id itself or a W3C traceparent; empty where there is none."""
    return next((field for field in text.lower().split("-") if len(field) == _TRACE_DIGITS), "")


async def spans(kb: KnowledgeBase, trace: str) -> list[dict[str, Any]]:
    """Give the spans of one trace, from every unit, by their start. Each span once."""
    found = await kb.log(TRACES).read(f"*.{trace}", limit=SPANS_OF_ONE_TRACE)
    once = {(record["unit"], record["span"]): record for record in found}
    return sorted(once.values(), key=lambda record: (record["start_ns"], record["span"]))


def record_of(span: ReadableSpan, unit: str) -> dict[str, Any]:
    """Give a finished span as it is kept in the log."""
    ids = span.get_span_context()
    assert ids is not None
    return {
        "trace": format_trace_id(ids.trace_id),
        "span": format_span_id(ids.span_id),
        "parent": format_span_id(span.parent.span_id) if span.parent else "",
        "name": span.name,
        "unit": unit,
        "start_ns": span.start_time or 0,
        "end_ns": span.end_time or 0,
        "attributes": {name: _plain(value) for name, value in (span.attributes or {}).items()},
        "status": span.status.status_code.name.lower(),
    }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


class Tracer(SpanProcessor):
    """Writes the finished spans of one unit to the log. `dropped` counts spans that nobody will see."""

    def __init__(self, unit: str, records: Log, *, limit: int = QUEUE_SPANS) -> None:
        self.unit = unit
        self.dropped = 0
        self._log = records
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._queue: deque[dict[str, Any]] = deque()
        self._waiting = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task = asyncio.create_task(self._write(), name=f"spans of {unit}")

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a span; called from any thread, returns at once."""
        if not span.get_span_context().is_valid:  # type: ignore[union-attr]
            return
        if len(self._queue) >= self._limit:
            self.dropped += 1
            return
        self._queue.append(record_of(span, self.unit))
        with contextlib.suppress(RuntimeError):  # the loop is closed: the unit has ended
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._idle.clear()
        self._waiting.set()

    async def flush(self, *, within: float = CLOSE_SECONDS) -> None:
        """Wait until every span so far is in the log, or `within` seconds have passed."""
        if self._queue:
            self._wake()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._idle.wait()

    async def close(self) -> None:
        """Write what is queued, within a bound, and stop."""
        await self.flush()
        with _lock:
            if self in _tracers:
                _tracers.remove(self)
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _write(self) -> None:
        while True:
            await self._waiting.wait()
            self._waiting.clear()
            while self._queue:
                await self._append(self._queue.popleft())
            self._idle.set()

    async def _append(self, record: dict[str, Any]) -> None:
        try:
            await self._log.append(f"{self.unit}.{record['trace']}", record)
        except DynamosError as error:
            self.dropped += 1
            log.warning("span.dropped unit=%s dropped=%d error=%s", self.unit, self.dropped, error)


class _Fan(SpanProcessor):
    """Hands every finished span to the tracers that are set up now: OpenTelemetry cannot take a processor back."""

    def on_end(self, span: ReadableSpan) -> None:
        for tracer in tuple(_tracers):
            tracer.on_end(span)


def setup(unit: str, kb: KnowledgeBase, *, collector: str = "", limit: int = QUEUE_SPANS) -> Tracer:
    """Send the spans of this process to the log `traces` of `kb`, under the unit's name, until the tracer is closed.

    With `collector` (an OTLP/HTTP address) they go there as well, if the package for that is installed. Call inside a
    running loop.
    """
    tracer = Tracer(unit, kb.log(TRACES), limit=limit)
    with _lock:
        provider = _provide()
        _tracers.append(tracer)
    if collector:
        _collect(provider, collector)
    return tracer


def _provide() -> TracerProvider:
    """Give the process's provider; OpenTelemetry lets it be set only once."""
    global _provider  # noqa: PLW0603
    if _provider is None:
        _provider = TracerProvider(resource=Resource({"service.name": "dynamos"}), shutdown_on_exit=False)
        _provider.add_span_processor(_Fan())
        trace.set_tracer_provider(_provider)
    return _provider


def _collect(provider: TracerProvider, address: str) -> None:
    """Send spans to an OpenTelemetry collector too; say so clearly where that cannot be."""
    name = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
    try:
        known = importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        known = False
    if not known:
        log.warning(
            "telemetry.collector.missing address=%s hint=%s",
            address,
            "install opentelemetry-exporter-otlp-proto-http; spans still go to the log `traces`",
        )
        return
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    exporter = importlib.import_module(name).OTLPSpanExporter(endpoint=address)
    provider.add_span_processor(BatchSpanProcessor(exporter))
