"""The experiment over agreements that change runs quickly, whole and well."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dynamos.experiments import crowds
from dynamos.experiments.crowds import Told
from dynamos.experiments.outcomes import Outcomes
from dynamos.experiments.runs import find
from dynamos.experiments.scripts import load

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "experiments" / "policy_change.py"


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not pytest's own temporary folder, which only its owner may enter: services run as somebody else.
    with tempfile.TemporaryDirectory(prefix="dynamos-policy-change-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


def test_the_script_is_a_program_with_a_question_claims_background_and_limits():
    declared = load(SCRIPT)
    assert os.access(SCRIPT, os.X_OK)
    assert declared.name == "policy_change"
    assert declared.question.endswith("?")
    assert len(declared.claims) == 3
    assert declared.background.strip()
    assert declared.limits


@pytest.mark.system
@pytest.mark.e2e
@pytest.mark.xdist_group("policy")
def test_policy_change(folder: Path):
    argv = [sys.executable, "-m", "dynamos.cli.main", "experiment", "run", "policy_change", "--quick", "--seed", "1"]
    argv += ["--runs", str(folder / "runs"), "--state", str(folder / "state")]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    run = find(folder / "runs", "policy_change")
    assert not run.left()
    outcomes = Outcomes.of(run.records())
    assert len(outcomes.done) == len(outcomes) == 2, done.stdout
    assert outcomes.all("explained")
    assert outcomes.all("right")
    assert set(outcomes.values("bytes_after")) == {0}
    assert set(outcomes.values("forbidden")) == {15}
    for record in outcomes:
        assert 0 < record.measures["stopped"] <= record.measures["stopped_p99"]
        assert record.measures["told"] <= record.measures["told_p99"]
    said = " ".join(done.stdout.split())
    assert "holds No byte of a result that a change forbids" in said
    assert "holds Every requestor of a forbidden job is told why" in said
    assert Path(done.stdout.split()[-1]).is_file()


def test_a_requestor_knows_when_each_service_of_its_job_was_stopped():
    started = "2026-01-01T00:00:00+00:00"
    usages = [
        {"started": started, "wallMs": 1500.0, "exit": -9},
        {"started": started, "wallMs": 10.0, "exit": 0},
    ]
    told = Told(403, 0.0, "revoked", record={"parts": {"alpha": {"usages": usages}, "hub": {}}})
    (stop,) = told.stops()
    assert stop == pytest.approx(1767225601.5)
    assert Told(200, 0.0).stops() == []


def test_every_pause_is_a_request_type_of_its_own():
    assert [crowds.kind_of(pause) for pause in (0, 5, 20)] == ["linger", "pause-5", "pause-20"]
