"""Queries: one SELECT that reads tables and does nothing else, understood before anybody runs it.

The grammar is an allow-list. Whatever is not in it is refused with its place in the text, so nothing gets through
because somebody forgot it: statements that write or attach, parameters, table functions, files, settings, sequences.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NoReturn

import sqlglot
from sqlglot import Token, TokenType, exp
from sqlglot.errors import ParseError, SqlglotError, TokenError

from dynamos.kit.errors import BadInput
from dynamos.kit.words import suggest
from dynamos.policy.functions import FUNCTIONS, function_name, is_pure

DIALECT = "duckdb"
LONGEST = 65_536
DEEPEST = 48

Position = tuple[int, int]
"""Line and column in the query's text, both from 1."""

_STATEMENTS = frozenset({"select", "with", "from", "values", "table", "("})

_SHAPES: frozenset[type[exp.Expr]] = frozenset({
    exp.Alias, exp.All, exp.Any, exp.AtTimeZone, exp.Between, exp.Boolean, exp.Bracket, exp.CTE, exp.Column,
    exp.ColumnDef, exp.Cube, exp.DataType, exp.DataTypeParam, exp.Distinct, exp.Dot, exp.Except, exp.Filter, exp.From,
    exp.Group, exp.GroupingSets, exp.Having, exp.Identifier, exp.IgnoreNulls, exp.In, exp.Intersect, exp.Interval,
    exp.JSONPath, exp.JSONPathKey, exp.JSONPathRoot, exp.JSONPathSubscript, exp.JSONPathWildcard, exp.Join, exp.Lambda,
    exp.Lateral, exp.Limit, exp.LimitOptions, exp.Literal, exp.Neg, exp.Not, exp.Null, exp.Offset, exp.Order,
    exp.Ordered, exp.Paren, exp.PropertyEQ, exp.Qualify, exp.RawString, exp.RespectNulls, exp.Rollup, exp.Select,
    exp.Slice, exp.Star, exp.Struct, exp.Subquery, exp.Table, exp.TableAlias, exp.TableSample, exp.Tuple, exp.Union,
    exp.Values, exp.Var, exp.Where, exp.Window, exp.WindowSpec, exp.With, exp.WithinGroup,
})  # fmt: skip

_OPERATORS: frozenset[type[exp.Expr]] = frozenset({
    exp.Add, exp.BitwiseAnd, exp.BitwiseLeftShift, exp.BitwiseNot, exp.BitwiseOr, exp.BitwiseRightShift,
    exp.BitwiseXor, exp.DPipe, exp.Div, exp.EQ, exp.Escape, exp.GT, exp.GTE, exp.Glob, exp.ILike, exp.IntDiv, exp.Is,
    exp.LT, exp.LTE, exp.Like, exp.Mod, exp.Mul, exp.NEQ, exp.NullSafeEQ, exp.NullSafeNEQ, exp.SimilarTo, exp.Sub,
})  # fmt: skip

_INSTEAD: dict[type[exp.Expr], str] = {
    exp.Aliases: "give one name",
    exp.ByteString: "write the text in plain quotes: '...'",
    exp.Columns: "name the columns",
    exp.Comprehension: "use list_transform and list_filter",
    exp.Into: "a query only reads",
    exp.Parameter: "write the value into the query",
    exp.Pivot: "use sum(...) FILTER (WHERE ...) and GROUP BY",
    exp.Placeholder: "write the value into the query",
    exp.PositionalColumn: "name the column",
    exp.Unnest: "use unnest(...) in the SELECT list",
}

_UNITS = frozenset({
    "CENTURY", "DAY", "DAYOFWEEK", "DAYOFYEAR", "DECADE", "DOW", "DOY", "EPOCH", "ERA", "HOUR", "ISODOW", "ISOYEAR",
    "JULIAN", "MICROSECOND", "MILLENNIUM", "MILLISECOND", "MINUTE", "MONTH", "NANOSECOND", "QUARTER", "SECOND",
    "TIMEZONE", "TIMEZONE_HOUR", "TIMEZONE_MINUTE", "WEEK", "WEEKDAY", "YEAR", "YEARWEEK",
})  # fmt: skip
_HOMES_OF_UNITS = frozenset(
    {exp.Interval, exp.Extract, exp.DateAdd, exp.DateSub, exp.DateDiff, exp.TimestampTrunc, exp.DateTrunc}
)
_WORDS: dict[type[exp.Expr], frozenset[str]] = {
    exp.Ordered: frozenset({"ALL"}),
    exp.TableSample: frozenset({"SYSTEM", "BERNOULLI", "RESERVOIR"}),
    exp.Collate: frozenset({"NOCASE", "NOACCENT", "NFC"}),
}
_HOMES_OF_NAMES = frozenset(
    {exp.Column, exp.ColumnDef, exp.Table, exp.TableAlias, exp.Alias, exp.Join, exp.PropertyEQ, exp.Lambda, exp.Window}
)


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """A query that is allowed to be asked: its text and its syntax tree, which nobody changes."""

    text: str
    tree: exp.Expr

    def position(self, node: exp.Expr) -> Position | None:
        """Give where `node` begins, as near as the first name in it or around it tells."""
        offset = _start(node, -1)
        return None if offset < 0 else place(self.text, offset)


def place(text: str, offset: int) -> Position:
    """Give line and column of the character at `offset`."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def analyse(sql: str) -> Query:
    """Read a query. Texts that were read before are free.

    Raises BadInput (code "sql", where "query:LINE:COLUMN", fact `position`) for what does not parse and for everything
    that a query may not do.
    """
    return _analyse(sql)


def read(sql: str) -> Query:
    """Read a query as `analyse` does, and remember nothing."""
    tokens = _tokens(sql)
    if tokens[0].text.lower() not in _STATEMENTS:
        _refuse(sql, tokens[0].start, f"a query begins with SELECT, not with {tokens[0].text!r}", "a query only reads")
    tree = _parse(sql)
    for node in tree.walk():
        _check(sql, tokens, node)
    return Query(sql, tree)


_analyse = lru_cache(maxsize=2048)(read)


def _tokens(sql: str) -> list[Token]:
    if len(sql) > LONGEST:
        _refuse(sql, 0, f"the query is longer than {LONGEST} characters")
    try:
        tokens = sqlglot.tokenize(sql, read=DIALECT)
    except TokenError as error:
        message = f"the query cannot be read: {error}; is a quote or a comment left open?"
        raise BadInput(message, where="query:1:1", code="sql", position=[1, 1]) from None
    if not tokens:
        _refuse(sql, 0, "the query is empty")
    if max(_depths(tokens)) > DEEPEST:
        _refuse(sql, 0, f"the query is nested deeper than {DEEPEST} levels")
    for token, following in pairwise(tokens):
        if token.token_type == TokenType.SEMICOLON and following.token_type != TokenType.SEMICOLON:
            _refuse(sql, following.start, "there is more than one statement", "ask one query at a time")
    return tokens


def _depths(tokens: list[Token]) -> Iterator[int]:
    depth = 0
    for token in tokens:
        depth += token.text in ("(", "[", "{")
        depth -= token.text in (")", "]", "}")
        yield depth


def _parse(sql: str) -> exp.Expr:
    try:
        statements = [tree for tree in sqlglot.parse(sql, read=DIALECT) if tree is not None]
    except ParseError as error:
        first = error.errors[0] if error.errors else {}
        line, column = int(first.get("line") or 1), int(first.get("col") or 1)
        found = str(first.get("description") or error)
        message = f"the query does not parse: {'something is missing here' if '<class' in found else found}"
        raise BadInput(message, where=f"query:{line}:{column}", code="sql", position=[line, column]) from None
    except RecursionError:
        _refuse(sql, 0, "the query is nested too deeply")
    except (SqlglotError, ValueError, TypeError, AttributeError, LookupError):
        # The parser is another project's and the text a stranger's: what it trips over is not a query.
        _refuse(sql, 0, "the query does not parse")
    tree = statements[0]
    if not isinstance(tree, exp.Query | exp.Values):
        _refuse(sql, 0, f"a query is a SELECT, not a {type(tree).__name__.upper()}", "a query only reads")
    return tree


def _check(sql: str, tokens: list[Token], node: exp.Expr) -> None:
    """Refuse `node` if a query may not contain it."""
    kind = type(node)
    if isinstance(node, exp.Func) and kind not in _INSTEAD and not is_pure(node):
        _refuse_function(sql, tokens, node)
    known = kind in _SHAPES or kind in _OPERATORS or isinstance(node, exp.Func)
    if kind in _INSTEAD or not known:
        words = "".join(f" {letter}" if letter.isupper() else letter for letter in kind.__name__).strip()
        _refuse(sql, _start(node), f"a query may not contain: {words.lower()}", _INSTEAD.get(kind, ""))
    if kind is exp.Var:
        _check_word(sql, node)
    elif kind is exp.Identifier:
        _check_name(sql, node)
    elif kind is exp.Table and not isinstance(node.this, exp.Identifier):
        hint = "name a table of the provider's data set" if node.this else ""
        _refuse(sql, _start(node), "a query may not read from a function", hint)
    elif kind is exp.DataType and node.this == exp.DType.USERDEFINED:
        _refuse(sql, _start(node), f"there is no type {str(node.args.get('kind'))!r}")
    elif kind is exp.With and node.args.get("recursive"):
        _refuse(sql, _start(node), "a query may not be recursive", "leave out RECURSIVE")
    elif kind is exp.Lateral and not isinstance(node.this, exp.Subquery):
        _refuse(sql, _start(node), "LATERAL takes a subquery", _INSTEAD[exp.Unnest])
    elif kind is exp.Dot and not isinstance(node.expression, exp.Identifier):
        _refuse(sql, _start(node), "a function is called as name(value), not as value.name()")


def _check_word(sql: str, node: exp.Expr) -> None:
    """A bare word is a unit of time or one of few keywords; elsewhere it could be a column in disguise."""
    home = type(node.parent) if node.parent else exp.Expr
    word = node.name.upper()
    known = _UNITS | {f"{unit}S" for unit in _UNITS} if home in _HOMES_OF_UNITS else _WORDS.get(home, frozenset())
    if word not in known:
        _refuse(sql, _start(node), f"{node.name!r} cannot stand here")


def _check_name(sql: str, node: exp.Expr) -> None:
    parent = node.parent
    if isinstance(parent, exp.Table) and sql[_start(node) : _start(node) + 1] == "'":
        _refuse(sql, _start(node), "a query may not read files", "name a table of the provider's data set")
    if type(parent) in _HOMES_OF_NAMES or (isinstance(parent, exp.Dot) and node.arg_key == "expression"):
        return
    function = node.find_ancestor(exp.Lambda)
    parameters = set()
    while function is not None:
        parameters |= {parameter.name.lower() for parameter in function.expressions}
        function = function.find_ancestor(exp.Lambda)
    if node.name.lower() not in parameters:
        _refuse(sql, _start(node), f"{node.name!r} cannot stand here")


def _refuse_function(sql: str, tokens: list[Token], node: exp.Func) -> NoReturn:
    name = function_name(node)
    near = suggest(name, FUNCTIONS)
    offset = next(
        (
            token.start
            for token, following in pairwise(tokens)
            if following.token_type == TokenType.L_PAREN
            and token.text.lower().replace("_", "") == name.replace("_", "")
        ),
        _start(node),
    )
    hint = near or "only functions that compute from their arguments are allowed"
    _refuse(sql, offset, f"a query may not call the function {name!r}", hint)


def _start(node: exp.Expr, otherwise: int = 0) -> int:
    """Give the offset of the first name in `node`, or else in what is around it."""
    here: exp.Expr | None = node
    while here is not None:
        offsets = [int(inner.meta["start"]) for inner in here.walk() if "start" in inner.meta]
        if offsets:
            return min(offsets)
        here = here.parent
    return otherwise


def _refuse(sql: str, offset: int, message: str, hint: str = "") -> NoReturn:
    line, column = place(sql, offset)
    raise BadInput(message, where=f"query:{line}:{column}", hint=hint, code="sql", position=[line, column])
