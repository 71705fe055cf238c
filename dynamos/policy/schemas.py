"""Schemas: the tables that a query can see at one party, found by name in any letter case."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from dynamos.model.datasets import DataSet, Rule


@dataclass(frozen=True, slots=True, eq=False)
class TableFacts:
    """One table: its data set, its name and columns as the data set spells them, and the rules of its columns."""

    data_set: str
    name: str
    columns: Mapping[str, str]
    rules: Mapping[str, Rule]


@dataclass(frozen=True, slots=True, eq=False)
class Schema:
    """Tables by name in lower case; several where data sets share a name. Equal data sets give the same object."""

    tables: Mapping[str, tuple[TableFacts, ...]]

    def find(self, table: str, data_set: str = "") -> tuple[TableFacts, ...]:
        """Give the tables of this name, of one data set if it is given."""
        found = self.tables.get(table.lower(), ())
        return tuple(facts for facts in found if not data_set or facts.data_set.lower() == data_set.lower())

    def rule(self, table: str, column: str) -> Rule | None:
        """Give the rule that anonymises a column, named as the data set spells it."""
        return next((facts.rules[column] for facts in self.find(table) if column in facts.rules), None)


def schema_of(data_sets: Iterable[DataSet]) -> Schema:
    """Give the schema of some data sets. Data sets that were seen before, or are equal to such, cost nothing."""
    return _of_objects(_Objects(tuple(data_sets)))


class _Objects:
    """Values that are equal only to themselves: data sets hold mappings, which have no hash."""

    __slots__ = ("values",)

    def __init__(self, values: tuple[DataSet, ...]) -> None:
        self.values = values

    def __hash__(self) -> int:
        return hash(tuple(map(id, self.values)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Objects) and tuple(map(id, self.values)) == tuple(map(id, other.values))


_Columns = tuple[tuple[str, str, int | None], ...]
_Tables = tuple[tuple[str, str, _Columns], ...]


@lru_cache(maxsize=4096)
def _of_objects(objects: _Objects) -> Schema:
    return _of_content(
        tuple(
            (data_set.name, name, tuple(_column(column, facts.rule) for column, facts in table.columns.items()))
            for data_set in objects.values
            for name, table in data_set.tables.items()
        )
    )


def _column(name: str, rule: Rule | None) -> tuple[str, str, int | None]:
    return (name, rule.method, rule.size) if rule else (name, "", None)


@lru_cache(maxsize=1024)
def _of_content(content: _Tables) -> Schema:
    tables: dict[str, tuple[TableFacts, ...]] = {}
    for data_set, name, columns in content:
        names = MappingProxyType({column.lower(): column for column, _, _ in columns})
        rules = {
            column: Rule.model_validate({"method": method, "size": size}) for column, method, size in columns if method
        }
        facts = TableFacts(data_set, name, names, MappingProxyType(rules))
        tables[name.lower()] = (*tables.get(name.lower(), ()), facts)
    return Schema(MappingProxyType(tables))
