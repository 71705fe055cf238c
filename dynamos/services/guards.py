"""What a query may touch, asked of the parser that will run it: one SELECT over tables of the party, and nothing else.

Policy has decided over the query before it came here. This is the party's last wall, in case something before it was
wrong: even a file that the engine may read, because a table lies in it, is out of a query's reach.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import duckdb

from dynamos.kit.errors import BadInput, Refused
from dynamos.kit.words import suggest

TABLE_FUNCTIONS = frozenset({"range", "generate_series", "unnest", "repeat", "json_each", "json_tree"})
"""Functions that may stand in FROM: they make rows of their arguments only."""

_HARMLESS = frozenset({"EMPTY", "BASE_TABLE", "JOIN", "SUBQUERY", "TABLE_FUNCTION", "EXPRESSION_LIST", "PIVOT"})
_REACHING = frozenset(
    {
        "current_setting", "current_query", "current_schemas", "getenv", "getvariable", "nextval", "currval", "setval",
        "in_search_path", "write_log", "parse_duckdb_log_message", "version", "pg_sleep", "sleep_ms", "error",
        "txid_current", "current_transaction_id", "current_connection_id", "current_query_id", "query", "query_table",
        "json_serialize_sql", "json_deserialize_sql", "json_serialize_plan", "json_execute_serialized_sql",
    }
)  # fmt: skip
_REACHING_BEGIN = ("pg_", "has_", "duckdb_", "pragma_", "read_", "__internal", "variant_bytes")
_HINT = "write one SELECT over the tables of the data set"


def tables_of(connection: duckdb.DuckDBPyConnection, query: str, known: Iterable[str]) -> tuple[str, ...]:
    """Give the tables of `known` that the query names, in the order of `known`.

    Raises BadInput for what does not parse or is not one SELECT, and Refused for a query that names another table, a
    file, or a function that reaches outside its rows.
    """
    [(text,)] = connection.execute("SELECT json_serialize_sql(?)", [query]).fetchall()
    tree: dict[str, Any] = json.loads(text)
    if tree["error"]:
        where = f"character {int(tree['position']) + 1}" if "position" in tree else ""
        raise BadInput(f"the query cannot run: {tree['error_message']}", where=where, hint=_HINT, code="query-invalid")
    if len(tree["statements"]) != 1:
        raise BadInput("the query has more than one statement", hint=_HINT, code="query-invalid")
    tables = {table.lower(): table for table in known}
    used: set[str] = set()
    _check(tree["statements"][0], tables, frozenset(), used)
    return tuple(table for lower, table in tables.items() if lower in used)


def _check(node: Any, tables: dict[str, str], named: frozenset[str], used: set[str]) -> None:
    """Walk the tree. `named` are the common table expressions that can be seen from here."""
    if isinstance(node, list):
        for member in node:
            _check(member, tables, named, used)
    elif isinstance(node, dict):
        if isinstance(common := node.get("cte_map"), dict):
            named = named | {entry["key"].lower() for entry in common["map"]}
        if node.get("class") == "FUNCTION":
            _check_function(node["function_name"].lower())
        elif "sample" in node and "class" not in node and not node["type"].endswith("_NODE"):
            _check_source(node, tables, named, used)
        for member in node.values():
            _check(member, tables, named, used)


def _check_source(node: dict[str, Any], tables: dict[str, str], named: frozenset[str], used: set[str]) -> None:
    kind = node["type"]
    if kind not in _HARMLESS:
        raise _refused(f"{kind.lower().replace('_', ' ')} is not a table")
    if kind == "TABLE_FUNCTION" and node["function"].get("function_name", "").lower() not in TABLE_FUNCTIONS:
        raise _refused(f"the function {node['function'].get('function_name', '')!r} reaches outside the query's tables")
    if kind == "BASE_TABLE":
        path = [node.get("catalog_name"), node.get("schema_name"), node["table_name"]]
        table = node["table_name"].lower()
        if any(path[:2]) or node.get("at_clause"):
            raise _refused(f"{'.'.join(filter(None, path))!r} names more than a table")
        if table not in named:
            if table not in tables:
                raise _refused(f"there is no table {node['table_name']!r}", suggest(table, tables.values()))
            used.add(table)


def _check_function(function: str) -> None:
    if function in _REACHING or function.startswith(_REACHING_BEGIN):
        raise _refused(f"the function {function!r} reaches outside the query's rows")


def _refused(message: str, hint: str = "") -> Refused:
    return Refused(message, hint=hint or _HINT, code="query-refused")
