"""Metrics of the API, in Prometheus' text form."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 60.0)


class Metrics:
    """Each process has its own; none is global."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "dynamos_api_requests", "Requests that were answered", ["method", "route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "dynamos_api_request_seconds",
            "Time from the request to the end of its answer",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.in_flight = Gauge("dynamos_api_requests_in_flight", "Requests being answered", registry=self.registry)
        self.jobs = Gauge("dynamos_api_jobs", "Jobs whose results are awaited or kept", registry=self.registry)
        self.kept = Gauge(
            "dynamos_api_results_bytes", "Bytes of results that are kept", ["place"], registry=self.registry
        )
        self.spans_dropped = Gauge(
            "dynamos_api_spans_dropped", "Spans that were not written to the log", registry=self.registry
        )

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answer."""
        self.requests.labels(method, route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """Give all metrics."""
        return generate_latest(self.registry)
