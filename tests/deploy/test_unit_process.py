import json
import os
import subprocess
import sys

import pytest

from dynamos.deploy import unit
from dynamos.kit.errors import BadInput, Refused


@pytest.fixture
def pipe():
    ready, tell = os.pipe()
    yield ready, tell
    for descriptor in (ready, tell):
        os.close(descriptor)


def said(pipe):
    return json.loads(os.read(pipe[0], 65536))


@pytest.fixture(autouse=True)
def _keep_this_process_as_it_is(monkeypatch):
    monkeypatch.setattr(unit, "log_json", lambda: None)
    mask = os.umask(0o022)
    yield
    os.umask(mask)


def test_a_unit_says_what_is_wrong_with_its_configuration(tmp_path, pipe):
    config = tmp_path / "config.json"
    config.write_text('{"name": "united"}')
    assert unit.run("agent", config, pipe[1]) == BadInput.exit
    assert said(pipe)["error"]["where"] == str(config)


def test_a_configuration_that_is_not_there_is_told(tmp_path, pipe):
    assert unit.run("agent", tmp_path / "config.json", pipe[1]) == 5


def test_an_unknown_role_names_the_known_ones(tmp_path, pipe):
    assert unit.run("oracle", tmp_path / "config.json", pipe[1]) == BadInput.exit
    assert "orchestrator" in said(pipe)["error"]["hint"]


def test_an_error_keeps_its_kind_and_its_facts_on_the_way_to_the_supervisor(pipe):
    def work():
        raise Refused("no", code="special", where="here", hint="there", reasons=[1])

    assert unit.once("data", work, pipe[1]) == Refused.exit
    assert said(pipe)["error"] == {
        "code": "special", "kind": "refused", "message": "no", "where": "here", "hint": "there", "reasons": [1],
    }  # fmt: skip


def test_a_defect_is_told_as_one(pipe):
    assert unit.once("data", lambda: 1 // 0, pipe[1]) == 70
    assert said(pipe)["error"]["message"].startswith("ZeroDivisionError")


def test_a_unit_can_be_started_alone(tmp_path):
    command = [sys.executable, "-m", "dynamos.deploy.unit", "agent", str(tmp_path / "nowhere.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 5
    assert "Traceback" not in done.stdout + done.stderr
    usage = subprocess.run(command[:3], capture_output=True, text=True, check=False)
    assert usage.returncode == 2
    assert "usage:" in usage.stderr
