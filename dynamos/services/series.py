"""What a chart shows, chosen from the shape of a result. Pure: it draws nothing."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from dynamos.kit.errors import BadInput
from dynamos.kit.words import suggest
from dynamos.services.algorithms import spelled

MOST_ROWS = 5_000
"""Rows that a chart is made of, at most. A note on the chart says so where there are more."""

MOST_BARS = 40
MOST_SERIES = 6
_LABEL = 32


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart, ready to be drawn. `widths` are those of a histogram's bins, whose `labels` are their lower ends."""

    kind: Literal["bar", "line", "bins"]
    labels: Sequence[Any]
    series: dict[str, Sequence[float | None]]
    x: str = ""
    title: str = ""
    note: str = ""
    widths: Sequence[float] = ()


def chart_of(table: pa.Table, count: int, *, x: str = "", y: str = "", kind: str = "auto", title: str = "") -> Chart:
    """Choose the chart of a result whose first rows are `table`, of `count` rows in all.

    A record becomes a bar for each of its members, a histogram its bins; rows along an ordered column (numbers, dates)
    a line, rows along names bars. Raises BadInput where there is nothing to draw.
    """
    if not table.num_rows or not table.num_columns:
        raise BadInput("there are no rows to draw", hint="ask for more: the result is empty")
    if (table.schema.metadata or {}).get(b"dynamos.shape") == b"record":
        return _of_record(table, title)
    if not x and not y and {"column", "low", "high", "count"} <= set(table.schema.names):
        return _of_bins(table, title)
    values, along = _values(table, x, y), _along(table, x, y)
    if not along and count == 1:
        return Chart("bar", values, {"": [table[name][0].as_py() for name in values]}, title=title)
    ordered = len(along) == 1 and _is_ordered(table.schema.field(along[0]).type)
    chosen = ("line" if ordered or not along else "bar") if kind == "auto" else kind
    limit = MOST_BARS if chosen == "bar" else MOST_ROWS
    shown = table.slice(0, limit)
    if chosen == "line" and ordered:
        shown = shown.take(pc.sort_indices(shown, sort_keys=[(along[0], "ascending")]))
    return Chart(
        "line" if chosen == "line" else "bar",
        _labels(shown, along, as_text=chosen == "bar" or not ordered),
        {name: _floats(shown[name]) for name in values},
        x=", ".join(along),
        title=title or (f"{', '.join(values)} by {', '.join(along)}" if along else ", ".join(values)),
        note=f"the first {limit:,} of {count:,} rows" if count > limit else "",
    )


def _of_record(table: pa.Table, title: str) -> Chart:
    try:
        values = [float(table[name][0].as_py()) for name in table.schema.names]
    except (TypeError, ValueError):
        raise BadInput("the record holds texts that are not numbers", hint="draw a table instead") from None
    # "avg_salary_scale_men", "avg_salary_scale_women": what they share is the heading, the rest names the bars.
    shared = os.path.commonprefix(table.schema.names)  # noqa: RUF071  of texts, not of paths
    cut = shared.rfind("_") + 1 if table.num_columns > 1 else 0
    labels = [name[cut:] for name in table.schema.names]
    return Chart("bar", labels, {"": values}, title=title or shared[:cut].strip("_").replace("_", " "))


def _of_bins(table: pa.Table, title: str) -> Chart:
    groups = [name for name in table.schema.names if name not in ("column", "low", "high", "count")]
    first = table["column"][0].as_py()
    rows = [row for row in table.to_pylist() if row["column"] == first]
    series: dict[str, list[float | None]] = {}
    for row in rows:
        label = ", ".join(_text(row[name]) for name in groups)
        series.setdefault(label, []).append(row["count"])
    bins = len(next(iter(series.values())))
    notes = [f"the column {first}, the first of several"] if len(set(table["column"].to_pylist())) > 1 else []
    if len(series) > MOST_SERIES:
        notes.append(f"the first {MOST_SERIES} of {len(series)} groups")
    return Chart(
        "bins",
        [row["low"] for row in rows[:bins]],
        dict(itertools.islice(series.items(), MOST_SERIES)),
        x=first,
        title=title or f"how often each value of {first} occurs",
        note="; ".join(notes),
        widths=[row["high"] - row["low"] for row in rows[:bins]],
    )


def _values(table: pa.Table, x: str, y: str) -> list[str]:
    wanted = [name.strip() for name in y.split(",") if name.strip()]
    if wanted:
        found = [_column(table, name) for name in wanted]
        for name in found:
            if not _is_number(table.schema.field(name).type):
                raise BadInput(f"the column {name!r} holds no numbers", where="options.y")
    else:
        numbers = [field.name for field in table.schema if _is_number(field.type)]
        along = _column(table, x) if x else ""
        # Groups come first in a result: a first column of numbers is what the others are seen along.
        leads = len(numbers) > 1 and numbers[0] == table.schema.names[0] and table.num_rows > 1 and not x
        first = numbers[0] if leads else ""
        found = [name for name in numbers if name not in (along, first)]
    if not found:
        raise BadInput("a chart needs a column of numbers", hint="ask for a count, a sum or a mean")
    return found[:MOST_SERIES]


def _along(table: pa.Table, x: str, y: str) -> list[str]:
    if x:
        return [_column(table, x)]
    values = _values(table, x, y)
    before = list(itertools.takewhile(lambda name: name not in values, table.schema.names))
    return before or [field.name for field in table.schema if not _is_number(field.type)][:1]


def _column(table: pa.Table, name: str) -> str:
    found = spelled(name, table.schema)
    if found is None:
        raise BadInput(f"the result has no column {name!r}", hint=suggest(name, table.schema.names))
    return found


def _labels(table: pa.Table, along: list[str], *, as_text: bool) -> list[Any]:
    if not along:
        return list(range(1, table.num_rows + 1))
    columns = [table[name].to_pylist() for name in along]
    if not as_text:
        return list(columns[0])
    return [", ".join(map(_text, row)) for row in zip(*columns, strict=True)]


def _text(value: Any) -> str:
    text = "(none)" if value is None else str(value)
    return text if len(text) <= _LABEL else text[: _LABEL - 1] + "…"


def _floats(column: pa.ChunkedArray) -> list[float | None]:
    return [None if value is None else float(value) for value in column.to_pylist()]


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _is_ordered(kind: pa.DataType) -> bool:
    return _is_number(kind) or bool(pa.types.is_date(kind) or pa.types.is_timestamp(kind))
