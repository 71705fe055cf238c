import io

from rich.console import Console

from dynamos.cli.timelines import draw
from dynamos.middleware.spans import Span, spans_of

MS = 1_000_000


def picture(spans, *, width=80, encoding="utf-8"):
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    Console(file=file, width=width, color_system=None, legacy_windows=False).print(draw(spans, title="job"))
    file.seek(0)
    return file.read().splitlines()


def record(span, parent, unit, name, start, end, status="ok"):
    return {
        "span": span, "parent": parent, "unit": unit, "name": name, "start_ns": start * MS, "end_ns": end * MS,
        "status": status,
    }  # fmt: skip


def test_each_unit_is_a_block_and_each_span_a_bar_with_its_length():
    spans = [
        Span("api", "POST", 0, 100 * MS),
        Span("api", "submit", 0, 50 * MS, 1),
        Span("united", "part", 50 * MS, 100 * MS),
    ]
    assert [line.rstrip() for line in picture(spans, width=60)] == [
        "job        0                               100 ms",
        "api",
        "  POST     ██████████████████████████████████████   100.0 ms",
        "    submit ███████████████████                       50.0 ms",
        "united",
        "  part                        ███████████████████    50.0 ms",
    ]


def test_a_picture_is_never_wider_than_the_terminal():
    spans = [Span("a-unit-with-a-very-long-name", "x" * 200, 0, MS, 9)]
    for width in (60, 80, 120):
        assert all(len(line) <= width for line in picture(spans, width=width))


def test_a_bar_is_there_even_for_the_shortest_span_and_one_at_the_end():
    lines = picture([Span("u", "all", 0, 1000 * MS), Span("u", "late", 1000 * MS, 1000 * MS)])
    assert lines[3].strip().startswith("late")
    assert lines[3].split() == ["late", "█", "0.0", "ms"]


def test_without_unicode_the_bars_are_plain():
    lines = picture([Span("u", "all", 0, 10 * MS)], encoding="ascii")
    assert "#####" in lines[2]


def test_spans_are_by_unit_and_as_deep_as_they_are_in_their_unit():
    records = [
        record("b", "a", "orchestrator", "submit", 1, 5),
        record("a", "", "api", "POST", 0, 9),
        record("d", "c", "united", "sql-query", 3, 4, "error"),
        record("c", "b", "united", "part", 2, 6),
    ]
    found = spans_of(records, {})
    assert [(s.unit, s.name, s.depth, s.failed) for s in found] == [
        ("api", "POST", 0, False),
        ("orchestrator", "submit", 0, False),
        ("united", "part", 0, False),
        ("united", "sql-query", 1, True),
    ]


def test_steps_that_have_no_span_come_from_the_jobs_record():
    usage = {"service": "sql-query", "started": "1970-01-01T00:00:00.003+00:00", "wallMs": 2.0, "exit": 0}
    job = {"parts": {"united": {"usages": [usage]}}}
    found = spans_of([record("c", "", "united", "part", 2, 6)], job)
    assert [(s.name, s.depth, s.start, s.end) for s in found][1] == ("sql-query", 1, 3 * MS, 5 * MS)
    named = [record("c", "", "united", "part", 2, 6), record("d", "c", "united", "sql-query", 3, 5)]
    assert len(spans_of(named, job)) == 2


def test_a_circle_among_parents_ends():
    assert len(spans_of([record("a", "b", "u", "x", 0, 1), record("b", "a", "u", "y", 0, 1)], {})) == 2
