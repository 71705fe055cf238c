"""Tables: a run's trials as one tidy table, and what is behind them: raw samples, stages of requests, processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv, parquet

from dynamos.experiments.records import Record
from dynamos.experiments.runs import Run
from dynamos.experiments.scripts import Experiment

NAMES = ("trials", "samples", "stages", "usage")
_KINDS = {"word": pa.string(), "truth": pa.bool_()}


def write(run: Run, experiment: Experiment) -> None:
    """Write every table of the run as Parquet and CSV, replacing what is there."""
    records = run.records()
    made = {
        "trials": _trials(records, experiment),
        "samples": _long(
            records, lambda r: ({"measure": n, "value": v} for n, vs in r.samples.items() for v in vs), _SAMPLES
        ),
        "stages": _long(records, lambda r: (stage.model_dump() for stage in r.stages), _STAGES),
        "usage": _long(records, lambda r: (used.model_dump() for used in r.usage), _USAGE),
    }
    for name, table in made.items():
        for suffix, keep in ((".parquet", parquet.write_table), (".csv", csv.write_csv)):
            _whole(run.folder / f"{name}{suffix}", table, keep)


_SAMPLES = {"measure": pa.string(), "value": pa.float64()}
_STAGES = {
    "request": pa.int64(), "name": pa.string(), "unit": pa.string(), "party": pa.string(), "start": pa.float64(),
    "seconds": pa.float64(), "depth": pa.int64(),
}  # fmt: skip
_USAGE = {"process": pa.string(), "party": pa.string(), "cpu": pa.float64(), "peak": pa.int64()}


def _trials(records: Sequence[Record], experiment: Experiment) -> pa.Table:
    """One row a trial: where it stands, its factors, its measures in their units, and how it ended."""
    fields = [
        ("trial", pa.int64()),
        ("repetition", pa.int64()),
        ("warmup", pa.bool_()),
        ("baseline", pa.bool_()),
        ("status", pa.string()),
    ]
    fields += [(factor.name, _type_of(factor.all)) for factor in experiment.factors]
    fields += [(measure.name, _KINDS.get(measure.kind, pa.float64())) for measure in experiment.measures]
    fields += [("reason", pa.string()), ("seconds", pa.float64()), ("began", pa.string()), ("testbed", pa.string())]
    schema = pa.schema(fields)
    units = {measure.name: measure.unit for measure in experiment.measures}
    units |= {factor.name: factor.unit for factor in experiment.factors if factor.unit}
    rows = [{"warmup": record.warmup, "testbed": record.testbed, **record.row()} for record in records]
    columns = [pa.array([_fit(row.get(field.name), field.type) for row in rows], field.type) for field in schema]
    schema = pa.schema([
        field.with_metadata({"unit": units[field.name]}) if field.name in units else field for field in schema
    ])  # fmt: skip
    return pa.Table.from_arrays(columns, schema=schema)


def _long(records: Sequence[Record], rows_of: Any, fields: Mapping[str, pa.DataType]) -> pa.Table:
    """One row a reading, with the trial that it belongs to."""
    schema = pa.schema([("trial", pa.int64()), ("warmup", pa.bool_()), *fields.items()])
    rows = [{"trial": record.number, "warmup": record.warmup, **row} for record in records for row in rows_of(record)]
    return pa.Table.from_pylist(rows, schema=schema)


def _type_of(levels: Sequence[object]) -> pa.DataType:
    if all(isinstance(level, bool) for level in levels):
        return pa.bool_()
    if all(isinstance(level, int) and not isinstance(level, bool) for level in levels):
        return pa.int64()
    if all(isinstance(level, int | float) and not isinstance(level, bool) for level in levels):
        return pa.float64()
    return pa.string()


def _fit(value: Any, kind: pa.DataType) -> Any:
    if value is None:
        return None
    return str(value) if kind == pa.string() else float(value) if kind == pa.float64() else value


def _whole(path: Path, table: pa.Table, keep: Any) -> None:
    half = path.with_name(f".{path.name}")
    keep(table, half)
    half.replace(path)
