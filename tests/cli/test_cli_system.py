"""The whole on loopback, as a person types it: each test runs the real command."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from support.children import alive

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("system")]
COMMAND = [sys.executable, "-m", "dynamos.cli.main"]
ANN = ("--as", "ann@safety-board.example")
DELAYS = ("-q", "SELECT origin, dep_delay FROM flights", "-a", "sum", "-c", "group=origin", "-c", "value=dep_delay")


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    state = tmp_path_factory.mktemp("state")
    yield state
    run(state, "down", "--all", "--purge")


def run(state, *words, code=0):
    environment = {**os.environ, "DYNAMOS_STATE": str(state)}
    environment.pop("DYNAMOS_TOKEN", None)
    done = subprocess.run([*COMMAND, *words], capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def laptop(state):
    run(state, "up", "laptop")
    return json.loads(run(state, "status", "--format", "json").stdout)


def units(state):
    return {unit["name"]: unit for unit in json.loads(run(state, "status", "--format", "json").stdout)["units"]}


def until(holds, *, within=30.0):
    end = time.monotonic() + within
    while not (found := holds()):
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.05)
    return found


def test_up_gives_an_api_and_every_unit_is_ready(laptop):
    assert laptop["phase"] == "ready"
    assert laptop["api"].startswith("http://127.0.0.1:")
    assert {unit["phase"] for unit in laptop["units"]} == {"ready"}
    assert {"bus", "orchestrator", "api", "united", "safety-board"} <= {unit["name"] for unit in laptop["units"]}


def test_up_again_says_so(state, laptop):
    assert "was up already" in run(state, "up", "laptop").stdout


def test_a_request_is_answered_and_leaves_a_job_a_trace_and_a_chain(state, laptop):
    said = json.loads(run(state, "request", *ANN, "-p", "united", *DELAYS, "--format", "json").stdout)
    assert {row["origin"] for row in said["results"][0]["rows"]} == {"EWR", "JFK", "LGA"}
    jobs = json.loads(run(state, "jobs", "list", *ANN, "--format", "json").stdout)
    assert said["job"] in {job["id"] for job in jobs}
    until(lambda: "api" in run(state, "trace", said["job"], *ANN).stdout)
    assert "sql-query" in run(state, "jobs", "show", said["job"], *ANN).stdout
    assert run(state, "chain", "--job", said["job"], *ANN).stdout.startswith("flowchart")


def test_a_refusal_is_exit_code_4_with_reasons(state, laptop):
    words = ("--as", "otto@consultancy.example", "-p", "united", *DELAYS)
    assert "validUntil" in run(state, "request", *words, code=4).stderr
    assert "validUntil" in run(state, "check", *words, code=4).stdout


def test_without_a_token_there_is_no_answer(state, laptop):
    said = run(state, "jobs", "list", code=3)
    assert "unauthenticated" in said.stderr or "token" in said.stderr


def test_an_agent_that_is_killed_comes_back_and_answers(state, laptop):
    pid = units(state)["delta"]["pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: (unit := units(state)["delta"])["phase"] == "ready" and unit["restarts"] >= 1)
    said = run(state, "request", *ANN, "-p", "delta", *DELAYS, "--format", "json")
    assert json.loads(said.stdout)["state"] == "succeeded"


def test_logs_of_a_unit_can_be_read(state, laptop):
    assert "testbed.ready" in run(state, "logs").stdout
    run(state, "logs", "united")


def test_every_mistake_of_a_profile_is_told_with_its_line_before_anything_is_made(tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text(
        "name: wrong\nextends: three-sites\noverlay: {driver: vxlan, mtu: 9000}\n"
        "links:\n  - {between: [amsterdam, paris], delay: 5ms}\n"
    )
    environment = {**os.environ, "DYNAMOS_STATE": str(tmp_path / "state"), "COLUMNS": "400"}
    said = subprocess.run(
        [*COMMAND, "up", path], capture_output=True, text=True, env=environment, timeout=60, check=False
    )
    assert said.returncode == 2
    assert "wrong.yaml:3:26" in said.stderr
    assert "'paris'" in said.stderr
    assert "wrong.yaml:5:" in said.stderr
    assert not (tmp_path / "state").exists()


def test_ctrl_c_while_it_starts_leaves_nothing(tmp_path):
    environment = {**os.environ, "DYNAMOS_STATE": str(tmp_path)}
    process = subprocess.Popen([*COMMAND, "up", "upstream"], env=environment, stderr=subprocess.PIPE)
    status = tmp_path / "upstream" / "status.json"
    until(lambda: status.exists() and json.loads(status.read_text())["units"])
    supervisor = json.loads(status.read_text())["supervisor"]
    os.kill(supervisor, signal.SIGSTOP)  # so that it is not ready before the signal comes
    process.send_signal(signal.SIGINT)
    os.kill(supervisor, signal.SIGCONT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    said = json.loads(status.read_text())
    assert said["phase"] == "stopped"
    until(
        lambda: not any(alive(pid) for pid in [said["supervisor"], *(u["pid"] for u in said["units"] if u.get("pid"))])
    )


def test_in_the_foreground_it_stays_until_it_is_told_to_stop(tmp_path):
    environment = {**os.environ, "DYNAMOS_STATE": str(tmp_path)}
    words = [*COMMAND, "up", "upstream", "--foreground"]
    process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert "upstream is ready: http://127.0.0.1:" in process.stdout.readline()
    status = json.loads((tmp_path / "upstream" / "status.json").read_text())
    assert status["open"] is True
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    until(lambda: not any(alive(unit["pid"]) for unit in status["units"]))


def test_down_stops_everything_and_purge_forgets_it(state, laptop):
    pids = [unit["pid"] for unit in units(state).values()]
    assert "is stopped" in run(state, "down", "--purge").stdout
    until(lambda: not any(alive(pid) for pid in pids))
    assert not (state / "laptop").exists()
    run(state, "status", code=5)


@pytest.mark.e2e
def test_the_demo_ends_well_and_leaves_no_testbed(tmp_path):
    said = run(tmp_path, "demo", "--profile", "laptop", "--runs", str(tmp_path / "runs"))
    assert said.stdout.count("equal") == 3
    assert "All of it checked." in said.stdout
    assert not (tmp_path / "demo" / "laptop").exists()
    assert pathlib.Path(said.stdout.splitlines()[-1]).is_file()
