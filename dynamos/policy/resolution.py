"""Resolution: what a query uses of a schema, what its result comes from, and the same query without guesswork.

The restated query has every star written out, every column qualified, every result column named, every common table
expression under a name of its own. It is what a party runs: DuckDB has nothing left to interpret in another way than
it was interpreted here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from sqlglot import exp
from sqlglot.errors import ErrorLevel, SqlglotError

from dynamos.kit.errors import BadInput
from dynamos.model.decisions import Use
from dynamos.policy.columns import Columns
from dynamos.policy.lineage import Field, Origin, unique
from dynamos.policy.notes import Issue, Touch
from dynamos.policy.queries import DIALECT, Position, Query, read
from dynamos.policy.schemas import Schema
from dynamos.policy.scopes import Scope, Source
from dynamos.policy.writing import alias_of, identifier, is_bracket, is_read, mark_read, named, spelled

_Ctes = Mapping[str, tuple[str, list[Field] | None]]
"""Common table expressions by name in lower case: the name that they get, and their columns."""


@dataclass(frozen=True, slots=True, eq=False)
class Resolved:
    """A query under a schema. With issues, `sql` is empty and the rest is what could be understood."""

    sql: str
    outputs: tuple[Field, ...]
    uses: tuple[Use, ...]
    touches: Mapping[Origin, Touch]
    tables: Mapping[str, Position | None]
    issues: tuple[Issue, ...]


@lru_cache(maxsize=4096)
def resolve(query: Query, schema: Schema) -> Resolved:
    """Resolve a query under a schema; the same pair is free the next time.

    Raises BadInput for a query that is too deep or too wide.
    """
    resolution = _Resolution(query, schema)
    try:
        return resolution.run()
    except RecursionError:
        raise BadInput("the query is nested too deeply", where="query:1:1", code="sql", position=[1, 1]) from None


class _Resolution(Columns):
    """One walk over a copy of the query's tree, which it rewrites in place."""

    def __init__(self, query: Query, schema: Schema) -> None:
        super().__init__(query, schema)
        self.tree = query.tree.copy()

    def run(self) -> Resolved:
        fields = self.columns_of(self.tree, None, {})
        self._complete()
        return Resolved(
            sql="" if self.issues else self._restated(),
            outputs=tuple(fields or ()),
            uses=tuple(self._uses()),
            touches=self.touches,
            tables=self.tables,
            issues=tuple(self.issues),
        )

    def _complete(self) -> None:
        """Make sure that no table and no column was passed over: what was not understood is not permitted."""
        for node in self.tree.walk():
            if isinstance(node, exp.Table | exp.Column) and not is_read(node) and not self.issues:
                self.issue("sql", node.name, f"{node.name!r} stands where it is not understood", self.position(node))

    def _restated(self) -> str:
        """Write the tree down, and make sure that it reads back as the same."""
        try:
            sql: str = self.tree.sql(DIALECT, comments=False, identify=True, unsupported_level=ErrorLevel.RAISE)
            again = read(sql).tree.sql(DIALECT, comments=False, identify=True)
        except (SqlglotError, BadInput):
            sql, again = "", "unsupported"
        if sql != again:
            self.issue("sql", "", "the query uses syntax that cannot be restated for the providers", None)
        return sql if sql == again else ""

    def _uses(self) -> Iterator[Use]:
        for table in self.tables:
            facts = self.schema.find(table, self.data_sets[table])[0]
            used = tuple(column for column in facts.columns.values() if (table, column) in self.touches)
            yield Use(data_set=facts.data_set, table=table, columns=used)

    # Queries

    def columns_of(self, node: exp.Expr, outer: Scope | None, ctes: _Ctes) -> list[Field] | None:
        """Resolve a query and give its columns, or None where they cannot be known."""
        ctes = self._with(node, outer, ctes)
        if isinstance(node, exp.Select):
            return self._select(node, Scope(outer), ctes)
        if isinstance(node, exp.Values):
            return self._values(node, Scope(outer), ctes)
        if isinstance(node, exp.SetOperation):
            fields = self._set_operation(node, outer, ctes)
        elif isinstance(node, exp.Subquery) and not isinstance(node.this, exp.Table):
            fields = self.columns_of(node.this, outer, ctes)
        else:
            self.issue("sql", "", "a query is a SELECT", self.position(node))
            return None
        names = Scope(outer, aliases={field.name.lower(): field for field in fields or ()})
        if fields is None:
            names.sources["?"] = Source("?", None)
        self._tail(node, names, ctes)
        return fields

    def _with(self, node: exp.Expr, outer: Scope | None, ctes: _Ctes) -> _Ctes:
        clause = node.args.get("with_")
        seen = dict(ctes)
        for cte in clause.expressions if clause else ():
            fields = self._renamed(cte, self.columns_of(cte.this, outer, seen))
            name = self.fresh(cte.alias)
            seen[cte.alias.lower()] = (name, fields)
            cte.set("alias", alias_of(name, fields if cte.alias_column_names else None))
        return seen

    def _select(self, node: exp.Select, scope: Scope, ctes: _Ctes) -> list[Field] | None:
        if node.args.get("from_"):
            self._item(node.args["from_"].this, scope, ctes)
        for join in node.args.get("joins") or ():
            self._join(join, scope, ctes)
        columns: list[tuple[exp.Expr, Field]] = []
        for projection in node.expressions:
            for expression, field in self._projection(projection, scope, ctes):
                columns.append((expression, field))
                scope.aliases.setdefault(field.name.lower(), field)
        self.bounded(len(columns), node)
        names = unique(field.name for _, field in columns)
        node.set("expressions", [named(expression, name) for (expression, _), name in zip(columns, names, strict=True)])
        fields = [field.named(name) for (_, field), name in zip(columns, names, strict=True)]
        for clause in ("distinct", "where", "group", "having", "qualify", "sample"):
            self._expression(node.args.get(clause), scope, ctes)
        for window in node.args.get("windows") or ():
            self._expression(window, scope, ctes)
        scope.aliases.update({field.name.lower(): field for field in reversed(fields)})
        self._tail(node, scope, ctes)
        if not node.expressions and not scope.uncertain:
            self.issue("sql", "", "the query selects nothing", self.position(node))
        return None if any(source.fields is None for source in scope.sources.values()) else fields

    def _tail(self, node: exp.Expr, scope: Scope, ctes: _Ctes) -> None:
        """Resolve ORDER BY, where a bare name means a column of the result first, and LIMIT."""
        order = node.args.get("order")
        for ordered in order.expressions if order else ():
            key = ordered.this
            if isinstance(key, exp.Column) and not key.table and key.name.lower() in scope.aliases:
                key.set("this", identifier(scope.aliases[key.name.lower()].name))
                mark_read(key)
            else:
                self._expression(ordered, scope, ctes)
        for clause in ("limit", "offset"):
            self._expression(node.args.get(clause), scope, ctes)

    def _values(self, node: exp.Values, scope: Scope, ctes: _Ctes) -> list[Field]:
        width = len(node.expressions[0].expressions) if node.expressions else 0
        with self.collect() as touched:
            for row in node.expressions:
                self._expression(row, scope, ctes)
        return [Field(f"col{index}", frozenset(touched)) for index in range(width)]

    def _set_operation(self, node: exp.SetOperation, outer: Scope | None, ctes: _Ctes) -> list[Field] | None:
        left, right = self.columns_of(node.left, outer, ctes), self.columns_of(node.right, outer, ctes)
        if left is None or right is None:
            return None
        if not isinstance(node, exp.Union):
            return left
        if node.args.get("by_name"):
            found = {field.name.lower(): field for field in left}
            for field in right:
                key = field.name.lower()
                found[key] = found[key].merged(field) if key in found else field
            return list(found.values())
        if len(left) != len(right):
            message = f"both sides of a UNION need as many columns: {len(left)} and {len(right)}"
            self.issue("sql", "", message, self.position(node.right))
            return None
        return [one.merged(other) for one, other in zip(left, right, strict=True)]

    # What a FROM clause holds

    def _item(self, node: exp.Expr, scope: Scope, ctes: _Ctes) -> list[Source]:
        """Bring what stands in a FROM clause into the scope, with what is joined to it, and give what came in."""
        if isinstance(node, exp.Subquery) and is_bracket(node):
            if node.alias:
                self.issue("sql", node.alias, "a name for a join in brackets is not supported", self.position(node))
            entered = self._item(node.this, scope, ctes)
        elif isinstance(node, exp.Table):
            entered = [self._enter(node, self._table(node, ctes), scope)]
        elif isinstance(node, exp.Lateral | exp.Subquery):
            inner = node.this.this if isinstance(node, exp.Lateral) else node.this
            entered = [self._enter(node, self.columns_of(inner, scope, ctes), scope)]
        elif isinstance(node, exp.Values):
            entered = [self._enter(node, self._values(node, scope, ctes), scope)]
        else:
            self.issue("sql", "", "a query reads tables and subqueries only", self.position(node))
            return []
        for join in node.args.get("joins") or ():
            entered += self._join(join, scope, ctes)
        return entered

    def _enter(self, node: exp.Expr, fields: list[Field] | None, scope: Scope) -> Source:
        """Put what a FROM clause names into the scope, under its alias.

        An alias that hides one further out runs under another name, so that no column can be taken for its namesake.
        """
        alias = node.alias or (node.name if isinstance(node, exp.Table) else "") or self.fresh("")
        if alias.lower() in scope.sources:
            self.issue("sql", alias, f"two tables are called {alias!r}; name them apart with AS", self.position(node))
        hides = scope.outer is not None and scope.outer.source(alias) is not None
        written = self.fresh(alias) if hides else alias
        names = [field.name for field in fields or ()]
        fields = self._renamed(node, fields)
        source = Source(written, None if fields is None else {field.name.lower(): field for field in fields})
        if isinstance(node, exp.Table):
            # From here on the node has the name under which it is run.
            self._rename_table(node)
            source.own = {field.name.lower(): name for field, name in zip(fields or (), names, strict=False)}
            node.set("alias", alias_of(written))
        else:
            node.set("alias", alias_of(written, fields if node.alias_column_names else None))
        scope.sources[alias.lower()] = source
        return source

    def _table(self, node: exp.Table, ctes: _Ctes) -> list[Field] | None:
        name, data_set = node.name, node.db
        position = self.position(node)
        if not data_set and name.lower() in ctes:
            node.meta["runs as"], fields = ctes[name.lower()]
            return fields
        found = () if node.catalog else self.schema.find(name, data_set)
        full = ".".join(part for part in (node.catalog, data_set, name) if part)
        if not found:
            self.issue("table", full, f"there is no table {full!r}", position)
            return None
        facts = found[0]
        if len(found) > 1 or self.data_sets.setdefault(facts.name, facts.data_set) != facts.data_set:
            several = " and ".join(repr(one.data_set) for one in self.schema.find(name))
            self.issue("table", full, f"table {name!r} is in the data sets {several}; name one of them, once", position)
            return None
        self.tables.setdefault(facts.name, position)
        node.meta["runs as"] = facts.name
        return [Field(column, frozenset({(facts.name, column)}), plain=True) for column in facts.columns.values()]

    @staticmethod
    def _rename_table(node: exp.Table) -> None:
        node.set("this", identifier(node.meta.pop("runs as", node.name)))
        node.set("db", None)
        mark_read(node)

    def _renamed(self, node: exp.Expr, fields: list[Field] | None) -> list[Field] | None:
        """Give the fields under the names in an alias's list of columns: `AS t(a, b)`."""
        names = node.alias_column_names
        if fields is None or not names:
            return fields
        if len(names) > len(fields):
            self.issue("sql", node.alias, f"{node.alias!r} has {len(fields)} columns", self.position(node))
            return None
        names += [field.name for field in fields[len(names) :]]
        return [field.named(name) for field, name in zip(fields, unique(names), strict=True)]

    def _join(self, join: exp.Join, scope: Scope, ctes: _Ctes) -> list[Source]:
        before = list(scope.sources.values())
        entered = self._item(join.this, scope, ctes)
        apart = str(join.args.get("kind") or "").upper() in ("SEMI", "ANTI")
        using = list(join.args.get("using") or ())
        if str(join.args.get("method") or "").upper() == "NATURAL":
            using = self._common(before, entered, join)
            join.set("method", None)
        joined = [found for name in using if (found := self._using(name, before, entered, scope, apart=apart))]
        if joined:
            join.set("using", [identifier(name) for name in joined])
        self._expression(join.args.get("on"), scope, ctes)
        if apart:
            scope.sources = {alias: source for alias, source in scope.sources.items() if source not in entered}
        return [] if apart else entered

    def _common(self, before: list[Source], entered: list[Source], join: exp.Join) -> list[exp.Identifier]:
        """Give the names that both sides of a NATURAL JOIN have."""
        right = {key for source in entered for key in source.fields or ()}
        names = [field for source in before for key, field in (source.fields or {}).items() if key in right]
        certain = all(source.fields is not None for source in before + entered)
        if not names and certain:
            self.issue("sql", "", "the two sides of a NATURAL JOIN share no column", self.position(join))
        return [identifier(name) for name in dict.fromkeys(field.name for field in names)]

    def _using(
        self, name: exp.Identifier, before: list[Source], entered: list[Source], scope: Scope, *, apart: bool
    ) -> str | None:
        key = name.name.lower()
        left = [source for source in before if source.find(key)]
        right = [source for source in entered if source.find(key)]
        position = self.position(name)
        if not left or not right or (len(left) > 1 and key not in scope.merged):
            if all(source.fields is not None for source in before + entered):
                known = scope.known()
                self.issue("column", name.name, f"both sides need one column {name.name!r} for USING", position, known)
            return None
        fields = [field for source in left + right if (field := source.find(key))]
        if any(source.own.get(key, key).lower() != key for source in left + right):
            message = f"{name.name!r} is renamed by an alias; rename it in a subquery, or join with ON"
            self.issue("sql", name.name, message, position)
            return None
        merged = scope.merged.get(key, fields[0])
        for field in fields:
            self.touch(field, position)
            merged = merged.merged(field)
        if not apart:
            scope.merged[key] = merged
            for source in left + right:
                source.merged.add(key)
        return merged.name

    # The SELECT list

    def _projection(self, node: exp.Expr, scope: Scope, ctes: _Ctes) -> Iterator[tuple[exp.Expr, Field]]:
        position = self.position(node)
        if isinstance(node, exp.Star):
            yield from self._star(node, "", scope, ctes)
        elif isinstance(node, exp.Column) and isinstance(node.this, exp.Star):
            yield from self._star(node.this, node.table, scope, ctes)
        elif isinstance(node, exp.Alias):
            field = self._value(node, node.this, scope, ctes)
            yield node, Field(node.alias, field.sources, field.plain, position)
        else:
            column = isinstance(node.unnest(), exp.Column)
            name = "" if column else spelled(node)
            holder = exp.Paren(this=node)
            field = self._value(holder, node, scope, ctes)
            yield holder.this, Field(name or field.name, field.sources, field.plain, position)

    def _value(self, holder: exp.Expr, node: exp.Expr, scope: Scope, ctes: _Ctes) -> Field:
        """Resolve an expression of the SELECT list, which hangs in `holder`."""
        bare = node.unnest()
        if isinstance(bare, exp.Column) and not isinstance(bare.this, exp.Star):
            return self.column(bare, scope) or Field(bare.name)
        with self.collect() as touched:
            self._expression(holder.this, scope, ctes)
        return Field("", frozenset(touched))

    def _star(self, star: exp.Star, table: str, scope: Scope, ctes: _Ctes) -> Iterator[tuple[exp.Expr, Field]]:
        """Write out `*` or `table.*` with its EXCLUDE, REPLACE and RENAME."""
        position = self.position(star) or self.position(star.parent)
        source = scope.source(table) if table else None
        if table and source is None:
            self.issue("table", table, f"there is no table {table!r} here", position)
            return
        sources = [source] if source else list(scope.sources.values())
        if not sources:
            self.issue("sql", "*", "'*' needs a FROM clause", position)
        columns = list(self.listed(sources, scope, merge=not table))
        left_out = {node.name.lower() for node in star.args.get("except_") or ()}
        replaced = {node.alias.lower(): node for node in star.args.get("replace") or ()}
        renamed = {node.this.name.lower(): node.alias for node in star.args.get("rename") or ()}
        if all(one.fields is not None for one in sources):
            known = {field.name.lower() for _, field in columns}
            for name in sorted((left_out | replaced.keys() | renamed.keys()) - known):
                self.issue("column", name, f"'*' has no column {name!r}", position, scope.known())
        for node, field in columns:
            key = field.name.lower()
            if key in replaced:
                yield from self._projection(replaced[key].copy(), scope, ctes)
            elif key not in left_out:
                self.touch(field, position, star=True)
                name = renamed.get(key, field.name)
                yield node, Field(name, field.sources, field.plain, position)

    # Expressions and columns

    def _expression(self, node: exp.Expr | None, scope: Scope, ctes: _Ctes) -> None:
        """Resolve every column in `node`, and every query inside it."""
        if node is None:
            return
        if isinstance(node, exp.Query | exp.Values):
            self.columns_of(node, scope, ctes)
        elif isinstance(node, exp.Column) and not isinstance(node.this, exp.Star):
            self.column(node, scope)
        elif isinstance(node, exp.Star | exp.Column):
            if not isinstance(node.parent, exp.Count) or isinstance(node, exp.Column) or any(node.args.values()):
                self.issue("sql", "*", "'*' stands alone or in count(*)", self.position(node))
        else:
            for child in list(node.iter_expressions()):
                self._expression(child, scope, ctes)
