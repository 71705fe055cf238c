"""Uses: whether a party lets a user have what a query really uses, and what it may come out as."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from dynamos.kit.words import near
from dynamos.model.datasets import DataSet
from dynamos.model.decisions import Reason
from dynamos.policy.clauses import Case
from dynamos.policy.engines import ANONYMISER
from dynamos.policy.lineage import Field
from dynamos.policy.notes import Issue
from dynamos.policy.resolution import Resolved
from dynamos.policy.schemas import Schema


class Limits:
    """The tables and columns of a schema that a relation permits."""

    def __init__(self, case: Case, schema: Schema) -> None:
        self.case = case
        self.schema = schema
        tables = case.relation.tables
        self.limited = tables is not None
        self._columns = {name.lower(): {column.lower() for column in of} for name, of in (tables or {}).items()}

    def table(self, name: str) -> bool:
        return not self.limited or name.lower() in self._columns

    def column(self, table: str, column: str) -> bool:
        return not self.limited or column.lower() in self._columns.get(table.lower(), ())

    def tables(self) -> list[str]:
        """Give the permitted tables that exist."""
        return [facts.name for found in self.schema.tables.values() for facts in found if self.table(facts.name)]

    def columns(self, table: str) -> list[str]:
        """Give the permitted columns of a table that exist."""
        found = self.schema.find(table)
        return [column for facts in found for column in facts.columns.values() if self.column(table, column)]

    def visible(self, field: Field) -> bool:
        """Tell whether the user may know that this column exists."""
        return all(self.column(table, column) for table, column in field.sources)


def refusals(case: Case, schema: Schema, resolved: Resolved, held: Mapping[str, DataSet]) -> Iterator[Reason]:
    """Give every reason to refuse that is in the query: what it uses, what it misses, what it computes."""
    limits = Limits(case, schema)
    for issue in resolved.issues:
        yield _missing(limits, issue, held)
    for table, position in resolved.tables.items():
        if not limits.table(table):
            yield _no_table(limits, table, position)
        else:
            yield from _columns(limits, resolved, table)
    if ANONYMISER in case.duties:
        yield from _computed(case, schema, resolved)


def _missing(limits: Limits, issue: Issue, held: Mapping[str, DataSet]) -> Reason:
    case = limits.case
    if issue.code == "table":
        owner = _other_data_set(case, issue.name, held)
        if owner:
            clause = case.clause("dataSets")
            fact = f"table {issue.name!r} of data set {owner!r}"
            message = f"{case.party} does not permit the data set {owner!r} to this user"
            return case.reason("data-set", clause, fact, message, f"add {owner!r} to {clause}", position=issue.position)
        return _no_table(limits, issue.name, issue.position)
    if issue.code == "column":
        visible = [field.name for field in issue.known if limits.visible(field)]
        return _no_column(limits, issue.name, visible, position=issue.position, message=issue.message)
    return case.reason(
        "sql", "query", issue.name or "query", issue.message, "rewrite the query", position=issue.position
    )


def _other_data_set(case: Case, table: str, held: Mapping[str, DataSet]) -> str:
    """Give a data set that the party has and does not permit, and that has this table."""
    bare = table.rpartition(".")[2].lower()
    for name, data_set in held.items():
        if name not in case.relation.data_sets and bare in (known.lower() for known in data_set.tables):
            return name
    return ""


def _no_table(limits: Limits, table: str, position: tuple[int, int] | None) -> Reason:
    """One answer for a table that does not exist and one that is not permitted: nobody learns which it is."""
    case, tables = limits.case, limits.tables()
    message = f"{case.party} has no table {table!r} for this user"
    remedy = _instead(table, tables) or "there is none that may be used"
    if not limits.limited:
        return case.reason("table", case.clause("dataSets"), f"table {table!r}", message, remedy, position=position)
    clause = case.clause("tables")
    remedy += f"; or add {table!r} to {clause}"
    return case.reason("table", clause, f"table {table!r}", message, remedy, position=position)


def _no_column(
    limits: Limits,
    column: str,
    visible: list[str],
    *,
    position: tuple[int, int] | None,
    message: str = "",
    table: str = "",
) -> Reason:
    """One answer for a column that does not exist and one that is not permitted."""
    case = limits.case
    fact = f"table {table!r}, column {column!r}" if table else f"column {column!r}"
    bare = column.rpartition(".")[2]
    remedy = _instead(bare, visible)
    if not limits.limited:
        clause = case.clause("dataSets")
        return case.reason("column", clause, fact, message, remedy or "leave it out", position=position)
    clause = case.clause("tables") + (f"[{table!r}]" if table else "")
    message = f"{case.party} has no column {column!r} for this user"
    remedy = f"{remedy}; or add {bare!r} to {clause}" if remedy else f"add {bare!r} to {clause}"
    return case.reason("column", clause, fact, message, remedy, position=position)


def _instead(name: str, known: Iterable[str]) -> str:
    known = list(dict.fromkeys(known))
    found = near(name, known)
    if found:
        return f"write {' or '.join(repr(word) for word in found)}"
    return f"use one of: {', '.join(known)}" if known else ""


def _columns(limits: Limits, resolved: Resolved, table: str) -> Iterator[Reason]:
    """Refuse the columns of a permitted table that the relation does not name; those under one `*` together."""
    starred = None
    for (origin, column), touch in resolved.touches.items():
        if origin != table or limits.column(table, column):
            continue
        if touch.star:
            starred = touch
            continue
        yield _no_column(limits, column, limits.columns(table), position=touch.position, table=table)
    if starred:
        case, columns = limits.case, limits.columns(table)
        clause = f"{case.clause('tables')}[{table!r}]"
        message = f"'*' takes columns of {table!r} that {case.party} does not permit to this user"
        remedy = f"write the columns instead of '*': {', '.join(columns) or 'none is permitted'}"
        yield case.reason("column", clause, f"table {table!r}, '*'", message, remedy, position=starred.position)


def _computed(case: Case, schema: Schema, resolved: Resolved) -> Iterator[Reason]:
    """Refuse output that is computed from a sensitive column: its rule could not be applied to that any more."""
    clause = case.clause("duties") if ANONYMISER in case.relation.duties else f"duties[{case.request.type!r}]"
    for field in resolved.outputs:
        ruled = {origin: rule for origin in sorted(field.sources) if (rule := schema.rule(*origin))}
        names = ", ".join(f"{table}.{column}" for table, column in ruled)
        fact = f"output {field.name!r} of {names}"
        if ruled and not field.plain:
            message = f"{case.party} anonymises {names}; the query computes {field.name!r} from it before that"
            remedy = f"select {names} as it is, or leave it out of {field.name!r}"
            yield case.reason("derived-column", clause, fact, message, remedy, position=field.position)
        elif len(set(ruled.values())) > 1:
            message = f"{case.party} anonymises {names} by different rules; the query mixes them in {field.name!r}"
            remedy = "select them as columns of their own"
            yield case.reason("derived-column", clause, fact, message, remedy, position=field.position)
