"""CSV files of any delimiter and line end, read by the engine, with as little guessing as can be."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb

from dynamos.services.engines import literal

_WHOLE = 256 * 2**20
_MANY_ROWS = 1_000_000
_HEAD = 65_536
_ONE_FORM = {"BIGINT", "DOUBLE", "VARCHAR", "BOOLEAN"}
"""Types that are written in one way only. Of dates, the engine must find out how they are written."""


def scan(
    engine: duckdb.DuckDBPyConnection,
    files: Sequence[Path],
    *,
    delimiter: str | None,
    types: Mapping[str, str] | None = None,
    whole: bool = False,
) -> str:
    """Give the SQL that reads the files, for FROM. Values may be quoted with ", which is doubled inside of them.

    Known `types` save the engine the guessing, if every file still has these columns in this order; else, and for
    `whole` files, the types are guessed anew.
    """
    delimiter = delimiter or _delimiter(files[0])
    listed = "[" + ", ".join(literal(str(file)) for file in files) + "]"
    options = f"{listed}, header=true, delim={literal(delimiter)}, quote='\"', escape='\"'"
    ends = {_line_end(file) for file in files}
    if "\r\r\n" in ends:  # an empty line after each one, as in upstream's Personen files
        options += ", strict_mode=false"
    if len(files) > 1:
        options += ", union_by_name=true"
    guessing = f"read_csv({options}, sample_size={_sample(files)})" if whole else f"read_csv({options})"
    if whole or len(ends) > 1:
        return guessing
    if types is None or any(_header(file, delimiter) != list(types) for file in files):
        types = {row[0]: row[1] for row in engine.execute(f"DESCRIBE SELECT * FROM {guessing}").fetchall()}  # noqa: S608
    if not _ONE_FORM.issuperset(types.values()) or any(_header(file, delimiter) != list(types) for file in files):
        return guessing
    columns = ", ".join(f"{literal(name)}: {literal(kind)}" for name, kind in types.items())
    end = ends.pop().replace("\r\r", "\r").encode("unicode_escape").decode()  # the engine wants it spelled
    return f"read_csv({options}, auto_detect=false, columns={{{columns}}}, new_line={literal(end)})"


def _sample(files: Sequence[Path]) -> int:
    """Give how many rows to look at for a description: all, unless that would take long."""
    return -1 if sum(file.stat().st_size for file in files) <= _WHOLE else _MANY_ROWS


def _head(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(_HEAD)


def _line_end(file: Path) -> str:
    """Give what ends the first line, "\n" where nothing does."""
    line = next(iter(_head(file).splitlines(keepends=True)), b"")
    rest = _head(file)[len(line) :]
    if line.endswith(b"\r") and rest.startswith(b"\r\n"):
        return "\r\r\n"
    return next((end for end in ("\r\n", "\r", "\n") if line.endswith(end.encode())), os.linesep)


def _header(file: Path, delimiter: str) -> list[str]:
    """Give the names in the first line: the order of the columns as it is now."""
    lines = _head(file).decode("utf-8-sig", "replace").splitlines()
    return next(csv.reader(lines[:1], delimiter=delimiter), [])


def _delimiter(file: Path) -> str:
    lines = _head(file).decode("utf-8", "replace").splitlines() or [""]
    return max(",;\t|", key=lines[0].count)
