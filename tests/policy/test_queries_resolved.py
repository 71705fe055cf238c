"""What a query really uses, what its result comes from, and that DuckDB agrees with every word of it."""

from __future__ import annotations

from typing import Any

import duckdb
import pytest

from dynamos.kit.errors import BadInput
from dynamos.model.datasets import DataSet
from dynamos.policy.queries import analyse
from dynamos.policy.resolution import Resolved, resolve
from dynamos.policy.schemas import schema_of

TABLES = {
    "people": {"id": "INTEGER", "Name": "VARCHAR", "town": "VARCHAR"},
    "flights": {"id": "INTEGER", "tail": "VARCHAR", "carrier": "VARCHAR", "delay": "INTEGER"},
}
DATA_SET = DataSet.model_validate({"name": "d", "tables": {name: {"columns": of} for name, of in TABLES.items()}})
SCHEMA = schema_of([DATA_SET])


def database(columns: dict[str, list[str]] | None = None) -> duckdb.DuckDBPyConnection:
    """Make the data, or views of some columns of it: all that a query under test may see."""
    connection = duckdb.connect()
    connection.execute("CREATE SCHEMA data")
    connection.execute(
        "CREATE TABLE data.people AS SELECT * FROM "
        "(VALUES (1, 'Ann', 'Delft'), (2, 'Bob', 'Utrecht'), (3, 'Cas', NULL))"
        ' t(id, "Name", town)'
    )
    connection.execute(
        "CREATE TABLE data.flights AS SELECT * FROM "
        "(VALUES (1, 'N1', 'UA', 5), (2, 'N2', 'UA', 7), (2, 'N3', 'B6', NULL))"
        " t(id, tail, carrier, delay)"
    )
    for table, of in TABLES.items():
        chosen = list(of) if columns is None else columns.get(table)
        if chosen is not None:
            names = ", ".join(f'"{name}"' for name in chosen) or "1 AS nothing"
            connection.execute(f"CREATE VIEW {table} AS SELECT {names} FROM data.{table}")
    return connection


def run(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple[list[str], list[Any]]:
    found = connection.execute(sql)
    return [column[0] for column in found.description], sorted(found.fetchall(), key=repr)


def resolved(sql: str) -> Resolved:
    return resolve(analyse(sql), SCHEMA)


def used(found: Resolved) -> dict[str, list[str]]:
    return {use.table: list(use.columns) for use in found.uses}


USES = [
    ("SELECT tail FROM flights", {"flights": ["tail"]}),
    ("select TAIL from FLIGHTS", {"flights": ["tail"]}),
    ('select "TAIL" from "Flights"', {"flights": ["tail"]}),
    ("SELECT f.tail FROM flights f", {"flights": ["tail"]}),
    ("SELECT d.flights.tail FROM d.flights", {"flights": ["tail"]}),
    ("SELECT flights.tail FROM d.flights", {"flights": ["tail"]}),
    ("SELECT * FROM flights", {"flights": ["id", "tail", "carrier", "delay"]}),
    ("FROM flights", {"flights": ["id", "tail", "carrier", "delay"]}),
    ("SELECT f.* FROM flights f, people", {"flights": ["id", "tail", "carrier", "delay"], "people": []}),
    ("SELECT * EXCLUDE (tail) FROM flights", {"flights": ["id", "carrier", "delay"]}),
    ("SELECT * EXCLUDE (TAIL, id) REPLACE (delay + 1 AS delay) FROM flights", {"flights": ["carrier", "delay"]}),
    ("SELECT * EXCLUDE (id, carrier, delay) RENAME (tail AS x) FROM flights", {"flights": ["tail"]}),
    ("SELECT * EXCLUDE (id) REPLACE (1 AS tail) FROM flights", {"flights": ["carrier", "delay"]}),
    ("SELECT count(*) FROM flights", {"flights": []}),
    ("SELECT 1", {}),
    ("SELECT 1 FROM flights WHERE tail = 'N1'", {"flights": ["tail"]}),
    ("SELECT 1 FROM flights GROUP BY carrier", {"flights": ["carrier"]}),
    ("SELECT 1 FROM flights GROUP BY carrier HAVING max(delay) > 1", {"flights": ["carrier", "delay"]}),
    ("SELECT carrier FROM flights ORDER BY delay", {"flights": ["carrier", "delay"]}),
    ("SELECT carrier FROM flights QUALIFY row_number() OVER (PARTITION BY tail ORDER BY delay) = 1",
     {"flights": ["tail", "carrier", "delay"]}),
    ("SELECT sum(id) OVER w AS s FROM flights WINDOW w AS (PARTITION BY carrier)", {"flights": ["id", "carrier"]}),
    ("SELECT sum(id) FILTER (WHERE tail = 'x') AS s FROM flights", {"flights": ["id", "tail"]}),
    ("SELECT DISTINCT ON (carrier) tail FROM flights", {"flights": ["tail", "carrier"]}),
    ("SELECT p.Name FROM people p JOIN flights f ON p.id = f.id", {"people": ["id", "Name"], "flights": ["id"]}),
    ("SELECT name FROM people JOIN flights USING (id)", {"people": ["id", "Name"], "flights": ["id"]}),
    ("SELECT name FROM people NATURAL JOIN flights", {"people": ["id", "Name"], "flights": ["id"]}),
    ("SELECT * FROM people SEMI JOIN flights USING (id)", {"people": ["id", "Name", "town"], "flights": ["id"]}),
    ("SELECT name FROM people ANTI JOIN flights f ON f.id = people.id", {"people": ["id", "Name"], "flights": ["id"]}),
    ("SELECT name FROM people p ASOF JOIN flights f ON p.id >= f.id", {"people": ["id", "Name"], "flights": ["id"]}),
    ("SELECT name FROM people p POSITIONAL JOIN flights f", {"people": ["Name"], "flights": []}),
    ("SELECT name FROM (people p JOIN flights f ON p.id = f.id)", {"people": ["id", "Name"], "flights": ["id"]}),
    ("SELECT name, q FROM ((SELECT 1 AS q) a JOIN people ON true)", {"people": ["Name"]}),
    ("SELECT x FROM (SELECT tail AS x, delay FROM flights) s", {"flights": ["tail", "delay"]}),
    ("SELECT s.a FROM (SELECT tail, delay FROM flights) s(a, b)", {"flights": ["tail", "delay"]}),
    ("WITH s AS (SELECT tail FROM flights) SELECT * FROM s", {"flights": ["tail"]}),
    ("WITH s(x) AS (SELECT tail FROM flights) SELECT x FROM s", {"flights": ["tail"]}),
    ("WITH flights AS (SELECT name FROM people) SELECT * FROM flights", {"people": ["Name"]}),
    ("WITH flights AS (SELECT tail FROM flights) SELECT * FROM flights", {"flights": ["tail"]}),
    ("WITH flights AS (SELECT name FROM people) SELECT * FROM flights, d.flights f",
     {"people": ["Name"], "flights": ["id", "tail", "carrier", "delay"]}),
    ("WITH a AS (SELECT tail FROM flights), b AS (SELECT tail AS t FROM a) SELECT * FROM b x, b y",
     {"flights": ["tail"]}),
    ("SELECT (WITH flights AS (SELECT 1 AS n) SELECT max(n) FROM flights) AS m, tail FROM flights",
     {"flights": ["tail"]}),
    ("SELECT name FROM people p WHERE EXISTS (SELECT 1 FROM flights f WHERE f.id = p.id)",
     {"people": ["id", "Name"], "flights": ["id"]}),
    ("SELECT name FROM people WHERE id IN (SELECT id FROM flights WHERE delay::VARCHAR > town)",
     {"people": ["id", "Name", "town"], "flights": ["id", "delay"]}),
    ("SELECT (SELECT max(f.tail) FROM flights f WHERE f.id = p.id) AS t FROM people p",
     {"people": ["id"], "flights": ["id", "tail"]}),
    ("SELECT name, z FROM people p, LATERAL (SELECT p.id + 1 AS z) l", {"people": ["id", "Name"]}),
    ("SELECT name, z FROM people p, (SELECT p.id + 1 AS z) l", {"people": ["id", "Name"]}),
    ("SELECT tail FROM flights UNION ALL SELECT name FROM people", {"flights": ["tail"], "people": ["Name"]}),
    ("SELECT tail FROM flights EXCEPT SELECT name FROM people", {"flights": ["tail"], "people": ["Name"]}),
    ("SELECT tail AS name FROM flights UNION BY NAME SELECT name, town FROM people",
     {"flights": ["tail"], "people": ["Name", "town"]}),
    ("(SELECT tail FROM flights) INTERSECT (SELECT name FROM people) ORDER BY 1",
     {"flights": ["tail"], "people": ["Name"]}),
    ("SELECT list_transform([delay], lambda x: x + id) AS l FROM flights", {"flights": ["id", "delay"]}),
    ("SELECT upper(name) AS town FROM people GROUP BY town, name", {"people": ["Name", "town"]}),
    ("SELECT delay AS late, late + 1 AS later FROM flights WHERE late > 1", {"flights": ["delay"]}),
    ("SELECT tail FROM flights LIMIT (SELECT count(*) FROM people WHERE town = 'Delft')",
     {"flights": ["tail"], "people": ["town"]}),
    ("SELECT * FROM (VALUES ((SELECT max(name) FROM people))) v(n)", {"people": ["Name"]}),
    ("SELECT a.tail, b.tail FROM flights a, flights b WHERE a.id = b.delay", {"flights": ["id", "tail", "delay"]}),
    ("SELECT CASE WHEN delay > 1 THEN 1 END AS c FROM flights", {"flights": ["delay"]}),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "expected"), USES)
def test_uses_are_the_tables_and_columns_of_the_whole_query(sql: str, expected: dict[str, list[str]]) -> None:
    found = resolved(sql)
    assert found.issues == ()
    assert used(found) == expected


@pytest.mark.parametrize("sql", [sql for sql, _ in USES])
def test_the_restated_query_gives_the_same_rows_and_needs_no_more_than_the_uses(sql: str) -> None:
    found = resolved(sql)
    names, rows = run(database(used(found)), found.sql)
    assert names == [field.name for field in found.outputs]
    if "d.flights" not in sql:
        assert rows == run(database(), sql)[1]


@pytest.mark.parametrize(
    ("sql", "names"),
    [
        ("SELECT * FROM people p JOIN flights f ON p.id = f.id", "id Name town id_1 tail carrier delay"),
        ("SELECT * FROM people JOIN flights USING (id)", "id Name town tail carrier delay"),
        ("SELECT * FROM people FULL JOIN flights USING (ID)", "id Name town tail carrier delay"),
        ("SELECT NAME, name AS n, p.name FROM people p", "Name n Name_1"),
        ("SELECT tail AS A, carrier AS a, id AS a_1 FROM flights", "A a_1 a_1_1"),
        ("SELECT * FROM (SELECT 1 AS a, 2 AS a)", "a a_1"),
        ("SELECT count(*), sum(id), upper(tail) FROM flights GROUP BY ALL", "count_star() sum(id) upper(tail)"),
        ("SELECT delay+1, -delay, 'x', 1, NULL FROM flights", "(delay + 1)|-delay|'x'|1|NULL"),
        ("SELECT name AS n FROM people UNION SELECT tail FROM flights", "n"),
    ],
)  # fmt: skip
def test_result_columns_have_unique_names_that_duckdb_gives_too(sql: str, names: str) -> None:
    found = resolved(sql)
    expected = names.split("|" if "|" in names else " ")
    assert [field.name for field in found.outputs] == expected
    connection = database()
    assert run(connection, found.sql)[0] == expected
    assert connection.sql(found.sql).to_arrow_table().schema.names == expected


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT tail FROM flights", [("flights.tail", True)]),
        ("SELECT tail AS t FROM flights", [("flights.tail", True)]),
        ("SELECT (tail) FROM flights", [("flights.tail", True)]),
        ("SELECT x FROM (SELECT tail AS x FROM flights)", [("flights.tail", True)]),
        ("WITH s(x) AS (FROM flights SELECT tail) SELECT y.x AS z FROM s y", [("flights.tail", True)]),
        ("SELECT upper(tail) AS u FROM flights", [("flights.tail", False)]),
        ("SELECT x FROM (SELECT upper(tail) AS x FROM flights)", [("flights.tail", False)]),
        ("SELECT tail::VARCHAR AS t FROM flights", [("flights.tail", False)]),
        ("SELECT count(tail) AS c FROM flights", [("flights.tail", False)]),
        ("SELECT max(id) OVER (PARTITION BY tail) AS m FROM flights", [("flights.id flights.tail", False)]),
        ("SELECT EXISTS (SELECT 1 FROM flights WHERE tail = 'N1') AS e", [("flights.tail", False)]),
        ("SELECT id FROM people JOIN flights USING (id)", [("flights.id people.id", True)]),
        ("SELECT tail FROM flights UNION SELECT name FROM people", [("flights.tail people.Name", True)]),
        ("SELECT tail FROM flights UNION SELECT 'x'", [("flights.tail", True)]),
        ("SELECT 'x' AS a UNION SELECT tail FROM flights", [("flights.tail", True)]),
        ("SELECT tail FROM flights UNION SELECT upper(name) FROM people", [("flights.tail people.Name", False)]),
        ("SELECT tail FROM flights EXCEPT SELECT name FROM people", [("flights.tail", True)]),
        ("SELECT delay AS a, a AS b, a + 1 AS c FROM flights",
         [("flights.delay", True), ("flights.delay", True), ("flights.delay", False)]),
        ("SELECT {'t': tail} AS s FROM flights", [("flights.tail", False)]),
        ("SELECT s.t FROM (SELECT {'t': tail} AS s FROM flights)", [("flights.tail", False)]),
        ("SELECT * EXCLUDE (id, carrier, delay) REPLACE (upper(tail) AS tail) FROM flights", [("flights.tail", False)]),
        ("SELECT 1 AS one FROM flights WHERE tail = 'N1'", [("", False)]),
        ("SELECT * FROM (VALUES (1)) v(n)", [("", False)]),
    ],
)  # fmt: skip
def test_outputs_tell_their_sources_and_whether_they_are_just_that(sql: str, expected: list[tuple[str, bool]]) -> None:
    outputs = resolved(sql).outputs
    assert [(" ".join(f"{t}.{c}" for t, c in sorted(o.sources)), o.plain) for o in outputs] == expected


def test_a_cte_cannot_stand_in_for_a_table_that_is_named_with_its_data_set() -> None:
    sql = "WITH flights AS (SELECT upper(tail) AS carrier FROM d.flights) SELECT f.carrier FROM d.flights f"
    found = resolved(sql)
    assert found.outputs[0].plain
    assert run(database(), found.sql)[1] == [("B6",), ("UA",), ("UA",)]


def test_a_type_in_quotes_is_that_type_and_no_more() -> None:
    found = resolved("SELECT CAST(id AS \"int), getenv('x'\") AS i FROM flights")
    assert "getenv" not in found.sql


@pytest.mark.parametrize(
    ("sql", "code", "name", "position"),
    [
        ("SELECT tial FROM flights", "column", "tial", (1, 8)),
        ("SELECT\n  f.tial\nFROM flights f", "column", "f.tial", (2, 3)),
        ("SELECT x.tail FROM flights f", "column", "x.tail", (1, 8)),
        ("SELECT tail FROM flihgts", "table", "flihgts", (1, 18)),
        ("SELECT 1 FROM other.flights", "table", "other.flights", (1, 15)),
        ("SELECT 1 FROM a.d.flights", "table", "a.d.flights", (1, 15)),
        ("SELECT 1 FROM information_schema.tables", "table", "information_schema.tables", (1, 15)),
        ("SELECT 1 FROM sqlite_master", "table", "sqlite_master", (1, 15)),
        ("SELECT 1 FROM pg_catalog.pg_class", "table", "pg_catalog.pg_class", (1, 15)),
        ('SELECT 1 FROM "x.parquet"', "table", "x.parquet", (1, 15)),
        ("SELECT 1 FROM flights WHERE id IN (SELECT nope FROM people)", "column", "nope", (1, 43)),
        ("SELECT rowid FROM flights", "column", "rowid", (1, 8)),
        ("SELECT f FROM flights f", "column", "f", (1, 8)),
        ("SELECT id FROM flights, people", "sql", "id", (1, 8)),
        ("SELECT 1 FROM flights, flights", "sql", "flights", None),
        ("SELECT * EXCLUDE (nope) FROM flights", "column", "nope", None),
        ("SELECT x.* FROM flights f", "table", "x", None),
        ("SELECT 1 FROM people JOIN flights USING (tail)", "column", "tail", (1, 42)),
        ("SELECT 1 FROM people NATURAL JOIN (SELECT 1 AS z)", "sql", "", None),
        ("SELECT tail FROM flights UNION SELECT id, name FROM people", "sql", "", None),
        ("SELECT count(f.*) FROM flights f", "sql", "*", None),
        ("SELECT * LIKE 'a%' FROM flights", "sql", "*", None),
        ("SELECT *", "sql", "*", None),
        ("SELECT tail FROM flights UNION SELECT name FROM people ORDER BY town", "column", "town", (1, 65)),
        ("SELECT 1 FROM people p SEMI JOIN flights f ON p.id = f.id WHERE f.tail = 'x'", "column", "f.tail", (1, 65)),
        ("SELECT (SELECT name AS x FROM people WHERE x = 'y') AS z FROM (SELECT 1 AS x)", "sql", "x", None),
    ],
)  # fmt: skip
def test_what_has_no_meaning_is_told_with_its_place(
    sql: str, code: str, name: str, position: tuple[int, int] | None
) -> None:
    found = resolved(sql)
    assert found.sql == ""
    issue = found.issues[0]
    assert (issue.code, issue.name) == (code, name)
    assert position in (None, issue.position)


def test_all_issues_come_at_once_and_one_missing_table_brings_no_others() -> None:
    found = resolved("SELECT zz, n.x FROM nope n JOIN flights f ON n.y = f.no JOIN gone USING (id)")
    assert [issue.name for issue in found.issues] == ["nope", "f.no", "gone"]


def test_stars_over_stars_come_to_an_end() -> None:
    levels = ["WITH c0 AS (SELECT * FROM flights)"]
    levels += [f", c{i} AS (SELECT * FROM c{i - 1} a, c{i - 1} b)" for i in range(1, 30)]
    with pytest.raises(BadInput, match="columns"):
        resolved("".join(levels) + " SELECT * FROM c29")


def test_a_query_that_is_too_deep_is_bad_input() -> None:
    with pytest.raises(BadInput, match="deep"):
        resolved("SELECT " + "+".join(["1"] * 20_000))


def test_a_table_that_two_data_sets_share_needs_the_name_of_one() -> None:
    other = DATA_SET.model_copy(update={"name": "e"})
    schema = schema_of([DATA_SET, other])
    assert resolve(analyse("SELECT 1 FROM flights"), schema).issues[0].code == "table"
    assert resolve(analyse("SELECT tail FROM e.flights"), schema).uses[0].data_set == "e"
    assert resolve(analyse("SELECT 1 FROM d.flights, e.flights f"), schema).issues[0].code == "table"


def test_equal_data_sets_share_one_schema_and_one_resolution() -> None:
    same = DataSet.model_validate(DATA_SET.as_json())
    assert schema_of([same]) is SCHEMA
    assert resolve(analyse("SELECT 1 FROM flights"), schema_of([same])) is resolved("SELECT 1 FROM flights")
