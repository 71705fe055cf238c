"""`sql-graph`: a chart of the result."""

from __future__ import annotations

from typing import Literal

import pyarrow as pa
from pydantic import Field

from dynamos.model.values import Value
from dynamos.services.charts import draw
from dynamos.services.kit import Stream, Task, service
from dynamos.services.series import MOST_ROWS, chart_of


class GraphOptions(Value):
    """What the chart shows. Empty: chosen by the shape of the result."""

    x: str = Field(default="", description="the column along the axis")
    y: str = Field(default="", description="the columns of numbers, with commas")
    kind: Literal["auto", "bar", "line"] = Field(default="auto", description="auto, bar or line")
    title: str = Field(default="", description="the heading")


@service("sql-graph", label="computeProvider", options=GraphOptions)
def sql_graph(rows: Stream, options: GraphOptions, _task: Task) -> pa.Table:
    """Draw the result as bars or lines: one row with an SVG picture."""
    kept, count = [], 0
    for batch in rows:
        if count < MOST_ROWS:
            kept.append(batch.slice(0, MOST_ROWS - count))
        count += batch.num_rows
    table = pa.Table.from_batches(kept, rows.schema)
    picture = draw(chart_of(table, count, x=options.x, y=options.y, kind=options.kind, title=options.title))
    schema = pa.schema([("media_type", pa.string()), ("data", pa.binary())], metadata={"dynamos.shape": "chart"})
    return pa.table({"media_type": ["image/svg+xml"], "data": [picture]}, schema)
