"""`sql-aggregate`: the exact union of the rows of any number of providers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pyarrow as pa
from pydantic import Field

from dynamos.kit.errors import BadInput
from dynamos.model.values import Value
from dynamos.services import unions
from dynamos.services.kit import Stream, Task, service


class AggregateOptions(Value):
    """How the union is made."""

    origin: str = Field(default="", description="a column to add that names each row's provider")


@service(
    "sql-aggregate",
    label="computeProvider",
    inputs="many",
    options=AggregateOptions,
    allowed_outputs=("sql-algorithm",),
    invalid_archetypes=("computeToData",),
)
def sql_aggregate(inputs: Mapping[str, Stream], options: AggregateOptions, _task: Task) -> Stream:
    """Join the rows of all providers: every row once, in no particular order."""
    if not inputs:
        raise BadInput("there is nothing to join", hint="give it an input for each provider")
    providers = {name: name.partition(".")[0] for name in inputs}
    schema = unions.joined([(providers[name], stream.schema) for name, stream in inputs.items()])
    origin = options.origin
    if origin and origin in schema.names:
        raise BadInput(f"the rows have a column {origin!r} already", where="options.origin")
    whole = schema.append(pa.field(origin, pa.string())) if origin else schema

    def batches() -> Iterator[pa.RecordBatch]:
        for name, batch in unions.interleaved(inputs):
            fitted = unions.fitted(batch, schema, providers[name])
            if origin:
                source = pa.repeat(pa.scalar(providers[name], pa.string()), fitted.num_rows)
                fitted = pa.RecordBatch.from_arrays([*fitted.columns, source], schema=whole)
            yield fitted

    return Stream(whole, batches())
