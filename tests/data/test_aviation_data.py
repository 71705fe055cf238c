"""Every airline holds its own flights only, and nothing is lost or changed on the way from the source."""

from __future__ import annotations

import csv
import io
import zipfile
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from dynamos.deploy.generators import aviation
from dynamos.deploy.generators.inputs import FLIGHTS, flights_from_new_york

MARKET = Path(__file__).parent.parent.parent / "profiles" / "marketplaces" / "aviation"
COLUMNS = ("tailnum", "flight", "dep_time", "dep_delay", "origin", "dest")
TYPES = {"BIGINT": pa.int64(), "VARCHAR": pa.string(), "DOUBLE": pa.float64(), "TIMESTAMP": pa.timestamp("us")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("aviation")
    aviation.write(made)
    return made


def test_each_airline_holds_only_its_own_flights_and_all_of_them(folder: Path) -> None:
    with zipfile.ZipFile(flights_from_new_york()[FLIGHTS]).open("flights.csv") as file:
        source = Counter(row["carrier"] for row in csv.DictReader(io.TextIOWrapper(file, "utf-8")))
    held = {party: pq.read_table(folder / party / "flights.parquet") for party in aviation.AIRLINES}
    for party, carrier in aviation.AIRLINES.items():
        assert Counter(held[party]["carrier"].to_pylist()) == {carrier: source[carrier]}
    assert {party: table.num_rows for party, table in held.items()} == {
        "united": 58665,
        "jetblue": 54635,
        "delta": 48110,
    }


@pytest.mark.slow
def test_the_union_of_the_airlines_equals_the_source(folder: Path) -> None:
    carriers = set(aviation.AIRLINES.values())
    with zipfile.ZipFile(flights_from_new_york()[FLIGHTS]).open("flights.csv") as file:
        rows = (row for row in csv.DictReader(io.TextIOWrapper(file, "utf-8")) if row["carrier"] in carriers)
        source = Counter(tuple(row[column] for column in COLUMNS) for row in rows)
    held: Counter[tuple[str, ...]] = Counter()
    for party in aviation.AIRLINES:
        table = pq.read_table(folder / party / "flights.parquet", columns=list(COLUMNS))
        texts = [pc.fill_null(table[column].cast(pa.string()), "NA").to_pylist() for column in COLUMNS]
        held.update(zip(*texts, strict=True))
    assert held == source


def test_nobody_has_a_file_of_somebody_else(folder: Path) -> None:
    assert {str(path.relative_to(folder)) for path in folder.rglob("*.parquet")} == {
        "united/flights.parquet", "jetblue/flights.parquet", "delta/flights.parquet", "weather/weather.parquet",
        "registry/planes.parquet",
    }  # fmt: skip
    assert list((folder / "safety-board").iterdir()) == []


@pytest.mark.parametrize(
    ("file", "data_set", "table"),
    [
        ("united/flights.parquet", "operations", "flights"),
        ("weather/weather.parquet", "weather", "weather"),
        ("registry/planes.parquet", "aircraft", "planes"),
    ],
)
def test_files_have_the_columns_and_types_that_the_marketplace_declares(
    folder: Path, file: str, data_set: str, table: str
) -> None:
    declared = yaml.safe_load((MARKET / "datasets.yaml").read_text())[data_set]["tables"][table]["columns"]
    wanted = {name: TYPES[facts if isinstance(facts, str) else facts["type"]] for name, facts in declared.items()}
    schema = pq.read_schema(folder / file)
    assert dict(zip(schema.names, schema.types, strict=True)) == wanted


def test_not_available_is_null_and_hours_are_in_utc(folder: Path) -> None:
    flights = pq.read_table(folder / "united" / "flights.parquet")
    assert flights["dep_time"].null_count == flights["dep_delay"].null_count == 686
    assert "NA" not in set(flights["tailnum"].to_pylist())
    first = flights.slice(0, 1).to_pylist()[0]
    assert (first["hour"], first["time_hour"].isoformat()) == (5, "2013-01-01T10:00:00")
