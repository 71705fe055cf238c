"""What a party's files hold: delimiters, line ends, types, and tables inside of files."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamos.kit.errors import BadInput, NotFound
from dynamos.model.datasets import Source
from dynamos.services import sources
from dynamos.services.testing import run

COLUMNS = ["Instcode", "Geslacht", "Gebdat", "Nationaliteit"]
ROWS = [[f"{n}", "MV"[n % 2], f"{19700101 + n % 28}", f"{n % 20:04d}"] for n in range(3000)]


def write(
    file: Path, *, delimiter: str = ";", end: str = "\n", last: bool = True, rows: list[list[str]] = ROWS
) -> None:
    text = end.join(delimiter.join(row) for row in [COLUMNS, *rows]) + (end if last else "")
    file.write_bytes(text.encode())


@pytest.mark.parametrize("last", [True, False], ids=["ended", "open"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\r\r\n"], ids=["LF", "CRLF", "CR", "CRCRLF"])
@pytest.mark.parametrize("delimiter", [";", ",", "\t", "|"])
def test_csv_of_any_delimiter_and_line_end(tmp_path: Path, delimiter: str, end: str, last: bool) -> None:
    write(tmp_path / "t.csv", delimiter=delimiter, end=end, last=last)
    source = Source(path="t.csv", delimiter=delimiter)
    assert sources.describe(tmp_path, source) == {
        "Instcode": "BIGINT", "Geslacht": "VARCHAR", "Gebdat": "BIGINT", "Nationaliteit": "VARCHAR",
    }  # fmt: skip
    options = {"query": "SELECT * FROM t ORDER BY Instcode", "tables": {"t": source.as_json()}}
    found = run("sql-query", {}, options, data=tmp_path).table()
    assert [list(map(str, row.values())) for row in found.to_pylist()] == ROWS


@pytest.mark.parametrize("end", ["\r", "\r\r\n"], ids=["CR", "CRCRLF"])
def test_odd_line_ends_lose_nothing_across_the_buffers_of_the_reader(tmp_path: Path, end: str) -> None:
    rows = [[f"{n}", "M", "19700101", "x" * 90] for n in range(120_000)]
    write(tmp_path / "t.csv", end=end, rows=rows)
    query = "SELECT count(*) AS n, sum(Instcode)::BIGINT AS s, min(length(Nationaliteit)) AS l FROM t"
    tables = {"t": {"path": "t.csv", "delimiter": ";"}}
    ran = run("sql-query", {}, {"query": query, "tables": tables, "threads": 2, "memory": "512MiB"}, data=tmp_path)
    assert ran.rows() == [{"n": 120_000, "s": 120_000 * 119_999 // 2, "l": 90}]


def test_a_delimiter_that_nobody_names_is_found(tmp_path: Path) -> None:
    write(tmp_path / "t.csv", delimiter="|")
    assert list(sources.describe(tmp_path, Source(path="t.csv"))) == COLUMNS


def test_a_csv_file_with_its_header_only_has_columns(tmp_path: Path) -> None:
    write(tmp_path / "t.csv", rows=[])
    assert list(sources.describe(tmp_path, Source(path="t.csv", delimiter=";"))) == COLUMNS


def test_described_types_hold_for_rows_far_down(tmp_path: Path) -> None:
    """The first 30,000 rows are whole numbers, the last is none: types from a description make the query right."""
    rows = [[f"{n}", "M", "1", "2"] for n in range(30_000)] + [["n/a", "M", "1.5", "2"]]
    write(tmp_path / "t.csv", rows=rows)
    source = Source(path="t.csv", delimiter=";")
    types = sources.describe(tmp_path, source)
    assert (types["Instcode"], types["Gebdat"]) == ("VARCHAR", "DOUBLE")
    query = {
        "query": "SELECT max(Instcode) AS m, max(Gebdat) AS g FROM t",
        "tables": {"t": {**source.as_json(), "types": types}},
    }
    assert run("sql-query", {}, query, data=tmp_path).rows() == [{"m": "n/a", "g": 1.5}]


def test_types_of_an_older_file_never_put_a_column_under_another_name(tmp_path: Path) -> None:
    """The file's columns were put into another order after it was described."""
    (tmp_path / "t.csv").write_text("secret;shown\n1;2\n")
    source = {"path": "t.csv", "delimiter": ";", "columns": ["shown"], "types": {"shown": "BIGINT", "secret": "BIGINT"}}
    ran = run("sql-query", {}, {"query": "SELECT * FROM t", "tables": {"t": source}}, data=tmp_path)
    assert ran.rows() == [{"shown": 2}]


def test_dates_are_found_however_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("d;t\n31/12/1979;1979-12-31 23:59:00\n01/02/1980;1980-02-01 00:00:00\n")
    source = Source(path="t.csv", delimiter=";")
    types = sources.describe(tmp_path, source)
    assert types == {"d": "DATE", "t": "TIMESTAMP"}
    for known in (None, types):
        tables = {"t": {**source.as_json(), "types": known}}
        ran = run(
            "sql-query", {}, {"query": "SELECT year(d) AS y, year(t) AS z FROM t", "tables": tables}, data=tmp_path
        )
        assert ran.rows() == [{"y": 1979, "z": 1979}, {"y": 1980, "z": 1980}]


def test_a_row_that_breaks_its_type_is_told_without_the_value(tmp_path: Path) -> None:
    rows = [[f"{n}", "M", "1", "2"] for n in range(30_000)] + [["secret", "M", "1", "2"]]
    write(tmp_path / "t.csv", rows=rows)
    tables = {"t": {"path": "t.csv", "delimiter": ";"}}
    ran = run("sql-query", {}, {"query": "SELECT sum(Instcode) FROM t", "tables": tables}, data=tmp_path)
    assert ran.code == 7
    assert "secret" not in str(ran.error)


def test_several_files_are_one_table(tmp_path: Path) -> None:
    for year in (2013, 2014):
        duckdb.sql(f"COPY (SELECT {year} AS year) TO '{tmp_path}/f-{year}.parquet'")
    tables = {"t": {"path": "f-*.parquet"}}
    ran = run("sql-query", {}, {"query": "SELECT * FROM t ORDER BY ALL", "tables": tables}, data=tmp_path)
    assert ran.rows() == [{"year": 2013}, {"year": 2014}]


def test_tables_of_a_folder_are_found_by_name_and_inside_of_files(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    write(tmp_path / "sub" / "people.csv")
    with duckdb.connect(str(tmp_path / "x.duckdb")) as file:
        file.execute("CREATE TABLE jobs AS SELECT 1 AS id")
    with sqlite3.connect(tmp_path / "y.sqlite") as lite:
        lite.execute("CREATE TABLE pays (id INTEGER, paid DECIMAL(9, 2), at DATETIME, ok BOOLEAN, note)")
    lite.close()
    (tmp_path / "README.md").write_text("no table")
    found = sources.tables(tmp_path)
    assert set(found) == {"people", "jobs", "pays"}
    assert found["people"] == Source(path="sub/people.csv", type="csv")
    assert sources.describe(tmp_path, found["jobs"]) == {"id": "INTEGER"}
    assert sources.describe(tmp_path, found["pays"]) == {
        "id": "BIGINT", "paid": "DOUBLE", "at": "TIMESTAMP", "ok": "BOOLEAN", "note": "VARCHAR",
    }  # fmt: skip


def test_an_sqlite_value_that_is_not_of_its_declared_type_is_told(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "y.sqlite") as lite:
        lite.execute("CREATE TABLE t (n INTEGER)")
        lite.execute("INSERT INTO t VALUES ('secret')")
    lite.close()
    ran = run("sql-query", {}, {"query": "SELECT * FROM t", "tables": {"t": {"path": "y.sqlite"}}}, data=tmp_path)
    assert (ran.code, ran.error["code"]) == (2, "data-unreadable")
    assert "secret" not in str(ran.error)


@pytest.mark.parametrize(("path", "error"), [("t.csv", NotFound), ("../t.csv", BadInput), ("t.bin", BadInput)])
def test_a_description_tells_what_is_wrong(tmp_path: Path, path: str, error: type[Exception]) -> None:
    (tmp_path / "t.bin").write_bytes(b"\0\1")
    with pytest.raises(error):
        sources.describe(tmp_path, Source(path=path))


@settings(max_examples=25, deadline=None)
@given(
    values=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), max_size=8), min_size=1),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_quoted_texts_come_back_as_they_are(
    tmp_path_factory: pytest.TempPathFactory, values: list[str], end: str
) -> None:
    folder = tmp_path_factory.mktemp("csv")
    lines = ["n;s", *(f'{n};"{value.replace(chr(34), chr(34) * 2)}"' for n, value in enumerate(values))]
    (folder / "t.csv").write_bytes(end.join([*lines, ""]).encode())
    source = {"path": "t.csv", "delimiter": ";", "types": {"n": "BIGINT", "s": "VARCHAR"}}
    ran = run("sql-query", {}, {"query": "SELECT s FROM t ORDER BY n", "tables": {"t": source}}, data=folder)
    assert [row["s"] or "" for row in ran.rows()] == values
