"""The experiments over archetypes, large results, the start of jobs, policy and faults run quickly, whole and well."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dynamos.deploy import data
from dynamos.experiments import chains, fates, invented, synthetic
from dynamos.experiments.answers import Answer
from dynamos.experiments.outcomes import Outcomes
from dynamos.experiments.records import Record
from dynamos.experiments.runs import Run, find
from dynamos.experiments.scripts import load
from dynamos.kit.errors import Broken, JobFailed, Refused
from support.worlds import needs

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("archetypes", "large_results", "job_start", "policy_scale", "faults")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    # Not pytest's own temporary folder, which only its owner may enter: services run as somebody else.
    with tempfile.TemporaryDirectory(prefix="dynamos-scripts-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.fixture(scope="module")
def furnished(folder: Path) -> Path:
    """The folder with the tables of `bench` in it, made once and in as much time as that takes."""
    data.prepare("bench", folder / "state" / "data" / "bench")
    return folder


def quickly(folder: Path, name: str, *words: str, within: float = 240.0) -> tuple[Run, Outcomes, str]:
    """Run an experiment by its name, with the real command; give its run, what became of trials, and what was said."""
    argv = [sys.executable, "-m", "dynamos.cli.main", "experiment", "run", name, "--quick", "--seed", "1", *words]
    argv += ["--runs", str(folder / "runs"), "--state", str(folder / "state")]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=within, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    run = find(folder / "runs", name)
    assert not run.left()
    outcomes = Outcomes.of(run.records())
    assert len(outcomes.done) == len(outcomes) > 0, done.stdout
    assert "does not hold" not in done.stdout
    assert Path(done.stdout.split()[-1]).is_file()
    assert all(value is not None for value in outcomes.readings(main_measure(name))), outcomes.records
    return run, outcomes, done.stdout


def main_measure(name: str) -> str:
    declared = load(ROOT / "experiments" / f"{name}.py")
    return next(measure.name for measure in declared.measures if measure.main)


@pytest.mark.parametrize("name", NAMES)
def test_every_script_is_a_program_with_a_question_claims_background_and_limits(name: str):
    path = ROOT / "experiments" / f"{name}.py"
    declared = load(path)
    assert os.access(path, os.X_OK)
    assert declared.name == name
    assert declared.question.endswith("?")
    assert declared.claims
    assert declared.background.strip()
    assert declared.limits
    assert "import experiments" not in path.read_text()


@pytest.mark.system
@pytest.mark.e2e
def test_archetypes(furnished: Path):
    _, outcomes, said = quickly(furnished, "archetypes")
    assert outcomes.all("exact")
    assert said.count("holds  ") >= 2
    assert {record.cell["archetype"] for record in outcomes} == {"computeToData", "dataThroughTtp"}
    both = outcomes.where(archetype="dataThroughTtp", providers=2, aggregate=True)
    assert set(both.values("rows_got")) == {60_000}
    through, at = (outcomes.where(archetype=name, providers=1, anonymise=False).median("moved") for name in (
        "dataThroughTtp", "computeToData"))  # fmt: skip
    assert through == pytest.approx(2 * at, rel=0.01), "the rows go to the third party, and its result to the requestor"


@pytest.mark.system
@pytest.mark.e2e
def test_large_results(furnished: Path):
    _, outcomes, _ = quickly(furnished, "large_results")
    assert outcomes.all("exact")
    assert outcomes.levels("rows") == [50_000, 1_000_000]
    assert all(0 < first <= total for first, total in
               zip(outcomes.values("first"), outcomes.values("total"), strict=True))  # fmt: skip
    assert all(value > 10 for value in outcomes.values("peak"))


@pytest.mark.system
@pytest.mark.sandbox
@pytest.mark.e2e
def test_job_start(furnished: Path):
    _, outcomes, said = quickly(furnished, "job_start", "--set", f"runner=request,{','.join(chains.RUNNERS)}")
    assert set(outcomes.levels("runner")) == {"request", *chains.RUNNERS}
    whole = outcomes.where(runner="request")
    for record in whole:
        assert 0 < record.measures["start"] < record.measures["total"]
    assert "The stages of a request add up" in said
    assert all(record.stages for record in whole)


@pytest.mark.slow
def test_policy_scale(folder: Path):
    _, outcomes, _ = quickly(
        folder, "policy_scale", "--set", "relations=100", "--set", "parties=3", "--set", "tables=1,4"
    )
    assert outcomes.all("right")
    assert all(0 < share < 1 for share in outcomes.values("permitted")), "some are permitted, and some refused"


@pytest.mark.testbed
@pytest.mark.system
@pytest.mark.e2e
@pytest.mark.xdist_group("testbed")
def test_faults(furnished: Path):
    if os.geteuid() != 0:
        pytest.skip("needs root: units are born in the namespaces of nodes")
    needs("ip", "nft", "bridge", "ping")
    _, outcomes, _ = quickly(furnished, "faults")
    assert outcomes.all("well")
    assert outcomes.all("hit")
    (cut,) = outcomes.where(fault="cut")
    assert cut.measures["outcome"] in ("failed", "refused")
    assert "amsterdam-tokyo is cut" in str(cut.measures["said"])
    assert [each["fault"]["action"] for each in happened(cut)] == ["cut"]


def happened(record: Record) -> list[dict[str, object]]:
    return list(json.loads(record.model_dump_json(by_alias=True)).get("happened") or ())


def test_a_decision_that_is_not_as_generated_is_seen():
    made = invented.Invented(parties=2, relations=50, tables=2, columns=4)
    engine = invented.ENGINES["built-in"]
    cases = list(made.cases(100))
    assert all(made.right(case, made.decide(engine, case.request)) for case in cases)
    first, other = cases[0], next(case for case in cases if case.permit != cases[0].permit)
    assert not made.right(first, made.decide(engine, other.request))


def an_answer(error: Exception | None, **outcomes: str) -> Answer:
    providers = {name: {"outcome": outcome, "error": {"message": f"{name} is away"} if outcome != "answered" else None}
                 for name, outcome in outcomes.items()}  # fmt: skip
    return Answer({"providers": providers}, (), began=0.0, seconds=1.0, job_seconds=1.0, error=error)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("answer", "fate", "told"),
    [
        (an_answer(None, a="answered", b="answered"), "answered", ""),
        (an_answer(None, a="answered", b="failed"), "answered in part", "b is away"),
        (an_answer(None, a="answered", b="left-out"), "answered in part", "b is away"),
        (an_answer(Refused("no", where="a")), "refused", "a: no"),
        (an_answer(JobFailed("it ended")), "failed", "it ended"),
        (an_answer(Broken("a defect")), "failed unclearly", "a defect"),
        (None, "hung", ""),
    ],
)
def test_what_became_of_a_request_is_told_in_a_word(answer: Answer | None, fate: str, told: str):
    assert (fates.of(answer), fates.told(answer)) == (fate, told)


@pytest.mark.parametrize(("rows", "whole"), [(1_000, True), (10_000, False), (30_000, True), (100_000, False)])
def test_any_number_of_rows_is_asked_for_of_the_smallest_table_that_has_them(rows: int, whole: bool):
    asked = synthetic.query(rows)
    assert ("WHERE" not in asked) == whole
    assert ("rows_30k" in asked) == (rows in (10_000, 30_000))
