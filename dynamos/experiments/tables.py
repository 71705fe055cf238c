"""Tables: a run's trials as one tidy table, and what is behind them: requests, stages, samples, events, processes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
from pyarrow import compute, csv, parquet

from dynamos.deploy.states import explained
from dynamos.experiments import columns
from dynamos.experiments.columns import Column
from dynamos.experiments.factors import written
from dynamos.experiments.records import Record
from dynamos.experiments.runs import Run, write_whole
from dynamos.experiments.scripts import Experiment

DICTIONARY = "columns.json"

Rows = Callable[[Record], Iterable[Mapping[str, Any]]]


def write(run: Run, experiment: Experiment) -> None:
    """Write every table of the run as Parquet and CSV, and the dictionary of their columns, replacing what is there.

    Each file is there whole, as before or not at all. Raises Full where there is no room, Mistakes where records are
    damaged.
    """
    made = tables(run.records(), experiment, about={"experiment": experiment.name, "plan": run.plan.digest})
    files: dict[str, bytes] = {}
    for name, table in made.items():
        files |= {f"{name}.parquet": _parquet(table), f"{name}.csv": _csv(table)}
    files[DICTIONARY] = json.dumps(columns.dictionary(experiment), indent=1, ensure_ascii=False).encode()
    for name, content in files.items():
        with explained(run.folder / name):
            write_whole(run.folder / name, content)


def tables(
    records: Sequence[Record], experiment: Experiment, *, about: Mapping[str, str] | None = None
) -> dict[str, pa.Table]:
    """Give every table of these records by its name, with titles and units as metadata of its columns."""
    return {
        name: _table([row for record in records for row in _ROWS[name](record)], of, about or {})
        for name, of in columns.of(experiment).items()
    }


def _requests(record: Record) -> Iterable[Mapping[str, Any]]:
    return ({"request": each.number, **each.model_dump()} for each in record.requests)


def _samples(record: Record) -> Iterable[Mapping[str, Any]]:
    return ({"measure": name, "value": value} for name, values in record.samples.items() for value in values)


def _stages(record: Record) -> Iterable[Mapping[str, Any]]:
    return (stage.model_dump() for stage in record.stages)


def _events(record: Record) -> Iterable[Mapping[str, Any]]:
    for each in record.happened:
        fault = each.get("fault", {})
        on = fault.get("link") or fault.get("site") or each.get("party")
        yield {**each, "what": fault.get("action") or each.get("amendment"), "on": on}


def _usage(record: Record) -> Iterable[Mapping[str, Any]]:
    return (used.model_dump() for used in record.usage)


def _of_trial(rows: Rows) -> Rows:
    """Give the rows with the trial that each belongs to."""
    return lambda record: ({**row, "trial": record.number, "warmup": record.warmup} for row in rows(record))


_ROWS: Mapping[str, Rows] = {
    "trials": lambda record: (record.row(),),
    "requests": _of_trial(_requests),
    "stages": _of_trial(_stages),
    "samples": _of_trial(_samples),
    "events": _of_trial(_events),
    "usage": _of_trial(_usage),
}


def _table(rows: Sequence[Mapping[str, Any]], of: Sequence[Column], about: Mapping[str, str]) -> pa.Table:
    arrays = [pa.array([_fit(row.get(column.name), column) for row in rows], column.type) for column in of]
    return pa.Table.from_arrays(arrays, schema=columns.schema(of, about))


def _fit(value: Any, column: Column) -> Any:
    """Give a value as its column holds it: levels of different kinds as text, every number as one type."""
    if value is None:
        return None
    if column.type == columns.TEXT:
        return written(value)
    return float(value) if column.type == columns.NUMBER else value


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    parquet.write_table(table, sink)
    return bytes(sink.getvalue())


def _csv(table: pa.Table) -> bytes:
    """Give the table as CSV: text in quotes, so that an empty one differs from an absent one; moments in ISO 8601."""
    for at, field in enumerate(table.schema):
        if field.type == columns.MOMENT:
            naive = compute.cast(table.column(at), pa.timestamp("us"))
            table = table.set_column(at, field.name, compute.strftime(naive, format="%Y-%m-%dT%H:%M:%SZ"))
    sink = pa.BufferOutputStream()
    csv.write_csv(table, sink)
    return bytes(sink.getvalue())
