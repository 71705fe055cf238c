"""A run's records as tables: tidy, typed, with units, and the same from Parquet as from CSV."""

import csv
import errno
import io
import json
from datetime import UTC, datetime

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from dynamos.experiments import columns, tables
from dynamos.experiments.designs import Trial
from dynamos.experiments.records import Record, Status
from dynamos.experiments.scripts import load
from dynamos.kit.errors import BadInput, Full
from support.runs import SCRIPT, fill, make, record

FACTORS, MEASURES = ("size", "how", "load"), ("took", "right", "said")


@pytest.fixture
def written(tmp_path):
    run, prepared = make(tmp_path)
    fill(run)
    tables.write(run, prepared.experiment)
    return run, prepared.experiment


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    path = tmp_path_factory.mktemp("scripts") / "quickness.py"
    path.write_text(SCRIPT)
    return load(path)


def read_csv(content, of):
    """Read a CSV file as its dictionary says, absent values told from empty texts."""
    types = {column.name: pa.string() if column.type == columns.MOMENT else column.type for column in of}
    convert = arrow_csv.ConvertOptions(
        column_types=types, strings_can_be_null=True, quoted_strings_can_be_null=False, null_values=[""],
    )  # fmt: skip
    parse = arrow_csv.ParseOptions(newlines_in_values=True)
    return arrow_csv.read_csv(io.BytesIO(content), convert_options=convert, parse_options=parse).to_pylist()


def test_there_is_one_row_for_each_trial_with_warmups_marked_and_failures_told(written):
    run, _ = written
    rows = parquet.read_table(run.folder / "trials.parquet").to_pylist()
    assert [row["trial"] for row in rows] == [trial.number for trial in run.plan.trials]
    assert [row["warmup"] for row in rows] == [trial.warmup for trial in run.plan.trials]
    failed = next(row for row in rows if row["status"] == "failed")
    assert (failed["reason"], failed["code"], failed["took"], failed["right"]) == (
        "it failed", "trial-raised", None, None,
    )  # fmt: skip
    assert {row["reason"] for row in rows if row["status"] == "done"} == {None}
    assert {row["load"] for row in rows if row["how"] == "plain"} == {None}
    assert {row["load"] for row in rows if row["how"] == "3"} == {0.5}


def test_types_and_units_are_those_of_the_declaration(written):
    run, _ = written
    schema = parquet.read_schema(run.folder / "trials.parquet")
    assert [str(schema.field(name).type) for name in FACTORS] == ["int64", "string", "double"]
    assert [str(schema.field(name).type) for name in MEASURES] == ["double", "bool", "string"]
    assert schema.field("took").metadata[b"unit"] == b"ms"
    assert schema.field("size").metadata[b"unit"] == b"B"
    assert schema.metadata[b"plan"].decode() == run.plan.digest


def test_other_tables_tell_their_trial(written):
    run, _ = written
    for name, many in (("samples", 2), ("events", 2), ("requests", 1), ("stages", 1), ("usage", 1)):
        rows = parquet.read_table(run.folder / f"{name}.parquet").to_pylist()
        trials = [each for each in run.records() if name != "samples" or each.samples]
        assert [row["trial"] for row in rows] == [each.number for each in trials for _ in range(many)]
        assert [row["warmup"] for row in rows] == [each.warmup for each in trials for _ in range(many)]


def test_events_say_what_was_done_to_what_and_when(written):
    run, _ = written
    rows = parquet.read_table(run.folder / "events.parquet").to_pylist()
    assert [(row["what"], row["on"], row["planned"], row["error"]) for row in rows[:2]] == [
        ("cut", "a-b", 0.5, None), ("nobody may", "united", 1.0, "no"),
    ]  # fmt: skip


def test_tables_without_a_row_keep_their_columns(tmp_path):
    run, prepared = make(tmp_path)
    tables.write(run, prepared.experiment)
    for name, of in columns.of(prepared.experiment).items():
        assert parquet.read_table(run.folder / f"{name}.parquet").column_names == [each.name for each in of]
        assert (run.folder / f"{name}.csv").read_text().count("\n") == 1


def test_duckdb_and_plain_csv_readers_agree_with_parquet(written):
    run, _ = written
    names = 'trial, warmup, status, size, how, load, took, "right", said, reason, seconds'
    found = [
        duckdb.sql(f"SELECT {names} FROM '{run.folder / file}' ORDER BY trial").fetchall()
        for file in ("trials.parquet", "trials.csv")
    ]
    assert found[0] == found[1]
    with (run.folder / "trials.csv").open(newline="") as file:
        assert [row["said"] for row in csv.DictReader(file)] == [row[8] or "" for row in found[0]]


def test_the_dictionary_says_the_type_and_unit_of_every_column_of_every_table(written):
    run, _ = written
    told = json.loads((run.folder / "columns.json").read_text())
    for table in told["tables"]:
        with (run.folder / table["url"]).open(newline="") as file:
            header = next(csv.reader(file))
        described = {each["name"]: each for each in table["tableSchema"]["columns"]}
        assert list(described) == header
        assert all(each["dc:description"] and each["datatype"] for each in described.values())
    trials = {each["name"]: each for each in told["tables"][0]["tableSchema"]["columns"]}
    assert (trials["took"]["schema:unitText"], trials["took"]["datatype"]) == ("ms", "double")
    assert "until it was there" in trials["took"]["dc:description"]


def test_written_again_the_tables_are_the_same_and_nothing_is_left_beside_them(written):
    run, experiment = written
    before = {path.name: path.read_bytes() for path in run.folder.iterdir() if path.is_file()}
    tables.write(run, experiment)
    assert {path.name: path.read_bytes() for path in run.folder.iterdir() if path.is_file()} == before


def test_a_full_disk_leaves_the_tables_as_they_were(written, monkeypatch):
    run, experiment = written
    before = (run.folder / "trials.parquet").read_bytes()

    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tables, "write_whole", full)
    with pytest.raises(Full):
        tables.write(run, experiment)
    assert (run.folder / "trials.parquet").read_bytes() == before


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [('Measure("said"', 'Measure("status"', "status"), ('Measure("said"', 'Measure("how"', "both")],
)
def test_a_name_that_the_table_has_already_is_a_mistake(tmp_path, old, new, word):
    path = tmp_path / "wrong.py"
    path.write_text(SCRIPT.replace(old, new))
    with pytest.raises(BadInput, match=word):
        load(path)


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
NUMBERS = st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**53), 2**53))
MOMENTS = st.datetimes(datetime(1990, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
CELLS = st.fixed_dictionaries(
    {"size": st.integers(-(2**63), 2**63 - 1), "how": st.one_of(TEXTS, st.integers(), st.booleans())},
    optional={"load": st.floats(allow_nan=False, allow_infinity=False)},
)


@st.composite
def recorded(draw):
    trial = Trial(draw(st.integers(1, 10**6)), draw(st.integers(1, 99)), draw(CELLS), draw(st.booleans()))
    done = draw(st.booleans())
    read = {"took": draw(NUMBERS), "right": draw(st.none() | st.booleans()), "said": draw(st.none() | TEXTS)}
    status = Status.DONE if done else Status.FAILED
    error = None if done else {"code": "x", "message": draw(TEXTS)}
    samples = {"took": draw(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=3))}
    return record(
        trial, measures=read if done else {}, status=status, error=error, began=draw(MOMENTS), samples=samples
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(recorded(), max_size=4))
def test_parquet_and_csv_give_the_values_of_the_records(experiment, records):
    records = [Record.model_validate_json(each.model_dump_json(by_alias=True)) for each in records]
    made = tables.tables(records, experiment)
    of = columns.of(experiment)["trials"]
    from_parquet = parquet.read_table(pa.BufferReader(tables._parquet(made["trials"]))).to_pylist()
    from_csv = read_csv(tables._csv(made["trials"]), of)
    for row, plain, each in zip(from_parquet, from_csv, records, strict=True):
        how = each.cell["how"]
        assert row["how"] == (("yes" if how else "no") if isinstance(how, bool) else str(how))
        assert [row["size"], row["load"]] == [each.cell["size"], each.cell.get("load")]
        assert [row[name] for name in MEASURES] == [each.measures.get(name) for name in MEASURES]
        assert (row["began"], row["reason"]) == (each.began, each.error and each.error["message"])
        assert datetime.fromisoformat(plain["began"]) == each.began
        assert {name: value for name, value in plain.items() if name != "began"} == {
            name: value for name, value in row.items() if name != "began"
        }
    values = [value for each in records for value in each.samples["took"]]
    assert made["samples"]["value"].to_pylist() == values
    assert [row["value"] for row in read_csv(tables._csv(made["samples"]), columns.of(experiment)["samples"])] == values
