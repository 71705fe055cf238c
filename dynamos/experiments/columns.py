"""Columns: what each column of a run's tables holds, of which type, in which unit; and the dictionary that says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from dynamos.experiments.scripts import Experiment

WHOLE, NUMBER, TRUTH, TEXT = pa.int64(), pa.float64(), pa.bool_(), pa.string()
MOMENT = pa.timestamp("us", tz="UTC")

_BEGIN = 'In a CSV file an absent value is empty and an empty text is "".'


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    name: str
    type: pa.DataType
    title: str
    unit: str = ""

    @property
    def field(self) -> pa.Field:
        told = {"title": self.title} | ({"unit": self.unit} if self.unit else {})
        return pa.field(self.name, self.type, metadata=told)


TITLES: Final[Mapping[str, str]] = {
    "trials": "One row a trial, whatever became of it; warm-ups are marked",
    "requests": "One row a request that a trial made, with what came back",
    "stages": "One row a stage of a request, from its trace",
    "samples": "One row a raw reading behind a measure",
    "events": "One row a fault of a network, or an amendment of an agreement, that came over a trial",
    "usage": "One row a process of the testbed and trial, with what it used",
}
NAMES: Final = tuple(TITLES)

_HEAD = (
    Column("trial", WHOLE, "Place of the trial in the order of the plan"),
    Column("repetition", WHOLE, "Block of the design: each has every cell once"),
    Column("warmup", TRUTH, "Made to warm up: no figure may use it"),
    Column("baseline", TRUTH, "Of a cell that others are compared with"),
    Column("status", TEXT, "done, failed or skipped"),
)
_TAIL = (
    Column("reason", TEXT, "Why it failed or was skipped"),
    Column("code", TEXT, "The kind of that reason"),
    Column("seconds", NUMBER, "How long the trial took, whatever it measured", "s"),
    Column("began", MOMENT, "When it began, in UTC"),
    Column("testbed", TEXT, "The resolved profile that it ran on: profiles/TESTBED.yaml"),
)
_OF_TRIAL = (_HEAD[0], _HEAD[2])
_LONG: Final[Mapping[str, tuple[Column, ...]]] = {
    "requests": (
        *_OF_TRIAL,
        Column("request", WHOLE, "Place of the request among those of its trial, from 0"),
        Column("job", TEXT, "Name of its job"),
        Column("error", TEXT, "The kind of error where there is no whole answer"),
        Column("revision", TEXT, "Revision of the policy that decided"),
        Column("results", WHOLE, "Results that were read", "count"),
        Column("rows", WHOLE, "Rows of all results", "rows"),
        Column("bytes", WHOLE, "Size of all results as they arrived", "B"),
        Column("rows_digest", TEXT, "The same for the same rows, in whatever order they came"),
        Column("job_seconds", NUMBER, "From sending it until the job had ended", "s"),
        Column("first_batch", NUMBER, "From sending it until the first batch of a result", "s"),
        Column("seconds", NUMBER, "From sending it until all results were read", "s"),
    ),
    "stages": (
        *_OF_TRIAL,
        Column("request", WHOLE, "Place of the request among those of its trial, from 0"),
        Column("name", TEXT, "The stage, as the trace calls it"),
        Column("unit", TEXT, "The unit that did it"),
        Column("party", TEXT, "Whose unit that is"),
        Column("start", NUMBER, "From sending the request until the stage began", "s"),
        Column("seconds", NUMBER, "How long the stage took", "s"),
        Column("depth", WHOLE, "How many stages it lies within"),
    ),
    "samples": (
        *_OF_TRIAL,
        Column("measure", TEXT, "What the reading is of, as the script calls it"),
        Column("value", NUMBER, "The reading, in the unit of the measure where it is one's name"),
    ),
    "events": (
        *_OF_TRIAL,
        Column("what", TEXT, "The fault's action, or what became of the agreement"),
        Column("on", TEXT, "The link, site or party that it was done to"),
        Column("planned", NUMBER, "When it was due, from when the trial said so", "s"),
        Column("began", NUMBER, "When it began", "s"),
        Column("done", NUMBER, "When it was done", "s"),
        Column("error", TEXT, "What went wrong with it"),
    ),
    "usage": (
        *_OF_TRIAL,
        Column("process", TEXT, "The process"),
        Column("party", TEXT, "Whose process it is"),
        Column("cpu", NUMBER, "Processor time during the trial", "s"),
        Column("peak", WHOLE, "Most memory that it ever had until then", "B"),
    ),
}


def of(experiment: Experiment) -> dict[str, tuple[Column, ...]]:
    """Give the columns of every table. Factors and measures have the types and units that the script declares."""
    factors = [
        Column(each.name, type_of(each.all), f"Factor: {each.title or each.name}", each.unit)
        for each in experiment.factors
    ]
    kinds = {"word": TEXT, "truth": TRUTH}
    measures = [
        Column(each.name, kinds.get(each.kind, NUMBER), f"Measure: {each.title or each.name}", each.unit)
        for each in experiment.measures
    ]
    return {"trials": (*_HEAD, *factors, *measures, *_TAIL), **_LONG}


def type_of(levels: Sequence[object]) -> pa.DataType:
    """Give the type that holds all of these levels: those of different kinds are written as text."""
    if all(isinstance(level, bool) for level in levels):
        return TRUTH
    if any(isinstance(level, bool) or not isinstance(level, int | float) for level in levels):
        return TEXT
    return WHOLE if all(isinstance(level, int) for level in levels) else NUMBER


def schema(columns: Sequence[Column], about: Mapping[str, str]) -> pa.Schema:
    """Give the schema of a table, with each column's title and unit, and what the table is about, as its metadata."""
    return pa.schema([column.field for column in columns], metadata=dict(about))


def dictionary(experiment: Experiment) -> dict[str, Any]:
    """Give what all columns mean, as metadata for tabular data on the web (CSVW, W3C 2015) that programs read."""
    tables = of(experiment)
    return {
        "@context": ["http://www.w3.org/ns/csvw", {"@language": "en"}],
        "dc:title": experiment.question,
        "dc:description": _BEGIN,
        "tables": [
            {
                "url": f"{name}.csv",
                "dc:title": TITLES[name],
                "tableSchema": {
                    "columns": [_told(column) for column in tables[name]],
                    **({"primaryKey": "trial"} if name == "trials" else _KEY),
                },
            }
            for name in NAMES
        ],
    }


_KEY = {
    "foreignKeys": [{"columnReference": "trial", "reference": {"resource": "trials.csv", "columnReference": "trial"}}]
}
_WORDS = {WHOLE: "integer", NUMBER: "double", TRUTH: "boolean", TEXT: "string", MOMENT: "dateTime"}


def _told(column: Column) -> dict[str, Any]:
    told = {"name": column.name, "titles": column.name, "dc:description": column.title, "datatype": _WORDS[column.type]}
    return told | ({"schema:unitText": column.unit} if column.unit else {})
