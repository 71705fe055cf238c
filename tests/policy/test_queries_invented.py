"""Queries that nobody thought of: whatever is admitted must need only what it says and carry only what it says.

Every cell of the data names its own column, so a value in the result tells where it came from.
"""

from __future__ import annotations

import os
import re
from random import Random

import duckdb
import pytest
from hypothesis import HealthCheck, event, given, note, settings
from hypothesis import strategies as st

from dynamos.kit.errors import BadInput
from dynamos.model.datasets import DataSet
from dynamos.policy.queries import analyse
from dynamos.policy.resolution import Resolved, resolve
from dynamos.policy.schemas import schema_of

TABLES = {"p": ("id", "a", "b"), "q": ("id", "a", "c"), "r": ("x", "b")}
SCHEMA = schema_of([
    DataSet.model_validate(
        {"name": "d", "tables": {table: {"columns": dict.fromkeys(of, "VARCHAR")} for table, of in TABLES.items()}}
    )
])  # fmt: skip
EXAMPLES = int(os.environ.get("DYNAMOS_EXAMPLES", "150"))
MARK = re.compile(r"<([a-z]+)\.([a-z]+)>")


class Author:
    """Writes queries that mostly make sense: names that are in sight, now and then one that is not."""

    def __init__(self, random: Random) -> None:
        self.random = random

    def query(self, depth: int, outer: Sight, ctes: dict[str, list[str]]) -> tuple[str, list[str]]:
        """Give a query and the names of its columns."""
        head = ""
        if depth and self.random.random() < 0.3:
            name = self.random.choice(["p", "q", "s"])
            text, names = self.query(depth - 1, [], ctes)
            head, ctes = f"WITH {name} AS ({text}) ", {**ctes, name: names}
        text, names = self.select(depth, outer, ctes)
        if depth and self.random.random() < 0.2:
            word = self.random.choice(["UNION", "UNION ALL", "EXCEPT", "INTERSECT", "UNION BY NAME"])
            other, more = self.select(depth - 1, outer, ctes)
            text = f"({text}) {word} ({other})"
            names = list(dict.fromkeys(names + more)) if "NAME" in word else names
        return head + text, names

    def select(self, depth: int, outer: Sight, ctes: dict[str, list[str]]) -> tuple[str, list[str]]:
        source, here = self.source(depth, outer, ctes)
        for _ in range(self.random.choice([0, 0, 1])):
            other, there = self.source(depth, outer + here, ctes)
            source, here = self.join(source, here, other, there)
        sight = here or outer
        items, names = self.items(depth, sight, outer, ctes)
        text = f"SELECT {self.random.choice(['', '', '', 'DISTINCT '])}{items} FROM {source}"
        if self.random.random() < 0.3:
            text += f" WHERE {self.expression(1, sight, outer, ctes)} > '<'"
        if self.random.random() < 0.1:
            text += " GROUP BY ALL"
        if self.random.random() < 0.3:
            text += f" ORDER BY {self.random.choice([*names, '1', 'ALL', self.column(sight)])}"
        return text, names

    def source(self, depth: int, outer: Sight, ctes: dict[str, list[str]]) -> tuple[str, Sight]:
        alias = self.random.choice(["p", "q", "t", "u", "v"])
        if depth and self.random.random() < 0.4:
            text, names = self.query(depth - 1, outer, ctes)
            text = f"{self.random.choice(['', '', 'LATERAL '])}({text})"
        else:
            table = self.random.choice([*TABLES, *ctes])
            names = ctes.get(table) or list(TABLES.get(table, ()))
            if table in TABLES and self.random.random() < 0.2:
                table, names = f"d.{table}", list(TABLES[table])
            text = table
        if self.random.random() < 0.2 and len(names) > 1:
            return f"{text} AS {alias}(n, m)", [(alias, ["n", "m", *names[2:]])]
        return f"{text} AS {alias}", [(alias, names)]

    def join(self, source: str, here: Sight, other: str, there: Sight) -> tuple[str, Sight]:
        words = [
            "CROSS JOIN",
            "NATURAL JOIN",
            "NATURAL LEFT JOIN",
            "POSITIONAL JOIN",
            ",",
            "JOIN",
            "FULL JOIN",
            "SEMI JOIN",
        ]
        word = self.random.choice(words)
        text, both = f"{source} {word} {other}", here + there
        if word in ("JOIN", "FULL JOIN", "SEMI JOIN"):
            shared = [name for name in there[0][1] if any(name in names for _, names in here)]
            if shared and self.random.random() < 0.6:
                text += f" USING ({self.random.choice(shared)})"
            else:
                text += f" ON {self.column(here)} > {self.column(there)}"
        text = f"({text})" if word != "," and self.random.random() < 0.2 else text
        return text, here if word == "SEMI JOIN" else both

    def items(self, depth: int, sight: Sight, outer: Sight, ctes: dict[str, list[str]]) -> tuple[str, list[str]]:
        items, names = [], []
        for _ in range(self.random.choice([1, 2, 3])):
            alias, of = self.random.choice(sight)
            of = of or ["a"]
            name = self.random.choice(["a", "b", "k", "l"])
            kind = self.random.random()
            if kind < 0.1:
                items.append("*")
                names += [column for _, columns in sight for column in columns]
            elif kind < 0.2:
                items.append(f"{alias}.*")
                names += of
            elif kind < 0.25:
                items.append(f"{alias}.* EXCLUDE ({of[0]})")
                names += of[1:]
            elif kind < 0.3:
                items.append(f"* REPLACE ({self.expression(depth, sight, outer, ctes)} AS {of[0]})")
                names += [column for _, columns in sight for column in columns]
            else:
                items.append(f"{self.expression(depth, sight, outer, ctes)} AS {name}")
                names.append(name)
        return ", ".join(items), names

    def column(self, sight: Sight) -> str:
        alias, names = self.random.choice(sight)
        name = self.random.choice(names or ["a"])
        return self.random.choice([f"{alias}.{name}", f"{alias}.{name}", name, name.upper()])

    def expression(self, depth: int, sight: Sight, outer: Sight, ctes: dict[str, list[str]]) -> str:
        def part() -> str:
            return self.expression(depth - 1, sight, outer, ctes)

        if not depth or self.random.random() < 0.5:
            return self.column(outer if outer and self.random.random() < 0.2 else sight)
        forms = [
            lambda: "'k'",
            lambda: f"upper({part()})",
            lambda: f"upper({part()})",
            lambda: f"({part()} || {part()})",
            lambda: f"CASE WHEN {part()} > '<' THEN {part()} END",
            lambda: f"max({part()}) OVER (ORDER BY {part()})",
            lambda: f"list_transform([{part()}], lambda x: x || {part()})[1]",
            lambda: f"EXISTS ({self.query(depth - 1, outer + sight, ctes)[0]})::VARCHAR",
            lambda: self.scalar(depth, outer + sight, ctes),
        ]
        return self.random.choice(forms)()

    def scalar(self, depth: int, outer: Sight, ctes: dict[str, list[str]]) -> str:
        text, names = self.query(depth - 1, outer, ctes)
        return f"(SELECT min(w.{(names or ['a'])[0]}) FROM ({text}) AS w)"


Sight = list[tuple[str, list[str]]]
"""Aliases in sight, each with its columns."""


def database(found: Resolved | None) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(config={"threads": 1, "memory_limit": "512MB"})
    for table, of in TABLES.items():
        used = of if found is None else [c for use in found.uses if use.table == table for c in use.columns]
        if found is None or any(use.table == table for use in found.uses):
            cells = ", ".join(f"'<{table}.{column}>' AS {column}" for column in used) or "1 AS nothing"
            connection.execute(f"CREATE TABLE {table} AS SELECT {cells}")
    return connection


def outcome(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple[list[str], list[tuple[object, ...]]] | None:
    try:
        result = connection.execute(sql)
        return [column[0] for column in result.description], result.fetchmany(50)
    except duckdb.Error:
        return None


@pytest.mark.slow
@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.integers(min_value=0, max_value=2**48))
def test_an_admitted_query_needs_only_its_uses_and_carries_only_its_sources(seed: int) -> None:
    sql, _ = Author(Random(seed)).query(2, [], {})
    note(sql)
    try:
        found = resolve(analyse(sql), SCHEMA)
    except BadInput:
        event("bad input")
        return
    if found.issues:
        event("has issues")
        return
    allowed, everything = outcome(database(found), found.sql), outcome(database(None), found.sql)
    if allowed is None:
        event("refused by DuckDB")
        assert everything is None, "the query reaches a column that it was not said to use"
        return
    event("runs")
    names, rows = allowed
    assert names == [field.name for field in found.outputs]
    for row in rows:
        for value, field in zip(row, found.outputs, strict=True):
            origins = {(table.lower(), column.lower()) for table, column in MARK.findall(str(value).lower())}
            assert origins <= field.sources
            if field.plain and origins:
                assert value in {f"<{table}.{column}>" for table, column in origins}
