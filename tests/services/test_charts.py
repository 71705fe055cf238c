"""`sql-graph`: what a picture of a result shows."""

from __future__ import annotations

import datetime as dt
import sys
from typing import Any
from xml.etree import ElementTree as ET

import pyarrow as pa
import pytest

from dynamos.services.series import Chart, chart_of
from dynamos.services.testing import Ran, run

MEANS = pa.table({"origin": ["EWR", "JFK", None], "mean_dep_delay": [15.1, 12.25, 10.3]})


def chart(table: pa.Table, **options: Any) -> Chart:
    return chart_of(table, table.num_rows, **options)


def texts(ran: Ran) -> list[str]:
    """Give every text in the picture."""
    root = ET.fromstring(ran.rows()[0]["data"])
    return ["".join(element.itertext()).strip() for element in root.iter("{http://www.w3.org/2000/svg}text")]


def test_a_result_becomes_one_svg_that_is_the_same_each_time() -> None:
    pytest.importorskip("matplotlib")
    ran = run("sql-graph", {"in": MEANS})
    assert ran.shape() == "chart"
    assert [row["media_type"] for row in ran.rows()] == ["image/svg+xml"]
    assert {"EWR", "JFK", "(none)", "15.1", "12.25", "mean_dep_delay by origin"} <= set(texts(ran))
    assert run("sql-graph", {"in": MEANS}).outputs == ran.outputs


def test_names_are_texts_and_never_markup() -> None:
    pytest.importorskip("matplotlib")
    rows = pa.table({"name": ["<script>", "$x^2$", "a & b"], "n": [1, 2, 3]})
    assert {"<script>", "$x^2$", "a & b"} <= set(texts(run("sql-graph", {"in": rows}, {"title": "<b>"})))


@pytest.mark.parametrize("kind", ["auto", "bar", "line"])
def test_every_kind_can_be_drawn(kind: str) -> None:
    pytest.importorskip("matplotlib")
    for rows in (MEANS, pa.table({"month": [1, 2, None], "a": [1.0, None, 3.0], "b": [1, 2, 3]})):
        assert run("sql-graph", {"in": rows}, {"kind": kind}).code == 0


def test_a_record_becomes_a_bar_for_each_member() -> None:
    record = pa.table({"avg_salary_scale_men": ["11.877"], "avg_salary_scale_women": ["10.597"]})
    found = chart(record.replace_schema_metadata({"dynamos.shape": "record"}))
    assert found == Chart("bar", ["men", "women"], {"": [11.877, 10.597]}, title="avg salary scale")


def test_rows_along_names_become_bars_and_along_an_order_a_line() -> None:
    assert chart(MEANS).kind == "bar"
    months = chart(pa.table({"month": [2, 1], "mean": [20.0, 10.0]}))
    assert (months.kind, months.labels, months.series) == ("line", [1, 2], {"mean": [10.0, 20.0]})
    days = chart(pa.table({"day": [dt.date(2013, 1, 1)], "a": [1], "b": [2]}).slice(0, 1), x="day", y="a,b")
    assert (days.kind, list(days.series)) == ("line", ["a", "b"])


def test_several_groups_name_the_bars_together() -> None:
    found = chart(pa.table({"origin": ["EWR"] * 2, "dest": ["LAX", "SFO"], "n": [1, 2]}))
    assert (found.labels, found.x) == (["EWR, LAX", "EWR, SFO"], "origin, dest")


def test_a_histogram_becomes_its_bins() -> None:
    rows = pa.table({"column": ["v"] * 2, "low": [0.0, 5.0], "high": [5.0, 10.0], "count": [3, 4]})
    found = chart(rows)
    assert (found.kind, found.labels, found.widths, found.series) == ("bins", [0.0, 5.0], [5.0, 5.0], {"": [3, 4]})


def test_what_does_not_fit_is_told_on_the_picture() -> None:
    found = chart(pa.table({"name": [str(n) for n in range(100)], "n": range(100)}))
    assert len(found.labels) == 40
    assert found.note == "the first 40 of 100 rows"


def test_one_row_of_numbers_becomes_a_bar_for_each_column() -> None:
    found = chart(pa.table({"q25": [1.0], "q50": [2.0], "q75": [3.0]}))
    assert (found.kind, found.labels, found.series) == ("bar", ["q25", "q50", "q75"], {"": [1.0, 2.0, 3.0]})


def test_columns_can_be_chosen_in_any_letter_case() -> None:
    rows = pa.table({"a": ["x"], "b": [1], "c": [2], "d": ["y"]})
    found = chart(rows, x="D", y="C")
    assert (found.x, list(found.series), found.labels) == ("d", ["c"], ["y"])


@pytest.mark.parametrize(
    ("rows", "options", "part"),
    [
        (MEANS.slice(0, 0), {}, "no rows to draw"),
        (pa.table({"a": ["x"]}), {}, "needs a column of numbers"),
        (MEANS, {"x": "orign"}, "did you mean 'origin'?"),
        (MEANS, {"y": "origin"}, "holds no numbers"),
        (MEANS, {"kind": "pie"}, "options.kind"),
    ],
)
def test_what_cannot_be_drawn_is_told(rows: pa.Table, options: dict[str, str], part: str) -> None:
    ran = run("sql-graph", {"in": rows}, options)
    assert ran.code == 2
    assert part in f"{ran.error['message']} {ran.error.get('hint')}"


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    ran = run("sql-graph", {"in": MEANS})
    assert (ran.code, ran.error["code"]) == (7, "missing-extra")
    assert "dynamos[charts]" in ran.error["hint"]
