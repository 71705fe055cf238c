"""SQLite files, read with Python's own SQLite, as the engine's extension for them would have to be downloaded."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import duckdb
import pyarrow as pa

from dynamos.kit.errors import BadInput, NotFound
from dynamos.kit.words import suggest
from dynamos.services import engines

_ROWS = 16_384
_READ_AS = {"BIGINT": pa.int64(), "BOOLEAN": pa.int64(), "DOUBLE": pa.float64(), "BLOB": pa.binary()}


def tables(file: Path) -> tuple[str, ...]:
    """Give the names of the tables in a file. Raises BadInput where it is not an SQLite file."""
    with closing(_open(file)) as connection:
        rows = _ask(connection, file, "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') ORDER BY name")
        return tuple(row[0] for row in rows if not row[0].startswith("sqlite_"))


def describe(file: Path, table: str) -> dict[str, str]:
    """Give the columns of a table and their SQL types, by SQLite's rules for what was declared."""
    with closing(_open(file)) as connection:
        rows = _ask(connection, file, f"PRAGMA table_info({engines.quoted(table)})")
    if not rows:
        raise NotFound(f"{file.name} has no table {table!r}", hint=suggest(table, tables(file)))
    return {row[1]: _type(row[2]) for row in rows}


def copy(
    engine: duckdb.DuckDBPyConnection, file: Path, table: str, *, into: str, columns: tuple[str, ...] | None
) -> None:
    """Copy `columns` of a table (None: all) into the engine's table `into`, some thousand rows at a time."""
    types = describe(file, table)
    lower = {name.lower(): name for name in types}
    for column in columns or ():
        if column.lower() not in lower:
            raise BadInput(f"{table!r} has no column {column!r}", hint=suggest(column, types))
    kept = [lower[column.lower()] for column in columns] if columns is not None else list(types)
    schema = pa.schema([(name, _READ_AS.get(types[name], pa.string())) for name in kept])
    with closing(_open(file)) as connection:
        reader = pa.RecordBatchReader.from_batches(schema, _batches(connection, table, schema))
        engine.register("_rows", reader)
        casts = ", ".join(f"CAST({engines.quoted(name)} AS {types[name]}) AS {engines.quoted(name)}" for name in kept)
        try:
            engine.execute(f"CREATE TABLE {engines.quoted(into)} AS SELECT {casts} FROM _rows")  # noqa: S608  quoted
        except duckdb.Error:
            raise BadInput(
                f"{file.name} cannot be read as sqlite: a value of {table!r} is not of its column's declared type",
                hint="declare the column as TEXT",
                code="data-unreadable",
            ) from None
        engine.unregister("_rows")


def _batches(connection: sqlite3.Connection, table: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    wanted = ", ".join(engines.quoted(name) for name in schema.names)
    cursor = connection.execute(f"SELECT {wanted} FROM {engines.quoted(table)}")  # noqa: S608  names are quoted
    while rows := cursor.fetchmany(_ROWS):
        arrays = [
            pa.array(_texts(column) if field.type == pa.string() else column, field.type)
            for field, column in zip(schema, zip(*rows, strict=True), strict=True)
        ]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _texts(column: tuple[object, ...]) -> list[str | None]:
    return [value if value is None or isinstance(value, str) else str(value) for value in column]


def _open(file: Path) -> sqlite3.Connection:
    # Immutable: the folder is read-only, so that SQLite could not make its lock files there.
    return sqlite3.connect(f"file:{quote(str(file))}?mode=ro&immutable=1", uri=True, check_same_thread=False)


def _ask(connection: sqlite3.Connection, file: Path, sql: str) -> list[tuple[str, ...]]:
    try:
        return connection.execute(sql).fetchall()
    except sqlite3.Error as error:
        raise BadInput(f"{file.name} cannot be read as sqlite: {error}", code="data-unreadable") from None


def _type(declared: str) -> str:
    """Give the SQL type of a declared one: dates and booleans by name, else by SQLite's affinity."""
    word = declared.upper().partition("(")[0].strip()
    named = {"DATE": "DATE", "DATETIME": "TIMESTAMP", "TIMESTAMP": "TIMESTAMP", "BOOLEAN": "BOOLEAN", "BOOL": "BOOLEAN"}
    if word in named:
        return named[word]
    for fragment, kind in (
        ("INT", "BIGINT"), ("CHAR", "VARCHAR"), ("CLOB", "VARCHAR"), ("TEXT", "VARCHAR"), ("BLOB", "BLOB"),
        ("REAL", "DOUBLE"), ("FLOA", "DOUBLE"), ("DOUB", "DOUBLE"), ("NUMERIC", "DOUBLE"), ("DECIMAL", "DOUBLE"),
    ):  # fmt: skip
        if fragment in word:
            return kind
    return "VARCHAR"
