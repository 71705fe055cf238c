"""How values are distributed: every value with how often it occurs, by group, in the engine's table `kept`.

From that, quantiles and histograms are exact, and memory grows with the number of different values, not of rows; beyond
the engine's memory it spills.
"""

from __future__ import annotations

from dynamos.services.algorithms import Columns
from dynamos.services.engines import quoted


def keep(columns: Columns) -> str:
    """Give the SQL that makes `kept` of `rows`: groups, `which` (the number of the value column), `v`, `n`."""
    groups = _listed(columns)
    values = ", ".join(f"CAST({quoted(name)} AS DOUBLE)" for name in columns.value)
    numbers = ", ".join(map(str, range(len(columns.value))))
    # One reading for all value columns: a stream cannot be read twice.
    spread = (
        f"unnest([{numbers}]) AS which, unnest([{values}]) AS v"
        if len(columns.value) > 1
        else f"0 AS which, {values} AS v"
    )
    return (
        f"CREATE TABLE kept AS SELECT {groups} which, v, count(*) AS n "  # noqa: S608  names are quoted
        f"FROM (SELECT {groups} {spread} FROM rows) GROUP BY ALL"
    )


def quantiles(columns: Columns) -> str:
    """Give the SQL of the quantiles over `kept`, interpolated between neighbours, as quantile_cont does."""
    groups = _listed(columns)
    results = ", ".join(
        f"{_quantile(number, quantile)} AS {quoted(f'q{quantile * 100:g}_{name}')}"
        for number, name in enumerate(columns.value)
        for quantile in columns.quantiles
    )
    by_group = f"GROUP BY {groups.removesuffix(', ')} ORDER BY {groups.removesuffix(', ')}" if groups else ""
    return f"""
        SELECT {groups} {results} FROM (
            SELECT *, sum(n) OVER (PARTITION BY {groups} which ORDER BY v) AS upto,
                      sum(n) FILTER (v IS NOT NULL) OVER (PARTITION BY {groups} which) AS total
            FROM kept) {by_group}"""  # noqa: S608  names are quoted


def _quantile(number: int, quantile: float) -> str:
    """Give the SQL of one quantile of one column: the values next to its rank, and the way between them."""
    rank = f"(total - 1) * {quantile!r}"
    low, high = (
        f"min(v) FILTER (which = {number} AND v IS NOT NULL AND upto > {around}({rank}))"
        for around in ("floor", "ceil")
    )
    part = f"any_value({rank} - floor({rank})) FILTER (which = {number})"
    return f"CASE WHEN {low} = {high} THEN {low} ELSE {low} + ({high} - {low}) * {part} END"


def _listed(columns: Columns) -> str:
    return "".join(f"{quoted(name)}, " for name in columns.group)
