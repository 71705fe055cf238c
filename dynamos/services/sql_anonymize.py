"""`sql-anonymize`: change or drop the columns that a data set's rules call sensitive."""

from __future__ import annotations

from pydantic import Field

from dynamos.kit.errors import BadInput, Mistake, Mistakes
from dynamos.kit.words import suggest
from dynamos.model.datasets import Rule
from dynamos.model.values import Value
from dynamos.services import anonymisers
from dynamos.services.kit import Stream, Task, service


class ColumnRule(Rule):
    """How one column of the query's result is anonymised. `key` stands in for the party's key, for this column."""

    key: str | None = Field(default=None, repr=False)


class AnonymizeOptions(Value):
    """Rules by column of the query's result."""

    rules: dict[str, ColumnRule] = Field(
        description="column -> {method: truncate, mask, hash, generalise or drop; size; key}"
    )
    key: str = Field(default="", repr=False, description="the party's secret for hash")


@service(
    "sql-anonymize",
    label="dataProvider",
    options=AnonymizeOptions,
    allowed_outputs=("sql-aggregate", "sql-algorithm"),
)
def sql_anonymize(rows: Stream, options: AnonymizeOptions, _task: Task) -> Stream:
    """Anonymise sensitive columns: truncate, mask, hash, generalise or drop them."""
    changes = _by_column(rows.schema.names, options)
    steps = {
        column: anonymisers.step(
            column, rule, key=(rule.key or options.key).encode(), kind=rows.schema.field(column).type
        )
        for column, rule in changes.items()
    }
    return rows.map(lambda batch: anonymisers.apply(batch, steps))


def _by_column(columns: list[str], options: AnonymizeOptions) -> dict[str, ColumnRule]:
    """Give the rule of each column, in any letter case. Raises Mistakes for rules of columns that are not there."""
    if len(set(columns)) != len(columns):
        raise BadInput("the rows have two columns of one name", hint="give each column a name of its own with AS")
    lower = {column.lower(): rule for column, rule in options.rules.items()}
    present = {column.lower() for column in columns}
    mistakes = [
        Mistake(f"rules.{column}", "the rows have no such column", suggest(column, columns))
        for column in options.rules
        if column.lower() not in present
    ]
    if mistakes:
        raise Mistakes(mistakes, subject="the anonymisation")
    return {column: lower[column.lower()] for column in columns if column.lower() in lower}
