"""Columns: what a name in a query means, written down in its place."""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp

from dynamos.policy.lineage import Field
from dynamos.policy.notes import Notes
from dynamos.policy.scopes import Ambiguous, Found, Scope, Source
from dynamos.policy.writing import column as written_column
from dynamos.policy.writing import identifier


class Columns(Notes):
    """The part of a resolution that deals with single columns and with lists of them."""

    def column(self, node: exp.Column, scope: Scope) -> Field | None:
        """Find what a column means, write that down in its place, and give it. Members of a struct are not plain."""
        names = [part.name for part in node.parts]
        position = self.position(node)
        try:
            found, members = self._meaning(names, scope)
        except Ambiguous as error:
            message = f"column {names[-1]!r} is in {' and '.join(error.aliases)}; write which"
            self.issue("sql", names[-1], message, position)
            return None
        if found is None:
            source = scope.source(names[0]) if len(names) > 1 else None
            if not (source.fields is None if source else scope.uncertain):
                name = ".".join(names)
                self.issue("column", name, f"there is no column {name!r}", position, scope.known())
            return None
        self.touch(found.field, position)
        written: exp.Expr = _written(found.field, found.source)
        for member in members:
            written = exp.Dot(this=written, expression=identifier(member))
        node.replace(written)
        return Field(members[-1], found.field.sources) if members else found.field

    def listed(self, sources: list[Source], scope: Scope, *, merge: bool) -> Iterator[tuple[exp.Column, Field]]:
        """Give every column of some sources; with `merge`, those that USING joined once."""
        seen: set[str] = set()
        for source in sources:
            self.bounded(len(source.fields or ()), None)
            for key, field in (source.fields or {}).items():
                merged = merge and key in source.merged
                if not merged:
                    yield _written(field, source), field
                elif key not in seen:
                    yield _written(scope.merged[key], None), scope.merged[key]
                seen.add(key)

    def _meaning(self, names: list[str], scope: Scope) -> tuple[Found | None, list[str]]:
        """Find the column that a dotted name means, and the members of a struct that follow it."""
        for start in range(len(names) - 1):
            qualified = start == 0 or (start == 1 and self._is_data_set(names[0]))
            source = scope.source(names[start]) if qualified else None
            if source is not None:
                field = source.find(names[start + 1])
                return (Found(field, source) if field else None), names[start + 2 :]
        return scope.column(names[0]), names[1:]

    def _is_data_set(self, name: str) -> bool:
        return any(name.lower() == data_set.lower() for data_set in self.data_sets.values())


def _written(field: Field, source: Source | None) -> exp.Column:
    return written_column(source.written(field), source.alias) if source else written_column(field.name, None)
