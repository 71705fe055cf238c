"""`sql-algorithm`: what the requestor wants to know of the rows."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
from duckdb import DuckDBPyConnection
from pydantic import Field

from dynamos.kit.errors import BadInput
from dynamos.kit.words import suggest
from dynamos.model.services import Limits
from dynamos.model.units import Size
from dynamos.model.values import Value
from dynamos.services import algorithms, averages, distributions, engines, histograms
from dynamos.services.algorithms import Columns
from dynamos.services.kit import Stream, Task, service

TABLE = ("", "none", "table")
"""Names for "give the rows as they are"."""

NAMES = ("table", *algorithms.MEASURES, "quantiles", "histogram")
"""Every algorithm."""


class AlgorithmOptions(Value):
    """The request's algorithm and its columns."""

    algorithm: str = Field(default="", description="table, " + ", ".join(NAMES[1:]))
    columns: dict[str, str] = Field(
        default_factory=dict, description="group, value: names with commas; quantiles; bins"
    )
    graph: bool = Field(default=False, description="the result goes to a chart: give a table, never a record")
    threads: int = Field(default=1, ge=1, le=64, description="threads of the engine")
    memory: str = Field(default="256MiB", description="memory of the engine; beyond it, it spills to scratch")


@service(
    "sql-algorithm",
    label="computeProvider",
    options=AlgorithmOptions,
    allowed_outputs=("sql-graph",),
    limits=Limits(scratch=Size.parse("1GiB")),  # quantiles of ten million different values spill 300 MiB
)
def sql_algorithm(rows: Stream, options: AlgorithmOptions, task: Task) -> Stream:
    """Give the rows as they are, or averages, counts, sums, means, extremes, quantiles or histograms by group."""
    algorithm = options.algorithm.strip().lower()
    if algorithm in TABLE:
        return shaped(rows, "table")
    if algorithm not in NAMES:
        hint = suggest(algorithm, NAMES) or f"known: {', '.join(NAMES)}; table gives the rows as they are"
        raise BadInput(f"there is no algorithm {options.algorithm!r}", where="algorithm", hint=hint)
    engine = task.enter(engines.engine(scratch=task.scratch, memory=options.memory, threads=options.threads))
    feed = engines.Feed(engine, "rows", rows)
    engines.lock(engine)
    what = f"the algorithm {algorithm}"
    if algorithm == "average" and "value" not in options.columns:
        return averages.by_sex(engine, feed, rows.schema, graph=options.graph)
    columns = Columns.read(options.columns, rows.schema)
    if algorithm in algorithms.MEASURES:
        return shaped(engines.stream(engine, algorithms.statement(algorithm, columns), what=what, feed=feed), "table")
    algorithms.check(algorithm, columns)
    with engines.told(what, feed):
        engine.execute(distributions.keep(columns))
    if algorithm == "quantiles":
        return shaped(engines.stream(engine, distributions.quantiles(columns), what=what), "table")
    return shaped(Stream(histograms.schema(columns), _bins(engine, columns, what)), "table")


def _bins(engine: DuckDBPyConnection, columns: Columns, what: str) -> Iterator[pa.RecordBatch]:
    with engines.told(what):
        yield from histograms.batches(engine, columns)


def shaped(stream: Stream, shape: str) -> Stream:
    """Say in the schema what the result is: "table", "record" (one row of texts) or "chart"."""
    return Stream(stream.schema.with_metadata({"dynamos.shape": shape}), stream.batches)
