"""What a party says of its data: tables, columns and types, read from the data, with the rules of its data sets."""

from __future__ import annotations

import asyncio
from pathlib import Path

from dynamos.model.datasets import Column, DataSet, Source, Table
from dynamos.model.marketplaces import Party
from dynamos.services.sources import describe


async def discover(party: Party, data_sets: dict[str, DataSet], folder: Path) -> dict[str, DataSet]:
    """Give the party's data sets with the columns that its files really have. Raises BadInput for a bad file."""
    found = {}
    for name, tables in party.data.items():
        declared = data_sets[name]
        columns = {table: await _columns(declared, table, source, folder) for table, source in tables.items()}
        found[name] = declared.model_copy(update={"tables": columns})
    return found


async def _columns(declared: DataSet, table: str, source: Source, folder: Path) -> Table:
    complete = source.model_copy(
        update={"type": source.type or declared.type, "delimiter": source.delimiter or declared.delimiter}
    )
    types = await asyncio.to_thread(describe, folder, complete)
    known = declared.tables.get(table, Table()).columns
    lower = {column.lower(): facts.rule for column, facts in known.items()}
    return Table(columns={name: Column(type=kind, rule=lower.get(name.lower())) for name, kind in types.items()})
