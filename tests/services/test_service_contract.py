"""The contract of a service, kept by the kit: environment in, Arrow streams through, exit code and error out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pydantic import Field

from dynamos.kit.errors import BadInput, NotFound, Refused
from dynamos.model.values import Value
from dynamos.services import catalogue
from dynamos.services.kit import DOWNSTREAM_GONE, Program, Stream, Task, service
from dynamos.services.testing import run, stream_of

ROWS = pa.table({"n": [1, 2, 3], "s": ["a", None, "c"]})


class Shout(Value):
    times: int = Field(default=1, ge=1, description="how often")
    long_name: str = "!"


@service("shout", label="dataProvider", options=Shout, allowed_outputs=("sql-algorithm",))
def shout(rows: Stream, options: Shout, task: Task) -> Stream:
    """Repeat every number.

    Nothing else.
    """
    return rows.map(
        lambda batch: pa.record_batch({"n": [n.as_py() * options.times for n in batch["n"]]}, schema=NUMBER)
    )


NUMBER = pa.schema([("n", pa.int64())])


def failing(error: BaseException, after: int = 0) -> Program:
    @service("fails", label="dataProvider", inputs="none")
    def fails(options: Value, task: Task) -> Stream:
        def batches() -> Iterator[pa.RecordBatch]:
            for _ in range(after):
                yield pa.record_batch({"n": [1]}, schema=NUMBER)
            raise error

        return Stream(NUMBER, batches())

    return fails


def test_the_manifest_comes_from_the_decorator() -> None:
    manifest = shout.manifest
    assert (manifest.name, manifest.label, manifest.inputs) == ("shout", "dataProvider", "one")
    assert manifest.description == "Repeat every number."
    assert manifest.options == {"times": "how often", "longName": ""}
    assert manifest.allowed_outputs == ("sql-algorithm",)


def test_rows_go_through_with_typed_options() -> None:
    assert run(shout, {"in": ROWS}, {"times": 3}).rows() == [{"n": 3}, {"n": 6}, {"n": 9}]


def test_a_decorated_function_can_still_be_called() -> None:
    found = shout(Stream.of(ROWS), Shout(times=2), Task())
    assert isinstance(found, Stream)
    assert pa.Table.from_batches(found, found.schema)["n"].to_pylist() == [2, 4, 6]


def test_no_rows_have_a_schema() -> None:
    assert run(shout, {"in": ROWS.slice(0, 0)}).table().schema == NUMBER


def test_every_output_gets_every_batch() -> None:
    ran = run(shout, {"in": ROWS}, outputs=("a", "b"))
    assert ran.table("a") == ran.table("b")
    assert ran.complete("a")
    assert ran.complete("b")


def test_big_batches_travel_in_pieces_and_stay_whole() -> None:
    big = pa.table({"s": pa.array(["x" * 1000] * 30_000)})

    @service("copy", label="dataProvider")
    def copy(rows: Stream, options: Value, task: Task) -> Stream:
        kept = list(rows)
        sizes.extend(batch.num_rows for batch in kept)
        return Stream(rows.schema, kept)

    sizes: list[int] = []
    ran = run(copy, {"in": run(copy, {"in": big}).table()})
    assert ran.table().equals(big)
    assert max(sizes[1:]) < 30_000


@pytest.mark.parametrize(
    ("options", "where", "hint"),
    [
        ({"tims": 2}, "options.tims", "did you mean 'times'?"),
        ({"times": "many"}, "options.times", ""),
        ({"times": 0}, "options.times", ""),
    ],
)
def test_wrong_options_are_told_with_near_names(options: dict[str, object], where: str, hint: str) -> None:
    ran = run(shout, {"in": ROWS}, options)
    assert ran.code == BadInput.exit
    assert ran.error["mistakes"][0]["where"] == where
    assert where in ran.error["message"]
    assert ran.error["mistakes"][0]["hint"] == hint
    assert not ran.outputs["out"]


def test_what_every_service_is_told_does_not_disturb_one_that_does_not_ask() -> None:
    assert run(shout, {"in": ROWS}, {"algorithm": "mean", "columns": {"value": "n"}}).code == 0


def test_an_error_in_the_middle_leaves_the_stream_unfinished() -> None:
    ran = run(failing(Refused("no more", hint="ask for less", code="enough"), after=2))
    assert ran.code == Refused.exit
    assert ran.error == {"code": "enough", "message": "no more", "where": "fails", "hint": "ask for less"}
    assert ran.outputs["out"]
    assert not ran.complete()


def test_an_unexpected_error_does_not_quote_data(caplog: pytest.LogCaptureFixture) -> None:
    ran = run(failing(ValueError("could not convert 'secret@example.org'")))
    assert ran.code == 70
    assert ran.error == {"code": "broken", "where": "fails", "message": "the service broke: ValueError"}
    assert "secret@example.org" in caplog.text  # the party's own log has it all


def test_lack_of_memory_is_told() -> None:
    assert run(failing(MemoryError())).error["code"] == "out-of-memory"


@pytest.mark.parametrize("cut", [1, 9, 60], ids=["half a word", "the whole marker", "half a batch"])
def test_a_stream_without_its_end_is_not_taken_for_a_whole_one(cut: int) -> None:
    ran = run(shout, {"UVA.q>s": stream_of(ROWS)[: -cut if cut != 9 else -8]})
    assert (ran.code, ran.error["code"]) == (7, "input-broken")
    assert "'UVA.q>s'" in ran.error["message"]
    assert not ran.complete()


@pytest.mark.parametrize("rubbish", [b"", b"\0", b"hello, world\n" * 100, b"\xff\xff\xff\xff\x10\0\0\0" + b"x" * 100])
def test_rubbish_in_place_of_arrow_is_told(rubbish: bytes) -> None:
    ran = run(shout, {"in": rubbish})
    assert (ran.code, ran.error["code"]) == (7, "input-broken")


def test_a_reader_that_goes_ends_the_service_quietly() -> None:
    ours, theirs = os.pipe()
    fed, feeds = os.pipe()
    os.close(ours)
    error, told = os.pipe()
    writer = threading.Thread(target=os.write, args=(feeds, stream_of(ROWS)))
    writer.start()
    code = shout.main(
        {
            "DYNAMOS_JOB": json.dumps({"job": "1"}),
            "DYNAMOS_INPUTS": f"in={fed}",
            "DYNAMOS_OUTPUTS": f"out={theirs}",
            "DYNAMOS_ERROR": str(told),
        }
    )
    writer.join()
    os.close(feeds)
    os.close(told)
    with os.fdopen(error, "rb") as file:
        assert file.read() == b""
    assert code == DOWNSTREAM_GONE


def test_all_descriptors_are_closed_whatever_happens() -> None:
    def count() -> int:
        return len(list(Path("/dev/fd").iterdir()))

    run(shout, {"in": ROWS})
    before = count()
    run(shout, {"in": ROWS})
    run(shout, {"in": ROWS}, {"times": 0})
    run(shout, {"in": b"rubbish"})
    run(failing(BadInput("x"), after=1))
    run("sql-aggregate", {"A.x": ROWS, "B.x": stream_of(ROWS)[:-8]})
    assert count() == before


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"DYNAMOS_JOB": "["},
        {"DYNAMOS_JOB": "[]"},
        {"DYNAMOS_JOB": "{}", "DYNAMOS_INPUTS": "in"},
        {"DYNAMOS_JOB": "{}"},
    ],
)
def test_an_environment_that_is_not_the_contract_is_told(environment: dict[str, str]) -> None:
    error, told = os.pipe()
    assert shout.main({**environment, "DYNAMOS_ERROR": str(told)}) == BadInput.exit
    os.close(told)
    with os.fdopen(error, "rb") as file:
        assert json.loads(file.read())["code"] == "bad-input"


def test_the_catalogue_knows_its_services_by_name() -> None:
    assert catalogue.names()[:5] == ("sql-query", "sql-anonymize", "sql-aggregate", "sql-algorithm", "sql-graph")
    for name in catalogue.names():
        assert catalogue.manifest(name).name == name
        assert catalogue.manifest(name).description
    with pytest.raises(NotFound, match="did you mean 'sql-query'"):
        catalogue.find("sql-qury")


def test_manifests_carry_what_the_planner_needs() -> None:
    query, aggregate = catalogue.manifest("sql-query"), catalogue.manifest("sql-aggregate")
    assert (query.inputs, query.reads_data, query.label) == ("none", True, "dataProvider")
    assert (aggregate.inputs, aggregate.reads_data, aggregate.label) == ("many", False, "computeProvider")
    assert aggregate.invalid_archetypes == ("computeToData",)
    assert "sql-graph" in catalogue.manifest("sql-algorithm").allowed_outputs


FORKED = """
import json, os, sys, threading
from dynamos.services import catalogue

catalogue.preload()
assert len(os.listdir("/proc/self/task")) == 1, "a thread was started"
for name, options in json.loads(sys.argv[2]):
    arriving, given = os.pipe()
    going, taken = os.pipe()
    os.write(given, bytes.fromhex(sys.argv[1]))
    os.close(given)
    child = os.fork()
    if child == 0:
        before = set(sys.modules)
        inputs = "" if name == "sql-query" else f"UVA.x={arriving}"
        job = json.dumps({"job": "1", "party": "UVA", "options": options})
        code = catalogue.find(name)({"DYNAMOS_JOB": job, "DYNAMOS_INPUTS": inputs, "DYNAMOS_OUTPUTS": f"o={taken}"})
        print(name, code, sorted(set(sys.modules) - before), flush=True)
        os._exit(0)
    for descriptor in (arriving, going, taken):
        os.close(descriptor)
    os.waitpid(child, 0)
os._exit(0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_a_forked_child_imports_nothing_and_the_parent_starts_no_thread(tmp_path) -> None:
    rows = pa.table({"g": ["a", "b"], "v": [1, 2]})
    cases = [
        ["sql-query", {"query": "SELECT 1 AS x"}],
        ["sql-anonymize", {"rules": {"g": {"method": "hash"}, "v": {"method": "generalise", "size": 2}}, "key": "k"}],
        ["sql-aggregate", {"origin": "who"}],
        ["sql-algorithm", {"algorithm": "mean", "columns": {"value": "v", "group": "g"}}],
        ["sql-algorithm", {"algorithm": "quantiles", "columns": {"value": "v"}}],
        ["sql-algorithm", {"algorithm": "histogram", "columns": {"value": "v"}}],
    ]
    done = subprocess.run(
        [sys.executable, "-c", FORKED, stream_of(rows).hex(), json.dumps(cases)],
        capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path,
    )  # fmt: skip
    assert done.stdout.splitlines() == [f"{name} 0 []" for name, _ in cases], done.stderr


ALONE = """
import json, os, sys
from dynamos.services import catalogue

name, options = json.loads(sys.argv[2])
arriving, given = os.pipe()
os.write(given, bytes.fromhex(sys.argv[1]))
os.close(given)
catalogue.prepare(name)()
job = json.dumps({"job": "1", "party": "UVA", "options": options})
inputs = "" if name == "sql-query" else f"UVA.x={arriving}"
environment = {"DYNAMOS_JOB": job, "DYNAMOS_INPUTS": inputs, "DYNAMOS_OUTPUTS": sys.argv[3]}
print(catalogue.find(name)(environment), bool(sys.modules.get("numpy")))
"""


def alone(name: str, options: dict[str, object], folder: Path) -> tuple[str, pa.Table]:
    """Run a service in a process that gets ready for it alone; give what that tells, and the result."""
    ours, theirs = os.pipe()
    rows = stream_of(pa.table({"g": ["a", "b"], "v": [1, 2]})).hex()
    done = subprocess.run(
        [sys.executable, "-c", ALONE, rows, json.dumps([name, options]), f"o={theirs}"],
        capture_output=True, text=True, check=False, timeout=60, cwd=folder, pass_fds=[theirs],
    )  # fmt: skip
    os.close(theirs)
    with os.fdopen(ours, "rb") as file:
        return done.stdout.strip() or done.stderr, pa.ipc.open_stream(file.read()).read_all()


@pytest.mark.parametrize(
    ("name", "options", "found"),
    [
        ("sql-query", {"query": "SELECT 'a' AS g, 1.5::FLOAT AS v"}, [{"g": "a", "v": 1.5}]),
        ("sql-anonymize", {"rules": {"g": {"method": "mask"}}}, [{"g": "***", "v": 1}, {"g": "***", "v": 2}]),
        ("sql-aggregate", {}, [{"g": "a", "v": 1}, {"g": "b", "v": 2}]),
        ("sql-algorithm", {"algorithm": "mean", "columns": {"value": "v"}}, [{"mean_v": 1.5}]),
    ],
)
def test_a_service_that_is_alone_in_its_process_works_without_numpy(
    tmp_path, name: str, options: dict[str, object], found: list[dict[str, object]]
) -> None:
    told, result = alone(name, options, tmp_path)
    assert told == "0 False"
    assert result.to_pylist() == found


def test_a_chart_that_is_alone_in_its_process_has_what_it_needs(tmp_path) -> None:
    pytest.importorskip("matplotlib")
    told, result = alone("sql-graph", {}, tmp_path)
    assert told == "0 True"
    assert result.num_rows == 1


def test_a_service_runs_as_a_program(tmp_path) -> None:
    ours, theirs = os.pipe()
    job = json.dumps({"job": "1", "options": {"query": "SELECT 42 AS n"}})
    environment = {**os.environ, "DYNAMOS_JOB": job, "DYNAMOS_OUTPUTS": f"o={theirs}"}
    command = [sys.executable, "-m", "dynamos.services", "sql-query"]
    done = subprocess.run(command, env=environment, pass_fds=[theirs], check=False, cwd=tmp_path, timeout=60)
    os.close(theirs)
    with os.fdopen(ours, "rb") as file:
        assert pa.ipc.open_stream(file.read()).read_all().to_pylist() == [{"n": 42}]
    assert done.returncode == 0


def test_an_unknown_program_is_told_with_near_names(tmp_path) -> None:
    command = [sys.executable, "-m", "dynamos.services", "sql-qeury"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=60)
    assert done.returncode == NotFound.exit
    assert "did you mean 'sql-query'?" in done.stderr
