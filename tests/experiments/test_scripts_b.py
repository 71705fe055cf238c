"""The scripts about networks run as they are, quickly: every trial is made, what they claim holds, and is written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "experiments"

pytestmark = [
    pytest.mark.testbed,
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs root on Linux"),
]


@pytest.mark.parametrize("name", ["overlay_scope", "overlay_cost", "isolation", "mtls_cost"])
def test_a_quick_run_makes_every_trial_and_its_claims_hold(name, tmp_path):
    argv = [sys.executable, "-m", "dynamos.cli.main", "experiment", "run", str(SCRIPTS / f"{name}.py"), "--quick"]
    argv += ["--seed", "6", "--runs", str(tmp_path / "runs"), "--state", str(tmp_path / "state")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=400, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "does not hold" not in done.stdout
    report = Path(done.stdout.strip().splitlines()[-1])
    assert report.is_file()
    records = [json.loads(path.read_bytes()) for path in (report.parent / "trials").glob("*.json")]
    assert len(records) == len(json.loads((report.parent / "run.json").read_bytes())["plan"]["trials"])
    assert {record["status"] for record in records} == {"done"}
    assert not list((tmp_path / "state").glob("*/world/box.sock"))
