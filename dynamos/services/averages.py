"""The average as the original DYNAMOS gives it: the mean salary scale of men and of women."""

from __future__ import annotations

import duckdb
import pyarrow as pa

from dynamos.kit.errors import BadInput
from dynamos.services.algorithms import spelled
from dynamos.services.engines import Feed, quoted, told
from dynamos.services.streams import Stream

SEX, SCALE = "Geslacht", "Salschal"
_LABELS = {"M": "avg_salary_scale_men", "V": "avg_salary_scale_women"}


def by_sex(engine: duckdb.DuckDBPyConnection, feed: Feed, schema: pa.Schema, *, graph: bool) -> Stream:
    """Give one record of texts with three decimals, a sex without rows left out; for a chart a table of two columns.

    Raises BadInput where the rows lack the columns Geslacht and Salschal, in any letter case.
    """
    sex, scale = spelled(SEX, schema), spelled(SCALE, schema)
    if sex is None or scale is None:
        missing = " and ".join(name for name, found in ((SEX, sex), (SCALE, scale)) if found is None)
        raise BadInput(
            f"average needs the columns {SEX} and {SCALE}, and the rows have no {missing}",
            where="columns",
            hint=f'name others: {{"value": "...", "group": "..."}}; the rows have: {", ".join(schema.names)}',
        )
    with told("the algorithm average", feed):
        found = engine.execute(
            f"SELECT {quoted(sex)}, avg(CAST({quoted(scale)} AS DOUBLE)) FROM rows "  # noqa: S608  names are quoted
            f"WHERE {quoted(sex)} IN ('M', 'V') AND {quoted(scale)} IS NOT NULL GROUP BY 1 ORDER BY 1"
        ).fetchall()
    if graph:
        means = {SEX: [row[0] for row in found], f"average_{SCALE}": [row[1] for row in found]}
        table = pa.table(means, pa.schema([(SEX, pa.string()), (f"average_{SCALE}", pa.float64())]))
        return Stream.of(table.replace_schema_metadata({"dynamos.shape": "table"}))
    record = pa.table({_LABELS[letter]: [f"{mean:.3f}"] for letter, mean in found})
    return Stream.of(record.replace_schema_metadata({"dynamos.shape": "record"}))
