"""The algorithms over grouped rows, as SQL over the table `rows`: exact, in one reading.

Sums of whole numbers are exact (128 bits; beyond them an error), sums and means of floating point numbers compensated.
Null groups are a group of their own, sorted last. Null values are left out, as SQL does. Without rows, groups give no
rows; a whole gives a count of 0 and nulls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pyarrow as pa

from dynamos.kit.errors import BadInput, Mistake, Mistakes
from dynamos.kit.words import suggest
from dynamos.services.engines import quoted

DEFAULT_QUANTILES = (0.25, 0.5, 0.75)
DEFAULT_BINS = 10
_MOST_BINS = 10_000


@dataclass(frozen=True, slots=True)
class Columns:
    """What an algorithm works on: its groups and values, as the rows spell them, and its numbers."""

    schema: pa.Schema
    group: tuple[str, ...] = ()
    value: tuple[str, ...] = ()
    quantiles: tuple[float, ...] = DEFAULT_QUANTILES
    bins: int = DEFAULT_BINS

    @classmethod
    def read(cls, columns: Mapping[str, str], schema: pa.Schema) -> Columns:
        """Read the request's {"group": "a, b", "value": "c", "quantiles": "0.5, 0.9", "bins": "20"}.

        Raises Mistakes, all at once, with near names.
        """
        known = ("group", "value", "quantiles", "bins")
        mistakes = [
            Mistake(f"columns.{key}", "no algorithm knows this", suggest(key, known) or f"known: {', '.join(known)}")
            for key in columns
            if key not in known
        ]
        names = {key: _split(columns.get(key, "")) for key in ("group", "value")}
        for key, wanted in names.items():
            for column in wanted:
                if spelled(column, schema) is None:
                    hint = suggest(column, schema.names) or f"the rows have: {', '.join(schema.names)}"
                    mistakes.append(Mistake(f"columns.{key}", f"the rows have no column {column!r}", hint))
        quantiles, bins = _numbers(columns, mistakes)
        if mistakes:
            raise Mistakes(mistakes, subject="the algorithm")
        group, value = (tuple(spelled(column, schema) or "" for column in names[key]) for key in ("group", "value"))
        return cls(schema, group, value, quantiles, bins)

    def type_of(self, column: str) -> pa.DataType:
        kind = self.schema.field(column).type
        return kind.value_type if pa.types.is_dictionary(kind) else kind


def spelled(column: str, schema: pa.Schema) -> str | None:
    """Give the column's name as the rows spell it: as it is, else in another letter case; None where there is none."""
    if column in schema.names:
        return column
    found = [name for name in schema.names if name.lower() == column.lower()]
    return found[0] if len(found) == 1 else None


def statement(algorithm: str, columns: Columns) -> str:
    """Give the SQL of one of MEASURES over its columns. Raises BadInput where they do not suit it."""
    check(algorithm, columns)
    groups = ", ".join(quoted(column) for column in columns.group)
    results = ", ".join(_MEASURES[algorithm](columns))
    if not groups:
        return f"SELECT {results} FROM rows"  # noqa: S608  names are quoted
    return f"SELECT {groups}, {results} FROM rows GROUP BY {groups} ORDER BY {groups}"  # noqa: S608


def check(algorithm: str, columns: Columns) -> None:
    """Raise BadInput where the columns do not suit the algorithm."""
    if algorithm != "count" and not columns.value:
        raise BadInput(
            f"{algorithm} needs a column to work on",
            where="columns.value",
            hint=f'for example {{"value": "{columns.schema.names[0] if columns.schema.names else "x"}"}}',
        )
    if algorithm not in ("count", "min", "max"):
        for column in columns.value:
            if not _is_number(columns.type_of(column)):
                raise BadInput(
                    f"{algorithm} takes numbers, and {column!r} is {columns.type_of(column)}",
                    where="columns.value",
                    hint="cast it in the query, or count it",
                )


def _count(columns: Columns) -> list[str]:
    if not columns.value:
        return ["count(*) AS count"]
    return [f"count({quoted(column)}) AS {quoted(f'count_{column}')}" for column in columns.value]


def _sum(columns: Columns) -> list[str]:
    return [
        f"{'fsum' if pa.types.is_floating(columns.type_of(c)) else 'sum'}({quoted(c)}) AS {quoted(f'sum_{c}')}"
        for c in columns.value
    ]


def _mean_as(word: str) -> Callable[[Columns], list[str]]:
    def mean(columns: Columns) -> list[str]:
        return [
            f"{'favg' if pa.types.is_floating(columns.type_of(c)) else 'avg'}({quoted(c)}) AS {quoted(f'{word}_{c}')}"
            for c in columns.value
        ]

    return mean


def _plain(word: str) -> Callable[[Columns], list[str]]:
    return lambda columns: [f"{word}({quoted(c)}) AS {quoted(f'{word}_{c}')}" for c in columns.value]


_MEASURES: dict[str, Callable[[Columns], list[str]]] = {
    "count": _count,
    "sum": _sum,
    "mean": _mean_as("mean"),
    "average": _mean_as("average"),
    "min": _plain("min"),
    "max": _plain("max"),
}

MEASURES = tuple(_MEASURES)
"""The algorithms that are one statement each."""


def _is_number(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or types.is_null(kind))


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _numbers(columns: Mapping[str, str], mistakes: list[Mistake]) -> tuple[tuple[float, ...], int]:
    """Read the quantiles and the number of bins, and add what is wrong with them to `mistakes`."""
    quantiles = tuple(map(_number, _split(columns.get("quantiles", ""))))
    if not all(0 <= quantile <= 1 for quantile in quantiles):
        mistakes.append(
            Mistake("columns.quantiles", "quantiles are numbers from 0 to 1", "for example 0.25, 0.5, 0.75")
        )
    bins = _number(columns.get("bins") or str(DEFAULT_BINS))
    if not (1 <= bins <= _MOST_BINS and bins.is_integer()):
        mistakes.append(Mistake("columns.bins", f"bins are a whole number from 1 to {_MOST_BINS}"))
        bins = DEFAULT_BINS
    return quantiles or DEFAULT_QUANTILES, int(bins)


def _number(text: str) -> float:
    """Read a number; what is none becomes one that is in no range."""
    try:
        return float(text)
    except ValueError:
        return -1.0
