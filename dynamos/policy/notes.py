"""Notes that a resolution takes on its way through a query: what is touched, and what has no meaning."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlglot import exp

from dynamos.kit.errors import BadInput
from dynamos.policy.lineage import Field, Origin
from dynamos.policy.queries import Position, Query
from dynamos.policy.schemas import Schema

WIDEST = 2000


@dataclass(frozen=True, slots=True)
class Issue:
    """Something in a query that has no meaning under a schema. `known` are the columns that could be meant."""

    code: str
    name: str
    message: str
    position: Position | None = None
    known: tuple[Field, ...] = ()


@dataclass(frozen=True, slots=True)
class Touch:
    """The first place where a query uses a column; `star` if it is there by a `*`."""

    position: Position | None
    star: bool


class Notes:
    """What was found out so far about one query under one schema."""

    def __init__(self, query: Query, schema: Schema) -> None:
        self.query = query
        self.schema = schema
        self.issues: list[Issue] = []
        self.touches: dict[Origin, Touch] = {}
        self.tables: dict[str, Position | None] = {}
        self.data_sets: dict[str, str] = {}
        self.collectors: list[set[Origin]] = []
        self.names = 0

    @contextmanager
    def collect(self) -> Iterator[set[Origin]]:
        """Collect every column that is touched inside."""
        touched: set[Origin] = set()
        self.collectors.append(touched)
        try:
            yield touched
        finally:
            self.collectors.pop()

    def touch(self, field: Field, position: Position | None, *, star: bool = False) -> None:
        """Note that the query uses what `field` comes from."""
        for origin in field.sources:
            self.touches.setdefault(origin, Touch(position, star))
        for collector in self.collectors:
            collector.update(field.sources)

    def issue(self, code: str, name: str, message: str, position: Position | None, known: Iterable[Field] = ()) -> None:
        """Note that `name` has no meaning."""
        self.issues.append(Issue(code, name, message, position, tuple(known)))

    def position(self, node: exp.Expr | None) -> Position | None:
        """Give where `node` is in the query's text."""
        return self.query.position(node) if node is not None else None

    def bounded(self, width: int, node: exp.Expr | None) -> None:
        """Raise BadInput if so many columns are too many: stars over stars double them at every level."""
        if width > WIDEST:
            line, column = self.position(node) or (1, 1)
            message = f"the query has more than {WIDEST} columns"
            raise BadInput(message, where=f"query:{line}:{column}", code="sql", position=[line, column])

    def fresh(self, name: str) -> str:
        """Give a name that no table of the schema has."""
        while True:
            self.names += 1
            candidate = f"{name}#{self.names}"
            if not self.schema.find(candidate):
                return candidate
