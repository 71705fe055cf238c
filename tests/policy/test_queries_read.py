"""A query is one SELECT that reads tables; everything else is refused, with its place in the text."""

from __future__ import annotations

import duckdb
import pytest

from dynamos.kit.errors import BadInput
from dynamos.policy.functions import FUNCTIONS
from dynamos.policy.queries import DEEPEST, LONGEST, analyse

READS = [
    "SELECT 1",
    "select a, b as c from t where a > 1 group by all having count(*) > 1 order by 1 desc nulls last limit 3 offset 1;",
    "WITH x AS MATERIALIZED (SELECT a FROM t) SELECT * FROM x",
    "FROM t SELECT a",
    "FROM t",
    "TABLE t",
    "VALUES (1, 'a')",
    "(SELECT a FROM t) UNION ALL (SELECT b FROM u) ORDER BY 1",
    "SELECT * EXCLUDE (a) REPLACE (b + 1 AS b) RENAME (c AS d) FROM t",
    "SELECT row_number() OVER w, sum(a) FILTER (WHERE b) FROM t WINDOW w AS (PARTITION BY c ORDER BY d) QUALIFY 1 = 1",
    "SELECT a::DECIMAL(3, 2), TRY_CAST(b AS INTEGER), date '2020-01-01' + interval 3 day, extract(year FROM c) FROM t",
    "SELECT list_transform(l, lambda x: x + 1), {'a': 1}.a, [1, 2][1], map {'k': 1}['k'], $$it's$$ FROM t",
    "SELECT a IN (1, 2), a IN (SELECT b FROM u), EXISTS (SELECT 1), a = ANY (SELECT 1), a BETWEEN 1 AND 2 FROM t",
    "SELECT a LIKE 'x%' ESCAPE '!', a ILIKE 'y', a SIMILAR TO 'z', a ~ 'w', a COLLATE nocase FROM t",
    "SELECT a IS DISTINCT FROM b, a IS NOT NULL, NOT a FROM t",
    "SELECT * FROM t TABLESAMPLE 10%",
    "SELECT * FROM t ASOF JOIN u USING (a, b), LATERAL (SELECT t.a) x, (VALUES (1)) v(n)",
    "SELECT quantile_cont(a, 0.5), string_agg(b, ',' ORDER BY c), approx_count_distinct(d), histogram(e) FROM t",
    "SELECT 1 -- a comment\n /* and /* another */ one */",
]


@pytest.mark.parametrize("sql", READS)
def test_what_only_reads_is_a_query(sql: str) -> None:
    assert analyse(sql).text == sql


REFUSED = [
    ("INSERT INTO t VALUES (1)", (1, 1)),
    ("UPDATE t SET a = 1", (1, 1)),
    ("DELETE FROM t", (1, 1)),
    ("CREATE TABLE x AS SELECT 1", (1, 1)),
    ("DROP TABLE t", (1, 1)),
    ("COPY t TO 'out.csv'", (1, 1)),
    ("ATTACH 'other.db'", (1, 1)),
    ("INSTALL httpfs", (1, 1)),
    ("LOAD httpfs", (1, 1)),
    ("PRAGMA database_list", (1, 1)),
    ("SET memory_limit = '1TB'", (1, 1)),
    ("CALL duckdb_functions()", (1, 1)),
    ("EXPLAIN SELECT 1", (1, 1)),
    ("DESCRIBE t", (1, 1)),
    ("SHOW TABLES", (1, 1)),
    ("SELECT 1; DROP TABLE t", (1, 11)),
    ("SELECT 1;\nSELECT 2", (2, 1)),
    ("WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x", None),
    ("SELECT 1 INTO x", (1, 15)),
    ("SELECT a FROM t FOR UPDATE", None),
    ("SELECT a FROM t WHERE a = ?", None),
    ("SELECT a FROM t WHERE a = $1", None),
    ("SELECT a FROM t WHERE a = $name", None),
    ("SELECT * FROM 'file.csv'", (1, 15)),
    ("SELECT * FROM read_csv('/etc/passwd')", None),
    ("SELECT * FROM read_csv_auto('x')", None),
    ("SELECT * FROM \"read_csv\"('x')", None),
    ("SELECT * FROM read_parquet('x')", None),
    ("SELECT * FROM parquet_metadata('x')", None),
    ("SELECT * FROM read_text('/etc/passwd')", None),
    ("SELECT * FROM read_blob('/etc/passwd')", None),
    ("SELECT * FROM read_json('x')", None),
    ("SELECT * FROM glob('/*')", None),
    ("SELECT * FROM sniff_csv('x')", None),
    ("SELECT * FROM sqlite_scan('x', 'y')", None),
    ("SELECT * FROM postgres_scan('x', 'y', 'z')", None),
    ("SELECT * FROM query('SELECT 1')", None),
    ("SELECT * FROM query_table('t')", None),
    ("SELECT * FROM duckdb_secrets()", None),
    ("SELECT * FROM duckdb_settings()", None),
    ("SELECT * FROM pragma_table_info('t')", None),
    ("SELECT * FROM range(10)", None),
    ("SELECT * FROM unnest([1, 2])", None),
    ("SELECT * FROM t, unnest(t.l) u(x)", None),
    ("SELECT * FROM t, LATERAL read_csv(t.a)", None),
    ("SELECT getenv('HOME')", (1, 8)),
    ("SELECT a, getenv('HOME') FROM t", (1, 11)),
    ("SELECT \"getenv\"('HOME')", None),
    ("SELECT system.main.getenv('HOME')", None),
    ("SELECT current_setting('memory_limit')", None),
    ("SELECT current_user", None),
    ("SELECT current_database()", None),
    ("SELECT getvariable('x')", None),
    ("SELECT nextval('s')", None),
    ("SELECT setseed(0.5)", None),
    ("SELECT sleep_ms(1000)", None),
    ("SELECT write_log('x')", None),
    ("SELECT json_execute_serialized_sql('x')", None),
    ("SELECT a.upper() FROM t", None),
    ("SELECT 'x'.getenv()", None),
    ("SELECT COLUMNS('.*') FROM t", None),
    ("SELECT #1 FROM t", None),
    ("SELECT [x FOR x IN [1]]", None),
    ("PIVOT t ON a USING sum(b)", (1, 1)),
    ("SELECT * FROM (PIVOT t ON a USING sum(b))", None),
    ("SELECT * FROM (UNPIVOT t ON a, b)", None),
    ("WITH RECURSIVE x AS (SELECT 1 UNION ALL SELECT 1 FROM x) SELECT * FROM x", None),
    ("SELECT a FROM t AT (VERSION => 1)", None),
    ("SELECT E'\\''", None),
    ("SELECT a::mood FROM t", None),
    ("SELECT CAST(a AS \"mood), getenv('x'\") FROM t", None),
    ("SELECT interval 3 secret FROM t", None),
    ("SELECT extract(secret FROM a) FROM t", None),
    ("SELECT time_bucket(interval 1 day, a, secret) FROM t", None),
    ("SELECT last_day(a, secret) FROM t", None),
]


@pytest.mark.parametrize(("sql", "position"), REFUSED)
def test_what_does_more_than_read_tables_is_refused(sql: str, position: tuple[int, int] | None) -> None:
    with pytest.raises(BadInput) as caught:
        analyse(sql)
    facts = caught.value.as_dict()
    line, column = facts["position"]
    assert facts["code"] == "sql"
    assert facts["where"] == f"query:{line}:{column}"
    assert position in (None, (line, column))


@pytest.mark.parametrize(
    ("sql", "position"),
    [
        ("", (1, 1)),
        ("   \n ", (1, 1)),
        ("-- nothing", (1, 1)),
        ("SELECT a b c FROM t", (1, 12)),
        ("SELECT 'open", (1, 1)),
        ("SELECT a\nFROM t\nWHERE (a = 1", None),
        ("SELECT " + "(" * 500 + "1" + ")" * 500, (1, 1)),
        ("SELECT " + "(" * DEEPEST + "1" + ")" * DEEPEST, None),
        ("SELECT " + "NOT " * 3000 + "1", None),
        ("SELECT '" + "x" * LONGEST + "'", (1, 1)),
        ("\x00", None),
    ],
)
def test_what_does_not_parse_says_where(sql: str, position: tuple[int, int] | None) -> None:
    with pytest.raises(BadInput) as caught:
        analyse(sql)
    line, column = caught.value.facts["position"]
    assert caught.value.where == f"query:{line}:{column}"
    assert position in (None, (line, column))


def test_an_unknown_function_is_refused_with_a_near_name() -> None:
    with pytest.raises(BadInput) as caught:
        analyse("SELECT a,\n  greatst(a, 1) FROM t")
    assert "'greatest'" in caught.value.hint
    assert caught.value.facts["position"] == [2, 3]


def test_no_function_of_the_installed_duckdb_gets_in_unless_it_is_listed() -> None:
    rows = duckdb.connect().execute("SELECT DISTINCT function_name FROM duckdb_functions()").fetchall()
    names = {name.lower() for (name,) in rows if name.isidentifier()}
    assert len(names) > 800
    admitted = set()
    for name in sorted(names - FUNCTIONS):
        for arguments in ("a", "a, b", ""):
            try:
                analyse(f'SELECT "{name}"({arguments}) FROM t')
            except BadInput:
                continue
            admitted.add(name)
    assert admitted == set()


def test_every_listed_function_of_duckdb_can_be_called() -> None:
    rows = duckdb.connect().execute("SELECT DISTINCT function_name FROM duckdb_functions()").fetchall()
    names = sorted(FUNCTIONS & {name.lower() for (name,) in rows})
    assert len(names) > 400
    closed = []
    for name in names:
        for arguments in ("a", "a, b", "a, b, 1", "'day', a, b", ""):
            try:
                analyse(f"SELECT {name}({arguments}) FROM t")
            except BadInput:
                continue
            break
        else:
            closed.append(name)
    assert closed == []


def test_a_text_that_was_read_is_not_read_again() -> None:
    assert analyse("SELECT a FROM t") is analyse("SELECT a FROM t")
