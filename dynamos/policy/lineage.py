"""Lineage: which columns of which tables each column of a result comes from, and which rule that puts on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from dynamos.kit.errors import Broken
from dynamos.model.datasets import DataSet, Rule
from dynamos.model.decisions import ProviderDecision
from dynamos.policy.queries import Position

Origin = tuple[str, str]
"""A table and a column of it, as the data set spells them."""


@dataclass(frozen=True, slots=True)
class Field:
    """One column of a table, a subquery or a result: where its values come from, and whether they are just those
    values (`plain`) or computed from them."""

    name: str
    sources: frozenset[Origin] = frozenset()
    plain: bool = False
    position: Position | None = None

    def named(self, name: str) -> Field:
        """Give the same column under another name."""
        return replace(self, name=name)

    def merged(self, other: Field) -> Field:
        """Give the column whose values come from both. A column of constants does not make the other less plain."""
        plain = all(field.plain or not field.sources for field in (self, other)) and (self.plain or other.plain)
        return replace(self, sources=self.sources | other.sources, plain=plain)


def unique(names: Iterable[str]) -> list[str]:
    """Give the names with `_1`, `_2`, ... behind those that occur before in any letter case, as DuckDB does."""
    taken: set[str] = set()
    found = []
    for name in names:
        candidate, count = name, 0
        while candidate.lower() in taken:
            count += 1
            candidate = f"{name}_{count}"
        taken.add(candidate.lower())
        found.append(candidate)
    return found


def rules(decision: ProviderDecision, data_sets: Mapping[str, DataSet]) -> dict[str, Rule]:
    """Give the anonymisation rule of every output column that carries a sensitive one as it is, by output name.

    Output names are unique, and the decision's own `query` gives exactly these names, so no column can be taken for
    another. Computed columns have no rule: where anonymisation is a duty, policy has refused them. Raises Broken if a
    decision contradicts that.
    """
    found: dict[str, Rule] = {}
    data_set_of = {use.table: use.data_set for use in decision.uses}
    for output in decision.outputs:
        on_it = {
            rule
            for table, column in output.sources
            if (rule := _rule(data_sets[data_set_of[table]], table, column)) is not None and output.plain
        }
        if len(on_it) > 1 or (on_it and output.name in found):
            raise Broken(f"column {output.name!r} of the result has more than one rule", where=decision.party)
        if on_it:
            found[output.name] = on_it.pop()
    return found


def _rule(data_set: DataSet, table: str, column: str) -> Rule | None:
    return data_set.tables[table].columns[column].rule
