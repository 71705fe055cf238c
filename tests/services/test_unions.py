"""`sql-aggregate`: every row of every provider, once."""

from __future__ import annotations

import os
import threading
from collections import Counter
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamos.services import unions
from dynamos.services.streams import Channel, Stream, read
from dynamos.services.testing import run, stream_of

EDGE = "{}.sql-query>SURF.sql-aggregate"


def union(options: dict[str, Any] | None = None, **providers: Any) -> Any:
    return run("sql-aggregate", {EDGE.format(name): rows for name, rows in providers.items()}, options)


def test_rows_of_two_providers_are_counted_once() -> None:
    rows = pa.table({"n": range(1000)})
    table = union(UVA=rows, VU=rows).table()
    assert Counter(table["n"].to_pylist()) == Counter([*range(1000), *range(1000)])


def test_one_provider_passes_as_it_is() -> None:
    rows = pa.table({"n": [1, None], "s": ["a", "b"]})
    assert union(UVA=rows).table().equals(rows)


def test_the_origin_of_each_row_can_be_told() -> None:
    found = union({"origin": "provider"}, UVA=pa.table({"n": [1]}), VU=pa.table({"n": [2]})).rows()
    assert sorted(found, key=lambda row: row["n"]) == [{"n": 1, "provider": "UVA"}, {"n": 2, "provider": "VU"}]


def test_columns_may_come_in_any_order() -> None:
    found = union(UVA=pa.table({"a": [1], "b": ["x"]}), VU=pa.table({"b": ["y"], "a": [2]}))
    assert sorted(found.rows(), key=str) == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (pa.array([1], pa.int32()), pa.array([2], pa.int64()), pa.int64()),
        (pa.array([1], pa.int64()), pa.array([2.5]), pa.float64()),
        (pa.array([1], pa.int64()), pa.array(["x"]), pa.string()),
        (pa.array([1.5]), pa.array(["x"]), pa.string()),
        (pa.array([None], pa.null()), pa.array([2], pa.int64()), pa.int64()),
        (pa.array([None], pa.null()), pa.array([None], pa.null()), pa.null()),
        (pa.array([True]), pa.array(["x"]), pa.string()),
        (pa.array([1], pa.date32()), pa.array(["x"]), pa.string()),
        (pa.array(["x"]).dictionary_encode(), pa.array(["y"]), pa.string()),
        (pa.array(["x"]).dictionary_encode(), pa.array(["y"]).dictionary_encode(), pa.string()),
        (pa.array([Decimal("1.5")]), pa.array([Decimal("10.25")]), pa.decimal128(4, 2)),
        (pa.array([1], pa.timestamp("s")), pa.array([1], pa.timestamp("us")), pa.timestamp("us")),
    ],
    ids=str,
)
def test_types_widen_as_far_as_they_must(one: pa.Array, other: pa.Array, expected: pa.DataType) -> None:
    for providers in ({"UVA": one, "VU": other}, {"UVA": other, "VU": one}):
        ran = union(**{name: pa.table({"x": values}) for name, values in providers.items()})
        assert ran.table().schema.field("x").type == expected
        assert ran.table().num_rows == 2


def test_a_number_that_would_lose_digits_is_told_and_not_changed() -> None:
    ran = union(UVA=pa.table({"x": [2**60 + 1]}), VU=pa.table({"x": [0.5]}))
    assert ran.code == 2
    assert ran.error["where"] == "UVA.x"
    assert str(2**60 + 1) not in str(ran.error)
    assert not ran.complete()


@pytest.mark.parametrize(
    ("rows", "part"),
    [
        ({"a": [1]}, "VU.b: VU has no such column"),
        ({"a": [1], "b": [1], "c": [1]}, "UVA.c: UVA has no such column"),
        ({"a": [1], "B": [1]}, "did you mean 'B'?"),
    ],
)
def test_columns_that_are_not_everywhere_are_told_by_provider(rows: dict[str, list[int]], part: str) -> None:
    ran = union(UVA=pa.table({"a": [1], "b": [2]}), VU=pa.table(rows))
    assert ran.code == 2
    assert part in ran.error["message"]


def test_two_columns_of_one_name_are_told() -> None:
    twice = pa.table([pa.array([1]), pa.array([2])], names=["a", "a"])
    ran = union(UVA=pa.table({"a": [1]}), VU=twice)
    assert "VU.a: two of its columns have this name" in ran.error["message"]


def test_an_origin_that_hides_a_column_is_told() -> None:
    assert union({"origin": "n"}, UVA=pa.table({"n": [1]})).error["where"] == "options.origin"


def test_no_inputs_are_told() -> None:
    assert run("sql-aggregate", {}).code == 2


def test_providers_without_rows_leave_the_schema() -> None:
    empty = pa.table({"n": pa.array([], pa.int64())})
    assert union(UVA=empty, VU=empty).table().equals(empty)


def test_a_provider_that_breaks_off_makes_no_whole_result() -> None:
    rows = pa.table({"n": range(10)})
    ran = union(UVA=rows, VU=stream_of(rows)[:-8])
    assert (ran.code, ran.error["code"]) == (7, "input-broken")
    assert "VU.sql-query" in ran.error["message"]
    assert not ran.complete()


def test_a_slow_provider_keeps_no_other_waiting() -> None:
    """All of VU's rows pass while UVA has sent only its schema."""
    slow, later = os.pipe()
    content = stream_of(pa.table({"n": [1]}))
    head = len(stream_of(pa.table({"n": pa.array([], pa.int64())}))) - 8
    os.write(later, content[:head])
    batches = pa.table({"n": range(100)}).to_batches(max_chunksize=1)
    streams = {"UVA": read(Channel(slow), "UVA"), "VU": Stream(batches[0].schema, batches)}
    arriving = unions.interleaved(streams)
    assert [name for name, _ in (next(arriving) for _ in range(100))] == ["VU"] * 100
    os.write(later, content[head:])
    os.close(later)
    assert [name for name, _ in arriving] == ["UVA"]


def test_readers_that_wait_to_hand_over_go_home_when_nobody_wants_more() -> None:
    batch = pa.record_batch({"n": [1]})
    before = threading.active_count()
    arriving = unions.interleaved({str(n): Stream(batch.schema, [batch] * 50) for n in range(8)})
    next(arriving)
    threads = [thread for thread in threading.enumerate() if thread.daemon and "_drain" in thread.name]
    arriving.close()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert threads
    assert threading.active_count() <= before


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.lists(
            st.lists(st.tuples(st.none() | st.integers(-(2**63), 2**63 - 1), st.none() | st.text("ab", max_size=3)))
        ),
        min_size=1,
        max_size=5,
    )
)
def test_the_union_holds_exactly_the_rows_of_all_however_they_are_split(providers: list[list[list[Any]]]) -> None:
    schema = pa.schema([("n", pa.int64()), ("s", pa.string())])

    def table(batches: list[list[Any]]) -> pa.Table:
        made = [
            pa.RecordBatch.from_arrays(
                [pa.array([row[0] for row in rows], pa.int64()), pa.array([row[1] for row in rows], pa.string())],
                schema=schema,
            )
            for rows in batches
        ]
        return pa.Table.from_batches(made, schema)

    ran = union(**{f"P{number}": table(batches) for number, batches in enumerate(providers)})
    found = Counter((row["n"], row["s"]) for row in ran.rows())
    assert found == Counter(row for batches in providers for rows in batches for row in rows)
