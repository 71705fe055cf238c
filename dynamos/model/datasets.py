"""Data sets: tables, columns, what is sensitive in them; and where a party keeps them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, GetJsonSchemaHandler, field_validator, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from dynamos.model.values import Name, Value

Method = Literal["truncate", "mask", "hash", "generalise", "drop"]


class Rule(Value):
    """How one sensitive column is anonymised.

    `size` is how many characters to keep (truncate: the first; mask: the last, or the first where it is below 0; none:
    all are hidden), or the width of a bin (generalise: of numbers, or in years; none: dates become their year).
    """

    method: Method
    size: int | None = Field(default=None, ge=-(10**9), le=10**9)

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        """Accept "truncate:4" for {method: truncate, size: 4}."""
        if isinstance(value, str):
            method, colon, size = value.partition(":")
            return {"method": method, "size": size} if colon else {"method": method}
        return value

    @model_validator(mode="after")
    def _fits(self) -> Rule:
        if self.size is None and self.method == "truncate":
            raise ValueError("truncate needs a size: how many characters to keep, like truncate:4")
        if self.size is not None and self.method in ("hash", "drop"):
            raise ValueError(f"{self.method} takes no size")
        if self.size is not None and self.size < 1 and self.method in ("truncate", "generalise"):
            raise ValueError(f"{self.method} needs a size from 1 on")
        return self


class Column(Value):
    """One column: its SQL type, and the rule that anonymises it (none: not sensitive)."""

    type: str = ""
    rule: Rule | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        """Accept "BIGINT" for {type: BIGINT}."""
        return {"type": value} if isinstance(value, str) else value


class Table(Value):
    """Columns by name. Empty in a file: the party's agent reads them from the data."""

    columns: dict[str, Column] = Field(default_factory=dict)


class DataSet(Value):
    """Tables that belong together, and how their files are written."""

    name: Name
    type: Literal["csv", "parquet", "duckdb", "sqlite"] = "csv"
    delimiter: str = ","
    tables: dict[str, Table] = Field(default_factory=dict)
    description: str = ""

    @field_validator("tables", mode="before")
    @classmethod
    def _names_only(cls, value: Any) -> Any:
        """Accept a list of table names, as upstream's datasets.json has it."""
        return {name: {} for name in value} if isinstance(value, list) else value

    def rules(self) -> dict[str, dict[str, Rule]]:
        """Give the anonymisation rules as table -> column -> rule."""
        found = {
            name: {column: facts.rule for column, facts in table.columns.items() if facts.rule}
            for name, table in self.tables.items()
        }
        return {name: rules for name, rules in found.items() if rules}


class Source(Value):
    """Where one table of a data set lies at one party: a file, relative to the party's data folder."""

    path: str
    type: Literal["csv", "parquet", "duckdb", "sqlite"] | None = None
    delimiter: str | None = None
    table: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        """Accept "flights.parquet" for {path: flights.parquet}."""
        return {"path": value} if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"type": "string"}, handler(schema)]}
