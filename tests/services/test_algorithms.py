"""`sql-algorithm`: exact answers over rows as they come."""

from __future__ import annotations

import math
import statistics
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamos.services.testing import Ran, run, stream_of

ROWS = pa.table(
    {
        "origin": ["EWR", "JFK", "EWR", None, "JFK", "EWR"],
        "delay": [10, 20, 30, 5, None, -4],
        "ratio": [0.25, 0.5, 0.75, None, 0.5, 1.0],
        "odd \"name'": [1, 1, 1, 1, 1, 1],
    }
)


def compute(algorithm: str, rows: Any = ROWS, *, graph: bool = False, **columns: str) -> Ran:
    options = {"algorithm": algorithm, "columns": columns, "graph": graph}
    return run("sql-algorithm", {"in": rows}, options)


@pytest.mark.parametrize("algorithm", ["", "none", "table", "Table"])
def test_a_table_is_the_rows_as_they_are(algorithm: str) -> None:
    ran = compute(algorithm, value="nothing of this is read")
    assert ran.table().equals(ROWS)
    assert ran.shape() == "table"


@pytest.mark.parametrize(
    ("algorithm", "columns", "expected"),
    [
        ("count", {}, [{"count": 6}]),
        ("count", {"group": "origin"}, [("EWR", 3), ("JFK", 2), (None, 1)]),
        ("count", {"group": "origin", "value": "delay"}, [("EWR", 3), ("JFK", 1), (None, 1)]),
        ("sum", {"group": "ORIGIN", "value": "Delay"}, [("EWR", Decimal(36)), ("JFK", Decimal(20)), (None, 5)]),
        ("mean", {"group": "origin", "value": "delay"}, [("EWR", 12.0), ("JFK", 20.0), (None, 5.0)]),
        ("average", {"group": "origin", "value": "delay"}, [("EWR", 12.0), ("JFK", 20.0), (None, 5.0)]),
        ("min", {"group": "origin", "value": "delay"}, [("EWR", -4), ("JFK", 20), (None, 5)]),
        ("max", {"group": "origin", "value": "delay, ratio"}, [("EWR", 30, 1.0), ("JFK", 20, 0.5), (None, 5, None)]),
        ("max", {"value": "origin"}, [("JFK",)]),
        ("sum", {"value": "ratio"}, [(3.0,)]),
        ("sum", {"value": "odd \"name'"}, [(Decimal(6),)]),
        ("quantiles", {"group": "origin", "value": "delay", "quantiles": "0, 0.5, 1"}, [
            ("EWR", -4.0, 10.0, 30.0), ("JFK", 20.0, 20.0, 20.0), (None, 5.0, 5.0, 5.0),
        ]),
    ],
)  # fmt: skip
def test_results_by_group_or_as_a_whole(algorithm: str, columns: dict[str, str], expected: list[Any]) -> None:
    ran = compute(algorithm, **columns)
    assert ran.shape() == "table"
    assert [tuple(row.values()) for row in ran.rows()] == [
        tuple(row.values()) if isinstance(row, dict) else row for row in expected
    ]


@pytest.mark.parametrize(
    ("algorithm", "columns", "names"),
    [
        ("count", {}, ["count"]),
        ("count", {"value": "delay"}, ["count_delay"]),
        ("mean", {"group": "origin", "value": "delay,ratio"}, ["origin", "mean_delay", "mean_ratio"]),
        ("average", {"value": "delay"}, ["average_delay"]),
        ("quantiles", {"value": "delay"}, ["q25_delay", "q50_delay", "q75_delay"]),
        ("quantiles", {"value": "delay", "quantiles": "0.125"}, ["q12.5_delay"]),
        ("histogram", {"group": "origin", "value": "delay"}, ["origin", "column", "low", "high", "count"]),
    ],
)
def test_columns_of_a_result_are_named_after_what_they_hold(
    algorithm: str, columns: dict[str, str], names: list[str]
) -> None:
    assert compute(algorithm, **columns).table().schema.names == names


def test_a_histogram_counts_every_value_once_and_tells_empty_bins() -> None:
    rows = pa.table({"v": [0.0, 1.0, 1.0, 2.5, 10.0, None, math.nan, math.inf]})
    found = compute("histogram", rows, value="v", bins="4").rows()
    assert [(row["low"], row["high"], row["count"]) for row in found] == [
        (0.0, 2.5, 3), (2.5, 5.0, 1), (5.0, 7.5, 0), (7.5, 10.0, 1),
    ]  # fmt: skip


def test_a_histogram_has_the_same_bins_for_every_group() -> None:
    rows = pa.table({"g": ["a", "b", None], "v": [0, 4, 8]})
    found = compute("histogram", rows, group="g", value="v", bins="2").rows()
    assert [(row["g"], row["low"], row["count"]) for row in found] == [
        ("a", 0.0, 1), ("a", 4.0, 0), ("b", 0.0, 0), ("b", 4.0, 1), (None, 0.0, 0), (None, 4.0, 1),
    ]  # fmt: skip


def test_a_histogram_of_equal_values_has_one_bin() -> None:
    found = compute("histogram", pa.table({"v": [7, 7]}), value="v").rows()
    assert found == [{"column": "v", "low": 7.0, "high": 7.0, "count": 2}]


@pytest.mark.parametrize("algorithm", ["count", "sum", "mean", "min", "quantiles", "histogram"])
def test_no_rows_give_no_groups(algorithm: str) -> None:
    assert compute(algorithm, ROWS.slice(0, 0), group="origin", value="delay").table().num_rows == 0


def test_no_rows_as_a_whole_give_a_count_of_nothing_and_nulls() -> None:
    empty = ROWS.slice(0, 0)
    assert compute("count", empty).rows() == [{"count": 0}]
    assert compute("sum", empty, value="delay").rows() == [{"sum_delay": None}]
    assert compute("mean", empty, value="ratio").rows() == [{"mean_ratio": None}]
    assert compute("quantiles", empty, value="ratio", quantiles="0.5").rows() == [{"q50_ratio": None}]


def test_sums_of_whole_numbers_go_beyond_64_bits() -> None:
    rows = pa.table({"v": [2**63 - 1] * 3})
    assert compute("sum", rows, value="v").rows() == [{"sum_v": Decimal(3 * (2**63 - 1))}]


def test_sums_of_decimals_are_exact_and_too_great_ones_are_told() -> None:
    assert compute("sum", pa.table({"v": [Decimal("0.1")] * 10}), value="v").rows() == [{"sum_v": Decimal("1.0")}]
    great = pa.table({"v": pa.array([Decimal(10**38 - 1)] * 2, pa.decimal128(38, 0))})
    ran = compute("sum", great, value="v")
    assert (ran.code, ran.error["code"]) == (7, "query-failed")
    assert "outside the range" in ran.error["message"]


def test_sums_of_floating_point_numbers_are_compensated() -> None:
    rows = pa.table({"v": [0.1] * 10_000 + [1e9, -1e9]})
    assert compute("sum", rows, value="v").rows()[0]["sum_v"] == pytest.approx(1000, abs=1e-9)


def test_the_average_is_printed_as_the_original_does() -> None:
    rows = pa.table({"Geslacht": ["M", "V", "M", "X", None], "Salschal": [11, 10, 12, 99, 99]})
    ran = compute("average", rows)
    assert ran.rows() == [{"avg_salary_scale_men": "11.500", "avg_salary_scale_women": "10.000"}]
    assert ran.shape() == "record"


@pytest.mark.parametrize(
    ("sexes", "expected"),
    [
        (["V", "V"], [{"avg_salary_scale_women": "1.500"}]),
        (["M", "M"], [{"avg_salary_scale_men": "1.500"}]),
        (["X", "X"], []),
    ],
)
def test_the_average_leaves_out_who_is_not_there(sexes: list[str], expected: list[dict[str, str]]) -> None:
    ran = compute("average", pa.table({"Geslacht": sexes, "Salschal": [1, 2]}))
    assert ran.rows() == expected
    assert ran.shape() == "record"


def test_the_average_reads_scales_that_are_texts_and_ignores_columns_it_does_not_know() -> None:
    rows = pa.table({"geslacht": ["M"], "SALSCHAL": ["7"]})
    assert compute("average", rows, Geslacht="Aanst_22, Gebdat").rows() == [{"avg_salary_scale_men": "7.000"}]


def test_the_average_for_a_chart_is_a_table() -> None:
    rows = pa.table({"Geslacht": ["V", "M"], "Salschal": [1, 2]})
    ran = compute("average", rows, graph=True)
    assert ran.shape() == "table"
    assert ran.rows() == [
        {"Geslacht": "M", "average_Salschal": 2.0},
        {"Geslacht": "V", "average_Salschal": 1.0},
    ]


@pytest.mark.parametrize(
    ("algorithm", "columns", "parts"),
    [
        ("meen", {"value": "delay"}, ["there is no algorithm 'meen'", "did you mean 'mean'?"]),
        ("magic", {}, ["there is no algorithm 'magic'", "table gives the rows as they are"]),
        ("average", {}, ["needs the columns Geslacht and Salschal", "origin, delay"]),
        ("mean", {}, ["mean needs a column to work on"]),
        ("mean", {"value": "dalay"}, ["no column 'dalay'", "did you mean 'delay'?"]),
        ("mean", {"value": "origin"}, ["takes numbers, and 'origin' is string"]),
        ("quantiles", {"value": "origin"}, ["takes numbers"]),
        ("mean", {"vaule": "delay"}, ["columns.vaule", "did you mean 'value'?"]),
        ("quantiles", {"value": "delay", "quantiles": "0.5, 2"}, ["quantiles are numbers from 0 to 1"]),
        ("quantiles", {"value": "delay", "quantiles": "half"}, ["quantiles are numbers from 0 to 1"]),
        ("histogram", {"value": "delay", "bins": "0"}, ["bins are a whole number"]),
        ("histogram", {"value": "delay", "bins": "1.5"}, ["bins are a whole number"]),
        ("mean", {"value": "x", "group": "y", "bins": "z"}, ["'x'", "'y'", "bins"]),
    ],
)
def test_what_cannot_be_computed_is_told(algorithm: str, columns: dict[str, str], parts: list[str]) -> None:
    ran = compute(algorithm, **columns)
    assert ran.code == 2
    for part in parts:
        assert part in f"{ran.error['message']} {ran.error.get('hint', '')}"


def test_a_broken_input_is_told_as_such_and_not_as_a_failure_of_the_algorithm() -> None:
    for algorithm in ("mean", "quantiles", "histogram", "average"):
        ran = compute(algorithm, stream_of(ROWS)[:-8], value="delay")
        assert (ran.code, ran.error["code"]) == (7, "input-broken")


def test_errors_quote_no_values() -> None:
    ran = compute("average", pa.table({"Geslacht": ["M"], "Salschal": ["secret"]}))
    assert ran.code == 7
    assert "secret" not in str(ran.error)


VALUES = st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.none() | st.integers(-(2**40), 2**40)), max_size=40)


@settings(max_examples=40, deadline=None)
@given(rows=VALUES, size=st.integers(1, 7), quantile=st.floats(0, 1))
def test_answers_are_exact_however_the_rows_are_split(
    rows: list[tuple[str | None, int | None]], size: int, quantile: float
) -> None:
    table = pa.table(
        {"g": pa.array([g for g, _ in rows], pa.string()), "v": pa.array([v for _, v in rows], pa.int64())}
    )
    batches = table.to_batches(max_chunksize=size) or [pa.RecordBatch.from_pylist([], schema=table.schema)]
    groups: dict[str | None, list[int]] = {}
    for g, v in rows:
        groups.setdefault(g, []).extend([] if v is None else [v])
    sums = {row["g"]: row["sum_v"] for row in compute("sum", batches, group="g", value="v").rows()}
    assert sums == {g: Decimal(sum(values)) if values else None for g, values in groups.items()}
    found = compute("quantiles", batches, group="g", value="v", quantiles=repr(quantile)).rows()
    assert {row["g"] for row in found} == set(groups)
    for row in found:
        group, value = row.values()
        if values := groups[group]:
            assert value == pytest.approx(float(np.quantile(values, quantile)), rel=1e-12, abs=1e-6)
            mean = compute("mean", batches, value="v").rows()[0]["mean_v"]
            assert mean == pytest.approx(statistics.fmean(v for _, v in rows if v is not None))
        else:
            assert value is None


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.floats(-1e6, 1e6) | st.integers(-5, 5).map(float), min_size=1, max_size=40),
    bins=st.integers(1, 12),
)
def test_a_histogram_agrees_with_its_own_borders(values: list[float], bins: int) -> None:
    found = compute("histogram", pa.table({"v": values}), value="v", bins=str(bins)).rows()
    for number, row in enumerate(found):
        last = number == len(found) - 1
        expected = sum(row["low"] <= v and (v < row["high"] or (last and v <= row["high"])) for v in values)
        assert row["count"] == expected
    assert sum(row["count"] for row in found) == len(values)


@pytest.mark.slow
def test_a_million_different_values_in_little_memory(tmp_path: Path) -> None:
    rows = pa.table({"v": np.random.default_rng(1).random(1_000_000)})
    options = {"algorithm": "quantiles", "columns": {"value": "v", "quantiles": "0.5"}, "memory": "48MiB"}
    found = run("sql-algorithm", {"in": rows}, options, scratch=tmp_path).rows()
    assert found[0]["q50_v"] == pytest.approx(float(np.quantile(rows["v"].to_numpy(), 0.5)), rel=1e-12)
    assert list(tmp_path.iterdir()) == []
