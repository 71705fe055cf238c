"""Scopes: the names that one SELECT can see, from its FROM clause outwards."""

from __future__ import annotations

from dataclasses import dataclass, field

from dynamos.policy.lineage import Field


@dataclass(slots=True, eq=False)
class Source:
    """Something in a FROM clause, under the alias that it runs under.

    `fields` is None if it is unknown: then nothing in it is missing. `merged` holds the columns, in lower case, that
    USING or NATURAL joined with another source's. `own` holds the table's own names of columns that an alias like
    `AS t(a, b)` renamed: that depends on the order of columns, and a party shows a query only those that it uses.
    """

    alias: str
    fields: dict[str, Field] | None
    merged: set[str] = field(default_factory=set)
    own: dict[str, str] = field(default_factory=dict)

    def written(self, column: Field) -> str:
        """Give the name by which the query that runs calls a column."""
        return self.own.get(column.name.lower(), column.name)

    def find(self, name: str) -> Field | None:
        return None if self.fields is None else self.fields.get(name.lower())


@dataclass(frozen=True, slots=True)
class Found:
    """A column that a name means. Without `source` it is a merged column or an alias of the SELECT list."""

    field: Field
    source: Source | None = None


class Ambiguous(Exception):
    """A name means columns of several sources."""

    def __init__(self, sources: list[Source]) -> None:
        super().__init__()
        self.aliases = [source.alias for source in sources] or ["several places"]


@dataclass(slots=True)
class Scope:
    """The sources of one SELECT, its merged columns, and the names that its SELECT list gives."""

    outer: Scope | None = None
    sources: dict[str, Source] = field(default_factory=dict)
    merged: dict[str, Field] = field(default_factory=dict)
    aliases: dict[str, Field] = field(default_factory=dict)

    def source(self, alias: str) -> Source | None:
        """Find a source here or further out."""
        found = self.sources.get(alias.lower())
        return found or (self.outer.source(alias) if self.outer else None)

    def column(self, name: str, *, inner: bool = True) -> Found | None:
        """Find what a bare name means: a column here, an alias here, then a column further out.

        Raises Ambiguous where columns of several sources have the name, or an alias here and a column further out:
        readers of SQL do not agree on which of these goes first.
        """
        key = name.lower()
        holders = [source for source in self.sources.values() if source.find(key) and key not in source.merged]
        if key in self.merged and not holders:
            return Found(self.merged[key])
        if len(holders) > 1 or (holders and key in self.merged):
            raise Ambiguous(holders)
        if holders:
            found = holders[0].find(key)
            assert found is not None
            return Found(found, holders[0])
        outside = self.outer.column(name, inner=False) if self.outer else None
        if inner and key in self.aliases:
            if outside:
                raise Ambiguous([outside.source] if outside.source else [])
            return Found(self.aliases[key])
        return outside

    @property
    def uncertain(self) -> bool:
        """Whether some source is unknown, here or further out."""
        here = any(source.fields is None for source in self.sources.values())
        return here or bool(self.outer and self.outer.uncertain)

    def known(self) -> tuple[Field, ...]:
        """Give every column that a name could mean."""
        here = [found for source in self.sources.values() for found in (source.fields or {}).values()]
        return (*here, *(self.outer.known() if self.outer else ()))
