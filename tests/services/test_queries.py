"""`sql-query`: a query over a party's own files, and nothing else, however it asks."""

from __future__ import annotations

import sqlite3
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from pyarrow import parquet

from dynamos.services import engines, sources
from dynamos.services.testing import Ran, run

PEOPLE = {"id": [1, 2, 3], "name": ["zoe", "bob", None], "salary": [10.5, 20.25, None], "born": ["1970-01-02"] * 3}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a party's data folder: people in every kind of file, and a file that is not shared."""
    data = tmp_path / "data"
    data.mkdir()
    table = pa.table(PEOPLE).set_column(3, "born", pa.array(PEOPLE["born"]).cast(pa.date32()))
    parquet.write_table(table, data / "people.parquet")
    rows = "id;name;salary;born\n1;zoe;10.5;1970-01-02\n2;bob;20.25;1970-01-02\n3;;;1970-01-02\n"
    (data / "people.csv").write_text(rows)
    with duckdb.connect(str(data / "people.duckdb")) as file:
        file.execute("CREATE TABLE people AS SELECT * FROM read_parquet(?)", [str(data / "people.parquet")])
        file.execute("CREATE TABLE secrets AS SELECT 'top' AS secret")
    with sqlite3.connect(data / "people.sqlite") as lite:
        lite.execute("CREATE TABLE people (id INTEGER, name TEXT, salary REAL, born DATE)")
        lite.executemany("INSERT INTO people VALUES (?, ?, ?, ?)", list(zip(*PEOPLE.values(), strict=True)))
        lite.execute("CREATE TABLE secrets (secret TEXT)")
    lite.close()
    (data / "secret.csv").write_text("secret\ntop\n")
    return data


SOURCES: dict[str, dict[str, Any]] = {
    "parquet": {"path": "people.parquet"},
    "csv": {"path": "people.csv", "delimiter": ";"},
    "duckdb": {"path": "people.duckdb", "table": "people"},
    "sqlite": {"path": "people.sqlite", "table": "people"},
}
KINDS = list(SOURCES)


def ask(folder: Path, query: str, kind: str = "parquet", **source: Any) -> Ran:
    return run("sql-query", {}, {"query": query, "tables": {"People": {**SOURCES[kind], **source}}}, data=folder)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_gives_the_same_rows(folder: Path, kind: str) -> None:
    found = ask(folder, "SELECT * FROM people ORDER BY id", kind).table()
    expected = ask(folder, "SELECT * FROM people ORDER BY id").table()
    assert found.schema == expected.schema
    assert found.to_pylist() == expected.to_pylist()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("table", ["people", "PEOPLE", "People", '"people"'])
def test_tables_are_found_in_any_letter_case_and_more_than_once(folder: Path, kind: str, table: str) -> None:
    query = f"select count(*) as n from {table} a join {table} b on a.ID = b.id"
    assert ask(folder, query, kind).rows() == [{"n": 3}]


@pytest.mark.parametrize("kind", KINDS)
def test_only_permitted_columns_are_there(folder: Path, kind: str) -> None:
    assert ask(folder, "SELECT * FROM people", kind, columns=["id", "NAME"]).table().num_columns == 2
    for query in (
        "SELECT salary FROM people",
        "SELECT id FROM people WHERE salary > 1",
        "SELECT people.salary FROM people",
    ):
        ran = ask(folder, query, kind, columns=["id", "name"])
        assert ran.code == 2, query
        assert "salary" in ran.error["message"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_permitted_column_that_is_not_there_is_told(folder: Path, kind: str) -> None:
    ran = ask(folder, "SELECT * FROM people", kind, columns=["id", "nmae"])
    assert ran.code == 2
    assert "nmae" in ran.error["message"]


def test_names_that_occur_twice_become_unique(folder: Path) -> None:
    ran = ask(folder, "SELECT a.id, b.id, b.name AS ID, a.name FROM people a JOIN people b ON a.id = b.id")
    assert ran.table().schema.names == ["id", "id_1", "ID_2", "name"]


def test_no_rows_have_a_schema(folder: Path) -> None:
    table = ask(folder, "SELECT id, born FROM people WHERE id > 99").table()
    assert table.num_rows == 0
    assert table.schema == pa.schema([("id", pa.int64()), ("born", pa.date32())])


def test_sums_are_exact(folder: Path) -> None:
    ran = ask(folder, "SELECT sum(id) AS ids, sum(id + 9223372036854775800 - id) AS big FROM people")
    assert ran.rows() == [{"ids": Decimal(6), "big": Decimal(3 * 9223372036854775800)}]


def test_common_table_expressions_subqueries_and_windows_work(folder: Path) -> None:
    query = """
        WITH paid AS (SELECT * FROM people WHERE salary IS NOT NULL), top AS (SELECT max(salary) AS m FROM paid)
        SELECT id, row_number() OVER (ORDER BY id) AS n FROM paid WHERE salary = (SELECT m FROM top)
        UNION ALL SELECT range, 0 FROM range(1) ORDER BY n; -- the end
    """
    assert ask(folder, query).rows() == [{"id": 0, "n": 0}, {"id": 2, "n": 1}]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_csv('{data}/secret.csv')",
        "SELECT * FROM read_csv('/etc/passwd', delim=':')",
        "SELECT * FROM read_parquet('{data}/people.parquet')",
        "SELECT * FROM '{data}/people.parquet'",
        'SELECT * FROM "{data}/people.parquet"',
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_blob('/etc/passwd')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM people, read_text('/etc/passwd')",
        "SELECT (SELECT content FROM read_text('/etc/passwd'))",
        "SELECT id FROM people WHERE EXISTS (SELECT 1 FROM glob('/etc/*'))",
        "WITH x AS (SELECT * FROM read_text('/etc/passwd')) SELECT * FROM x",
        "SELECT * FROM people JOIN LATERAL (SELECT * FROM glob('/*')) ON true",
        "(WITH secret AS (SELECT 1) SELECT * FROM secret) UNION ALL SELECT * FROM secret",
        "SELECT * FROM query('SELECT 1')",
        "SELECT * FROM query_table('people')",
        "SELECT * FROM information_schema.tables",
        "SELECT * FROM duckdb_settings()",
        "SELECT * FROM sqlite_master",
        "SELECT * FROM pragma_table_info('people')",
        "SELECT * FROM main.people",
        "SELECT * FROM memory.main.people",
        "SELECT * FROM _file0.secrets",
        "SELECT * FROM secrets",
        "SELECT * FROM options",
        "SELECT current_setting('temp_directory')",
        "SELECT getenv('HOME')",
        "SELECT id FROM people ORDER BY getenv('HOME')",
        "SHOW TABLES",
        "DESCRIBE people",
        "SUMMARIZE people",
        "SELECT 1; SELECT 2",
        "",
        "COPY (SELECT 1) TO '{data}/out.csv'",
        "COPY people FROM '/etc/passwd'",
        "ATTACH '{data}/people.duckdb' AS other",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET threads = 4",
        "PRAGMA database_list",
        "CREATE TABLE t AS SELECT 1",
        "INSERT INTO people VALUES (4)",
        "DROP VIEW people",
        "CALL pragma_version()",
        "EXPORT DATABASE '{data}/x'",
        "CREATE SECRET s (TYPE S3)",
        "SELECT json_execute_serialized_sql('x')",
        "FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["parquet", "duckdb"])
def test_a_query_cannot_reach_outside_its_tables(folder: Path, kind: str, query: str) -> None:
    before = sorted(folder.iterdir())
    ran = ask(folder, query.format(data=folder), kind, columns=["id"])
    assert ran.code in (2, 4), ran
    assert "top" not in str(ran.error)
    assert "root:" not in str(ran.error)
    assert sorted(folder.iterdir()) == before


def test_the_engine_itself_is_a_second_wall(folder: Path, tmp_path: Path) -> None:
    """Even a query that the guard would let through reads no other file, writes none, and changes no setting."""
    with engines.engine(scratch=tmp_path, memory="64MiB") as engine:
        source = sources.TableSource(path="people.csv", delimiter=";")
        engines.lock(engine, sources.expose(engine, folder, "people", source, attached="_file0"))
        assert engine.sql("SELECT count(*) FROM people").fetchall() == [(3,)]
        for sql in (
            f"SELECT * FROM read_csv('{folder}/secret.csv')",
            f"COPY (SELECT 1) TO '{folder}/out.csv'",
            f"COPY (SELECT 1) TO '{folder}/people.csv'",
            f"ATTACH '{folder}/new.duckdb'",
            "INSTALL httpfs",
            "LOAD httpfs",
            "SET enable_external_access = true",
            "SET allowed_paths = ['/etc/passwd']",
            "RESET lock_configuration",
            "SELECT * FROM read_text('/proc/self/environ')",
        ):
            with pytest.raises(duckdb.Error):
                engine.execute(sql)
        for variable in ("folder", "source", "engine"):
            with pytest.raises(duckdb.CatalogException):
                engine.sql(f"SELECT * FROM {variable}")


@pytest.mark.parametrize(
    "query",
    [
        "SELECT CAST(name AS INTEGER) FROM people",
        "SELECT CAST(name || '!' AS DATE) FROM people",
        "SELECT error(name) FROM people",
        "SELECT list_extract([1], CAST(name AS INTEGER)) FROM people",
        "SELECT regexp_matches('x', '(' || name) FROM people",
        "SELECT strptime(name, '%Y') FROM people",
    ],
)
def test_errors_while_a_query_runs_quote_no_values(folder: Path, query: str) -> None:
    ran = ask(folder, query)
    assert ran.code in (4, 7)
    assert "zoe" not in str(ran.error)
    assert "bob" not in str(ran.error)


@pytest.mark.parametrize(
    ("query", "where", "part"),
    [
        ("SELECT * FRM people", "character 14", "syntax error"),
        ("SELECT nome FROM people", "sql-query", '"nome" not found'),
        ("SELECT id FROM peple", "sql-query", "there is no table 'peple'"),
        ("SELECT nofunction(id) FROM people", "sql-query", "nofunction"),
    ],
)
def test_mistakes_in_a_query_are_told(folder: Path, query: str, where: str, part: str) -> None:
    ran = ask(folder, query)
    assert ran.code in (2, 4)
    assert ran.error["where"] == where
    assert part in ran.error["message"]
    assert ran.error["hint"]


@pytest.mark.parametrize(
    ("source", "code", "part"),
    [
        ({"path": "peple.parquet"}, 5, "people.parquet"),
        ({"path": "../outside.csv"}, 2, "leaves"),
        ({"path": "/etc/passwd", "type": "csv"}, 2, "leaves"),
        ({"path": ""}, 2, "leaves"),
        ({"path": "people"}, 5, "there is no file"),
        ({"path": "people.csv", "type": "parquet"}, 2, "cannot be read as parquet"),
        ({"path": "people.parquet", "type": "sqlite", "table": "people"}, 2, "cannot be read as sqlite"),
        ({"path": "people.csv", "type": "duckdb", "table": "people"}, 2, "cannot be read as duckdb"),
        ({"path": "people.duckdb"}, 2, "holds 2 tables: people, secrets"),
        ({"path": "people.sqlite", "table": "poeple"}, 5, "did you mean 'people'?"),
        ({"path": "people.parquet", "columns": []}, 2, "none of its columns"),
    ],
)
def test_data_that_is_not_as_it_is_said_to_be_is_told(
    folder: Path, source: dict[str, Any], code: int, part: str
) -> None:
    ran = run("sql-query", {}, {"query": "SELECT * FROM people", "tables": {"people": source}}, data=folder)
    assert ran.code == code, ran.error
    assert part in f"{ran.error['message']} {ran.error.get('hint', '')}"


def test_only_tables_that_the_query_names_are_opened(folder: Path) -> None:
    tables = {"people": SOURCES["parquet"], "broken": {"path": "missing.csv"}}
    assert run("sql-query", {}, {"query": "SELECT id FROM people", "tables": tables}, data=folder).code == 0


def test_a_query_that_needs_more_memory_than_it_may_use_is_told(folder: Path, tmp_path: Path) -> None:
    query = "SELECT list(i) AS l FROM range(20000000) t(i)"
    ran = run("sql-query", {}, {"query": query, "memory": "32MiB"}, data=folder, scratch=tmp_path)
    assert (ran.code, ran.error["code"]) == (7, "out-of-memory")


def test_sorting_spills_to_scratch_and_leaves_nothing_there(folder: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    query = "SELECT i FROM range(3000000) t(i) ORDER BY hash(i)"
    ran = run("sql-query", {}, {"query": query, "memory": "24MiB"}, data=folder, scratch=scratch)
    assert ran.table().num_rows == 3_000_000
    assert list(scratch.iterdir()) == []
