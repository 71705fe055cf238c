"""The experiment over adaptation runs quickly, whole and well, and tells what it would not measure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dynamos.experiments.outcomes import Outcomes
from dynamos.experiments.records import Record
from dynamos.experiments.runs import find
from dynamos.experiments.scripts import Experiment, load

SCRIPT = Path(__file__).resolve().parents[2] / "experiments" / "adaptation.py"


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not pytest's own temporary folder, which only its owner may enter: services run as somebody else.
    with tempfile.TemporaryDirectory(prefix="dynamos-scripts-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.fixture(scope="module")
def declared() -> Experiment:
    return load(SCRIPT)


def test_it_is_a_program_with_a_question_claims_background_and_limits(declared: Experiment):
    assert os.access(SCRIPT, os.X_OK)
    assert declared.name == SCRIPT.stem
    assert declared.question.endswith("?")
    assert len(declared.claims) == 5
    assert declared.background.strip()
    assert declared.limits


def loaded(
    planner: str, totals: list[float], decided: float | None, moves: int, happens: str = "load step"
) -> list[Record]:
    measures = {"decided": decided, "moves": moves, "lost": 0, "again": 0, "right": True}
    return [
        Record(number=number, repetition=number, cell={"planner": planner, "happens": happens}, status="done",
               began=0.0, seconds=total, measures={**measures, "total": total})
        for number, total in enumerate(totals)
    ]  # fmt: skip


def settled(declared: Experiment, records: list[Record]) -> dict[str, bool | None]:
    outcomes = Outcomes.of(records)
    return {claim.words: claim.find(outcomes)[0] for claim in declared.claims}


@pytest.mark.parametrize(
    ("totals", "decided", "moves", "held"),
    [
        ([4.0, 5.0, 4.0, 5.0], 0.8, 1, [True, None, True, True, True]),
        ([4.0, 5.0, 4.0, 31.0], 0.8, 1, [False, None, True, True, True]),
        ([4.0, 5.0, 4.0], 0.8, 1, [None, None, True, True, True]),
        ([4.0, 5.0, 4.0, 5.0], 2.1, 3, [True, None, False, False, True]),
        ([4.0, 5.0, 4.0, 5.0], None, 0, [True, None, False, False, True]),
    ],
)
def test_its_claims_hold_where_they_should(
    declared: Experiment, totals: list[float], decided: float | None, moves: int, held: list[bool | None]
):
    records = loaded("fixed", [30.0] * len(totals), None, 0)
    records += loaded("load-threshold", totals, decided, moves) + loaded("cost-model", totals, decided, moves)
    assert list(settled(declared, records).values()) == held


def test_who_learns_has_to_beat_fixed_at_a_slow_link_in_every_trial(declared: Experiment):
    records = loaded("fixed", [30.0] * 4, None, 0, "slow link") + loaded("bandit", [9.0] * 4, 2.5, 2, "slow link")
    claim = "Where a link slows down, those that learn beat fixed in total time, beyond noise"
    for totals, held in (([8.0] * 4, True), ([8.0, 8.0, 8.0, 31.0], False), ([8.0], None)):
        assert settled(declared, records + loaded("cost-model", totals, 2.5, 1, "slow link"))[claim] is held


@pytest.mark.system
@pytest.mark.e2e
def test_adaptation(folder: Path):
    argv = [sys.executable, "-m", "dynamos.cli.main", "experiment", "run", str(SCRIPT), "--quick", "--seed", "1"]
    argv += ["--runs", str(folder / "runs"), "--state", str(folder / "state")]
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    outcomes = Outcomes.of(find(folder / "runs", "adaptation").records())
    assert len(outcomes.done) == len(outcomes) == 3, done.stdout
    assert outcomes.all("right")
    assert set(outcomes.values("lost")) == {0}
    for record in outcomes:
        told = json.loads(record.model_dump_json(by_alias=True))["measures"]
        moves = record.cell["planner"] != "fixed"
        assert (told["moves"] > 0, told["decided"] is not None) == (moves, moves), told
