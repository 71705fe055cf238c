"""`sql-query`: run a query over the party's own data."""

from __future__ import annotations

from pydantic import Field

from dynamos.model.values import Value
from dynamos.services import engines, guards, sources
from dynamos.services.kit import Stream, Task, service
from dynamos.services.sources import TableSource


class QueryOptions(Value):
    """The query, and the tables that it may name, in any letter case."""

    query: str = Field(description="one SELECT, in DuckDB's SQL")
    tables: dict[str, TableSource] = Field(
        default_factory=dict, description="table -> {path, type, delimiter, table, columns: permitted ones, types}"
    )
    threads: int = Field(default=1, ge=1, le=64, description="threads of the engine")
    memory: str = Field(default="256MiB", description="memory of the engine; beyond it, it spills to scratch")


@service(
    "sql-query",
    label="dataProvider",
    inputs="none",
    reads_data=True,
    options=QueryOptions,
    allowed_outputs=("sql-aggregate", "sql-algorithm", "sql-anonymize"),
)
def sql_query(options: QueryOptions, task: Task) -> Stream:
    """Run a query over the party's own data."""
    engine = task.enter(engines.engine(scratch=task.scratch, memory=options.memory, threads=options.threads))
    files: list[str] = []
    for number, table in enumerate(guards.tables_of(engine, options.query, options.tables)):
        files += sources.expose(engine, task.data, table, options.tables[table], attached=f"_file{number}")
    engines.lock(engine, tuple(files))
    return engines.stream(engine, options.query)
