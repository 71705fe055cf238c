"""Where a party's tables lie: CSV, Parquet, DuckDB and SQLite files, read in place and never changed."""

from __future__ import annotations

import tempfile
from pathlib import Path

import duckdb

from dynamos.kit.errors import BadInput, NotFound
from dynamos.kit.words import suggest
from dynamos.model.datasets import Source
from dynamos.services import csv_files, engines, sqlite_files

_KINDS = {
    ".csv": "csv", ".tsv": "csv", ".txt": "csv", ".parquet": "parquet", ".duckdb": "duckdb", ".ddb": "duckdb",
    ".sqlite": "sqlite", ".sqlite3": "sqlite", ".db": "sqlite",
}  # fmt: skip


class TableSource(Source):
    """A source as a query sees it: only `columns` of it (None: all), with the `types` that are known already.

    `types` names every column of a CSV file in its order, as `describe` gives them: a query then starts some 40 ms
    sooner, and its types hold to the last row. Without it they are found from the first rows.
    """

    columns: tuple[str, ...] | None = None
    types: dict[str, str] | None = None


def describe(folder: Path, source: Source) -> dict[str, str]:
    """Read the columns of a table and their SQL types, in the order of the file.

    Raises NotFound for a file or table that is not there, BadInput for a file that is not what its type says.
    """
    with engines.engine(scratch=Path(tempfile.gettempdir()), memory="512MiB") as engine:
        if kind_of(source) == "sqlite":
            return sqlite_files.describe(paths(folder, source)[0], source.table or _only(folder, source))
        try:
            rows = engine.execute(f"DESCRIBE SELECT * FROM {_scan(engine, folder, source, whole=True)}").fetchall()  # noqa: S608
        except duckdb.Error as error:
            raise unreadable(source, error) from None
    return {row[0]: row[1] for row in rows}


def tables(folder: Path) -> dict[str, Source]:
    """Find the tables in a folder, by the names of their files, or inside DuckDB and SQLite files."""
    found: dict[str, Source] = {}
    for file in sorted(folder.rglob("*")):
        if (kind := _KINDS.get(file.suffix.lower())) is None or not file.is_file():
            continue
        source = Source.model_validate({"path": str(file.relative_to(folder)), "type": kind})
        inner = _inner(folder, source) if kind in ("duckdb", "sqlite") else ()
        found |= {name: source.model_copy(update={"table": name}) for name in inner} if inner else {file.stem: source}
    return found


def expose(
    engine: duckdb.DuckDBPyConnection, folder: Path, table: str, source: TableSource, *, attached: str
) -> tuple[str, ...]:
    """Make `table` readable in the engine, with its permitted columns only, and give the files that it lies in.

    `attached` is a name for an attached file. SQLite tables are copied, because the engine cannot read them.
    """
    kept = "*" if source.columns is None else ", ".join(engines.quoted(column) for column in source.columns)
    if not kept:
        raise BadInput("none of its columns are permitted", where=table)
    files = paths(folder, source)
    try:
        if kind_of(source) == "sqlite":
            known = source.table or _only(folder, source)
            sqlite_files.copy(engine, files[0], known, into=table, columns=source.columns)
            return ()
        scan = _scan(engine, folder, source, attached=attached)
        engine.execute(f"CREATE VIEW {engines.quoted(table)} AS SELECT {kept} FROM {scan}")  # noqa: S608  all quoted
    except duckdb.Error as error:
        raise unreadable(source, error) from None
    return tuple(map(str, files))


def paths(folder: Path, source: Source) -> list[Path]:
    """Give the files of a source. Its path may hold * and ?. Raises NotFound; BadInput for a path out of the folder."""
    pattern = Path(folder, source.path)
    if not source.path or ".." in Path(source.path).parts or not pattern.is_relative_to(folder):
        raise BadInput(f"{source.path!r} leaves the party's data folder")
    found = [pattern] if pattern.exists() else sorted(folder.glob(source.path))
    if not found:
        near = suggest(source.path, [str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()])
        raise NotFound(f"there is no file {source.path!r} in the party's data folder", hint=near)
    return found


def kind_of(source: Source) -> str:
    """Give the type of a source: what it says, else what its path ends in. Raises BadInput where neither tells."""
    kind = source.type or _KINDS.get(Path(source.path).suffix.lower())
    if kind is None:
        raise BadInput(f"{source.path!r} has no known type", hint="set type: csv, parquet, duckdb or sqlite")
    return kind


def unreadable(source: Source, error: duckdb.Error) -> BadInput:
    """Give the error for a file that the engine does not take, without the lines of the file that it quotes."""
    said = str(error).partition("\n")[0].partition(": ")[2]
    quiet = said if isinstance(error, duckdb.BinderException | duckdb.CatalogException) else type(error).__name__
    return BadInput(
        f"{source.path!r} cannot be read as {kind_of(source)}: {quiet}",
        hint="check its type and its delimiter",
        code="data-unreadable",
    )


def _scan(
    engine: duckdb.DuckDBPyConnection, folder: Path, source: Source, *, attached: str = "_file", whole: bool = False
) -> str:
    """Give the SQL that reads the source, for FROM."""
    kind, files = kind_of(source), paths(folder, source)
    if kind == "parquet":
        listed = ", ".join(engines.literal(str(file)) for file in files)
        return f"read_parquet([{listed}], union_by_name={len(files) > 1})"
    if kind == "csv":
        types = getattr(source, "types", None)
        return csv_files.scan(engine, files, delimiter=source.delimiter, types=types, whole=whole)
    engine.execute(f"ATTACH {engines.literal(str(files[0]))} AS {engines.quoted(attached)} (READ_ONLY)")
    table = source.table or _only(folder, source)
    return f"{engines.quoted(attached)}.{'.'.join(engines.quoted(part) for part in table.split('.'))}"


def _only(folder: Path, source: Source) -> str:
    """Give the one table of a file with several, as the source names none."""
    found = _inner(folder, source)
    if len(found) != 1:
        raise BadInput(f"{source.path!r} holds {len(found)} tables: {', '.join(found)}", hint="name one as its table")
    return found[0]


def _inner(folder: Path, source: Source) -> tuple[str, ...]:
    file = paths(folder, source)[0]
    if kind_of(source) == "sqlite":
        return sqlite_files.tables(file)
    try:
        with duckdb.connect(str(file), read_only=True) as connection:
            rows = connection.execute("SELECT table_name FROM duckdb_tables() ORDER BY table_name").fetchall()
    except duckdb.Error as error:
        raise unreadable(source, error) from None
    return tuple(row[0] for row in rows)
