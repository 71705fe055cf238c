"""Makes the data of the marketplace `bench`: tables of six columns and any number of rows, alike at each provider."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb

ROWS = (1_000, 30_000, 250_000, 1_000_000, 10_000_000)
PROVIDERS = ("alpha", "beta", "gamma")
THIRD_PARTY = "hub"
_NAMES = {1_000: "rows_1k", 30_000: "rows_30k", 250_000: "rows_250k", 1_000_000: "rows_1m", 10_000_000: "rows_10m"}

# Multiplications by odd numbers spread consecutive ids; nothing depends on a library's own random numbers.
_QUERY = """
    SELECT i AS id,
           'region-' || (i * 7919 % 23) AS region,
           DATE '2024-01-01' + CAST(i * 104729 % 366 AS INTEGER) AS day,
           CASE WHEN i * 31 % 2 = 0 THEN 'V' ELSE 'M' END AS sex,
           1 + (i * 2654435761 % 4294967296) % 18 AS scale,
           (i * 40503 % 65536) / 100.0 AS amount
    FROM (SELECT x + {first} AS i FROM range({rows}) AS r(x))
"""


def table_name(rows: int) -> str:
    """Give the name of the table with so many rows at each provider."""
    return _NAMES.get(rows, f"rows_{rows}")


def write(folder: Path) -> None:
    """Write the usual tables of every provider."""
    for party in (*PROVIDERS, THIRD_PARTY):
        (folder / party).mkdir(parents=True)
    write_tables(folder, ROWS, PROVIDERS)


def write_tables(folder: Path, rows: Sequence[int], providers: Sequence[str]) -> None:
    """Write a Parquet file for each size and provider; no two providers have a row in common."""
    with _storing(), duckdb.connect() as connection:
        for index, party in enumerate(providers):
            for count in rows:
                query = _QUERY.format(first=index * 100_000_000, rows=count)
                path = str(folder / party / f"{table_name(count)}.parquet").replace("'", "''")
                connection.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet, COMPRESSION snappy)")


@contextmanager
def _storing() -> Iterator[None]:
    """Turn DuckDB's complaint about a file into the OSError that it comes from."""
    try:
        yield
    except duckdb.IOException as error:
        full = "no space left" in str(error).lower()
        raise OSError(errno.ENOSPC if full else errno.EIO, str(error)) from None
