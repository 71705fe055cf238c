"""DuckDB as services use it: in memory, without extensions, spilling only to the scratch folder, and quick to open."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from dynamos.kit.errors import BadInput, DynamosError, JobFailed
from dynamos.services.streams import BATCH_BYTES, BATCH_ROWS, Stream

_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    # No thread of its own, so that a process can fork after it has opened one.
    "threads": 1,
    "async_threads": 0,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "allow_persistent_secrets": False,
    # A table name in a query must never find a Python variable.
    "python_enable_replacements": False,
    "enable_external_file_cache": False,
}
_STRING_BYTES = 24


@dataclass(slots=True)
class _Spare:
    """An engine that was opened before anybody asked for one, which then has it 10 ms sooner."""

    parent: int = 0
    engine: duckdb.DuckDBPyConnection | None = None


_spare = _Spare()


def keep_spare(*, forks: bool = True) -> None:
    """Open an engine that is taken over once: by this process, or with `forks` by each one that is forked from it.

    A process that forks never uses it itself.
    """
    if _spare.engine is None:
        _spare.engine, _spare.parent = duckdb.connect(":memory:", config=_CONFIG), os.getpid() if forks else 0
        _spare.engine.sql("SELECT 1").to_arrow_reader(1).read_all()


@contextmanager
def engine(*, scratch: Path, memory: str, threads: int = 1) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open an empty engine that uses no more than `memory`, and spills to a folder of its own in `scratch`."""
    connection = _taken() or duckdb.connect(":memory:", config=_CONFIG)
    spill = scratch / f"spill-{os.getpid()}-{id(connection)}"
    try:
        try:
            connection.execute(f"SET memory_limit={literal(memory)}")
        except duckdb.Error:
            raise BadInput(f"{memory!r} is not a size for memory", hint="for example 256MiB") from None
        connection.execute(f"SET threads={threads:d}; SET temp_directory={literal(str(spill))}")
        yield connection
    finally:
        connection.close()


def _taken() -> duckdb.DuckDBPyConnection | None:
    """Give the spare engine to this process, once."""
    if _spare.engine is None or _spare.parent == os.getpid():
        return None
    found, _spare.engine = _spare.engine, None
    return found.cursor()  # a session of its own, so that random numbers differ from those of other children


def lock(connection: duckdb.DuckDBPyConnection, paths: tuple[str, ...] = ()) -> None:
    """Let the engine read nothing but `paths` from now on, write nothing, and load nothing; nobody can undo it."""
    allowed = ", ".join(map(literal, paths))
    connection.execute(f"SET allowed_paths=[{allowed}]; SET enable_external_access=false; SET lock_configuration=true")


def stream(
    connection: duckdb.DuckDBPyConnection, sql: str, *, what: str = "the query", feed: Feed | None = None
) -> Stream:
    """Run one SELECT and stream its rows, under names that are unique in any letter case.

    Raises BadInput where the statement cannot be bound, with what the engine says of it; JobFailed where it fails
    while it runs, with the kind of failure only, because the engine's text then quotes values.
    """
    with told(what, feed):
        try:
            relation = connection.sql(sql)
        except (duckdb.BinderException, duckdb.CatalogException) as error:
            raise _unbound(error, what) from None
        names = relation.project("*").columns  # as the engine makes them unique: a, A -> a, A_1
        reader = relation.to_arrow_reader(_batch_rows(relation.columns, relation.types))
    schema = pa.schema([field.with_name(name) for field, name in zip(reader.schema, names, strict=True)])
    return Stream(schema, _renamed(reader, schema, what, feed))


def _renamed(reader: pa.RecordBatchReader, schema: pa.Schema, what: str, feed: Feed | None) -> Iterator[pa.RecordBatch]:
    with told(what, feed):
        for batch in reader:
            yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)


class Feed:
    """A stream as a table of the engine, to be read once. It keeps the error that the stream raised."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, table: str, stream: Stream) -> None:
        self.error: Exception | None = None
        connection.register(table, pa.RecordBatchReader.from_batches(stream.schema, self._batches(stream)))

    def _batches(self, stream: Stream) -> Iterator[pa.RecordBatch]:
        try:
            yield from stream
        except Exception as error:
            self.error = error
            raise


@contextmanager
def told(what: str, feed: Feed | None = None) -> Iterator[None]:
    """Tell what DuckDB raises as errors of ours, without the values that its text may quote; `feed`'s own go first."""
    try:
        yield
    except DynamosError:
        raise
    except duckdb.Error as error:
        if feed and feed.error:
            raise feed.error from None
        raise _failed(error, what) from None


def _failed(error: duckdb.Error, what: str) -> JobFailed:
    if isinstance(error, duckdb.OutOfMemoryException):
        return JobFailed(
            f"{what} needs more memory than it may use",
            code="out-of-memory",
            hint="ask for fewer rows, columns or groups, or give the service more memory or scratch space",
        )
    kind = _KINDS.get(type(error), type(error).__name__.removesuffix("Exception").lower() + " error")
    return JobFailed(f"{what} failed while it ran: {kind}", code="query-failed")


_KINDS: dict[type[BaseException], str] = {
    duckdb.ConversionException: "a value cannot be converted to the type that is asked for",
    duckdb.OutOfRangeException: "a number is outside the range of its type",
    duckdb.InvalidInputException: "a function was given a value that it does not take",
    duckdb.PermissionException: "it reached for something outside its tables",
    duckdb.IOException: "the data could not be read",
}


def _unbound(error: duckdb.Error, what: str) -> BadInput:
    """Give what the binder says as our error. It speaks of names and types only, before any value is read."""
    said, _, hint = " ".join(str(error).partition(": ")[2].split()).partition("! ")
    return BadInput(f"{what} cannot run: {said}", hint=hint, code="query-invalid")


def quoted(identifier: str) -> str:
    """Quote an identifier for SQL."""
    return '"' + identifier.replace('"', '""') + '"'


def literal(value: str) -> str:
    """Quote a text for SQL."""
    return "'" + value.replace("'", "''") + "'"


def _batch_rows(columns: list[str], types: list[Any]) -> int:
    """Give the number of rows that keeps a batch within its bytes, before a row has been seen."""
    widths = {"VARCHAR": _STRING_BYTES, "BLOB": _STRING_BYTES, "DOUBLE": 8, "BIGINT": 8, "HUGEINT": 16}
    row = sum(widths.get(str(kind), 8) for kind in types) or len(columns)
    return max(2048, min(BATCH_ROWS, BATCH_BYTES // row))
