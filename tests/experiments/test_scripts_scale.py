"""scale_simulated runs as it is, quickly, with nothing around it, and what it claims holds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "experiments"


@pytest.mark.e2e
def test_a_quick_run_makes_every_trial_and_its_claims_hold(tmp_path):
    argv = [sys.executable, "-m", "dynamos.cli.main", "experiment", "run", str(SCRIPTS / "scale_simulated.py")]
    argv += ["--quick", "--seed", "6", "--runs", str(tmp_path / "runs"), "--state", str(tmp_path / "state")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=240, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "does not hold" not in done.stdout
    report = Path(done.stdout.strip().splitlines()[-1])
    records = [json.loads(path.read_bytes()) for path in (report.parent / "trials").glob("*.json")]
    assert {record["status"] for record in records} == {"done"}
    plan = json.loads((report.parent / "run.json").read_bytes())["plan"]
    assert len(records) == len(plan["trials"])
