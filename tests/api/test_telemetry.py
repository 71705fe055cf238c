"""Spans go to the log without holding up who makes them."""

from __future__ import annotations

import asyncio
import logging

import pytest
from opentelemetry import trace

from dynamos.kit.errors import Unavailable
from dynamos.knowledge.memory import MemoryCluster
from dynamos.middleware import telemetry
from support.apis import PARTIES

tracer = trace.get_tracer("tests")


def run(work, **options):
    async def inside():
        cluster = MemoryCluster(PARTIES)
        kb = cluster.connect("api")
        written = telemetry.setup("api", kb, **options)
        try:
            return await work(kb, written)
        finally:
            await written.close()
            await kb.close()

    return asyncio.run(inside())


def test_a_span_is_kept_with_its_parent_times_and_attributes():
    async def work(kb, written):
        with tracer.start_as_current_span("outer") as outer:
            with tracer.start_as_current_span("inner", attributes={"rows": 3, "parties": ("UVA", "VU")}):
                carrier = telemetry.inject()
                found = telemetry.trace_id()
            outer.set_status(trace.StatusCode.ERROR)
        await written.flush()
        return carrier, found, await telemetry.spans(kb, found)

    carrier, found, (outer, inner) = run(work)
    assert carrier["traceparent"].startswith(f"00-{found}-{inner['span']}-")
    assert inner["parent"] == outer["span"]
    assert inner["attributes"] == {"rows": 3, "parties": ["UVA", "VU"]}
    assert outer["start_ns"] <= inner["start_ns"] <= inner["end_ns"] <= outer["end_ns"]
    assert (outer["status"], inner["status"], outer["parent"]) == ("error", "unset", "")
    assert inner["unit"] == "api"


def test_an_attached_context_is_the_parent_and_rubbish_is_not():
    carrier = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    with telemetry.attach(carrier):
        assert telemetry.inject()["traceparent"] == carrier["traceparent"]
    for rubbish in ({}, {"traceparent": "rubbish"}, {"traceparent": "00-0-0-01"}):
        with telemetry.attach(rubbish):
            assert telemetry.inject() == {}
            assert telemetry.trace_id() == ""


@pytest.mark.parametrize(
    ("text", "found"),
    [("a" * 32, "a" * 32), (f"00-{'b' * 32}-{'c' * 16}-01", "b" * 32), ("", ""), ("nothing", "")],
)
def test_a_jobs_trace_is_an_id_or_a_whole_context(text, found):
    assert telemetry.trace_of(text) == found


def test_what_does_not_fit_is_dropped_and_counted():
    async def work(kb, written):
        with tracer.start_as_current_span("outer"):
            found = telemetry.trace_id()
            for number in range(10):
                with tracer.start_as_current_span(f"span {number}"):
                    pass
        await written.flush()
        return written.dropped, len(await telemetry.spans(kb, found))

    assert run(work, limit=4) == (7, 4)


def test_a_log_that_is_away_costs_spans_and_nothing_else(monkeypatch, caplog):
    async def work(kb, written):
        async def append(subject, record):
            raise Unavailable("away")

        monkeypatch.setattr(written._log, "append", append)
        with tracer.start_as_current_span("outer"):
            pass
        await written.flush()
        return written.dropped

    assert run(work) == 1
    assert "span.dropped" in caplog.text


def test_without_a_setup_spans_go_nowhere():
    run(lambda *_: asyncio.sleep(0))
    with tracer.start_as_current_span("alone"):
        assert telemetry._tracers == []


def test_a_collector_that_cannot_be_served_is_said(caplog):
    with caplog.at_level(logging.WARNING):
        run(lambda *_: asyncio.sleep(0), collector="http://127.0.0.1:4318")
    assert "opentelemetry-exporter-otlp-proto-http" in caplog.text
