"""Histograms in bins of one width, of what is in the engine's table `kept` (see distributions)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import duckdb
import pyarrow as pa

from dynamos.services.algorithms import Columns
from dynamos.services.engines import quoted

_BINS = pa.schema([("column", pa.string()), ("low", pa.float64()), ("high", pa.float64()), ("count", pa.int64())])


def schema(columns: Columns) -> pa.Schema:
    """Give the schema of the result: the groups, then column, low, high, count."""
    return pa.schema([pa.field(name, columns.type_of(name)) for name in columns.group] + list(_BINS))


def batches(connection: duckdb.DuckDBPyConnection, columns: Columns) -> Iterator[pa.RecordBatch]:
    """Count values by bin: one batch for each value column, by group and bin, also bins that hold nothing.

    The bins of a column go from its least to its greatest finite value, over all groups. A value on the border of two
    bins belongs to the upper one, the greatest to the last. Nulls and values that are not finite are left out.
    """
    wanted = schema(columns)
    for which, column in enumerate(columns.value):
        edges = _edges(connection, which, columns.bins)
        if edges:
            rows = list(_rows(_counts(connection, columns, which, edges), column, edges))
            arrays = [
                pa.array(values, field.type) for values, field in zip(zip(*rows, strict=True), wanted, strict=True)
            ]
            yield pa.RecordBatch.from_arrays(arrays, schema=wanted)


def _edges(connection: duckdb.DuckDBPyConnection, which: int, bins: int) -> list[float]:
    """Give the borders of the bins: one more than bins; two equal ones where all values are the same; none for none."""
    found = connection.execute("SELECT min(v), max(v) FROM kept WHERE which = ? AND isfinite(v)", [which])
    [(low, high)] = found.fetchall()
    if low is None:
        return []
    if low == high:
        return [low, high]
    width = high / bins - low / bins  # each by itself: their difference may be beyond a double
    return [*(low + number * width for number in range(bins)), high]


def _counts(
    connection: duckdb.DuckDBPyConnection, columns: Columns, which: int, edges: list[float]
) -> dict[tuple[Any, ...], dict[int, int]]:
    """Count by group and bin. The bin that division gives is put right by the borders, as division rounds."""
    groups = "".join(f"{quoted(name)}, " for name in columns.group)
    bins = len(edges) - 1
    width = edges[-1] / bins - edges[0] / bins
    guess = f"greatest(0, least({bins - 1}, floor((v - edges[1]) / {width!r})))::BIGINT" if width else "0"
    sql = f"""
        SELECT {groups} i - (v < edges[i + 1])::INT + (i < {bins - 1} AND v >= edges[i + 2])::INT AS bin, sum(n)::BIGINT
        FROM (SELECT *, {guess} AS i FROM (SELECT *, ?::DOUBLE[] AS edges FROM kept WHERE which = ? AND isfinite(v)))
        GROUP BY ALL ORDER BY ALL"""  # noqa: S608  names are quoted
    found: dict[tuple[Any, ...], dict[int, int]] = {}
    for *group, number, count in connection.execute(sql, [edges, which]).fetchall():
        found.setdefault(tuple(group), {})[number] = count
    return found


def _rows(counts: dict[tuple[Any, ...], dict[int, int]], column: str, edges: list[float]) -> Iterator[tuple[Any, ...]]:
    for group, by_bin in counts.items():
        for number in range(len(edges) - 1):
            yield (*group, column, edges[number], edges[number + 1], by_bin.get(number, 0))
