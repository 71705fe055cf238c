"""Writing: pieces of the restated query."""

from __future__ import annotations

from collections.abc import Iterable

from sqlglot import exp

from dynamos.policy.lineage import Field
from dynamos.policy.queries import DIALECT

_READ = "read"


def mark_read(node: exp.Expr) -> None:
    """Note that a table or a column of the tree was understood, and says now what it means."""
    node.meta[_READ] = True


def is_read(node: exp.Expr) -> bool:
    return _READ in node.meta


def identifier(name: str) -> exp.Identifier:
    """Give a name that is taken as it is written."""
    return exp.Identifier(this=name, quoted=True)


def column(name: str, table: str | None) -> exp.Column:
    """Give a column that is understood; without a table it is one that USING merged, or an alias of the SELECT list."""
    found = exp.Column(this=identifier(name), table=identifier(table) if table else None)
    mark_read(found)
    return found


def alias_of(name: str, fields: Iterable[Field] | None = None) -> exp.TableAlias:
    """Give the alias of something in a FROM clause, with the names of its columns if they are given."""
    columns = [identifier(field.name) for field in fields] if fields else None
    return exp.TableAlias(this=identifier(name), columns=columns)


def named(expression: exp.Expr, name: str) -> exp.Expr:
    """Give an expression of the SELECT list under `name`."""
    if isinstance(expression, exp.Alias):
        expression.set("alias", identifier(name))
        return expression
    if isinstance(expression, exp.Column) and expression.name == name:
        return expression
    return exp.Alias(this=expression, alias=identifier(name))


def spelled(node: exp.Expr) -> str:
    """Give the name that DuckDB would give an expression, or one like it."""
    if isinstance(node, exp.Count) and isinstance(node.this, exp.Star):
        return "count_star()"
    text = node.sql(DIALECT, comments=False, normalize_functions="lower")
    return f"({text})" if isinstance(node, exp.Binary) and not isinstance(node, exp.Func | exp.Dot) else text


def is_bracket(node: exp.Subquery) -> bool:
    """Tell whether brackets hold something of a FROM clause rather than a query."""
    inner = node.this
    joined = isinstance(inner, exp.Subquery) and bool(inner.alias or inner.args.get("joins"))
    return isinstance(inner, exp.Table) or joined
