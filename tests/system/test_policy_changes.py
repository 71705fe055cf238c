"""An agreement changes while requests run: what it forbids stops everywhere, and nothing else does."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from dynamos.knowledge import jetstream
from dynamos.middleware.configs import AgentConfig
from dynamos.middleware.views import agreements_of
from dynamos.model.agreements import Agreement
from support.systems import ADMIN, AGREEMENTS, BOB, ROWS, USER, system

TTP = ["dataThroughTtp"]
ARROW = {"accept": "application/vnd.apache.arrow.stream"}


@pytest.fixture(scope="module")
def changing():
    with tempfile.TemporaryDirectory(prefix="dynamos-policy-") as folder, system(Path(folder)) as it:
        yield it


@pytest.fixture
def it(changing):
    """The system, whose agreements are as they were again afterwards."""
    before = {party: changing.agreement(party) for party in ROWS}
    yield changing
    for party, agreement in before.items():
        changing.agree(party, agreement)


def running(it, job, user=USER):
    def runs():
        with it.client(user) as client:
            return client.get(f"/api/v1/jobs/{job}").json().get("state") == "running" or None

    it.wait(f"{job} runs", runs)


def services(it):
    """Give the pids of the commands that run as services in this system."""
    units = {unit.pid for unit in it.status.units}
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"/service/" in (path / "cmdline").read_bytes() and units & set(ancestors(int(path.name))):
                found.append(int(path.name))
    return found


def ancestors(pid):
    while pid > 1:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        yield pid


def waiting(it, user=USER, **members):
    """Begin to wait for a request; gives the future answer."""
    pool = ThreadPoolExecutor(1)

    def ask():
        with it.client(user) as client:
            return client.post("/api/v1/jobs?wait=true", json=it.ask(members.pop("kind", "slow"), **members))

    future = pool.submit(ask)
    pool.shutdown(wait=False)
    return future


def newest(it, state="running"):
    def found():
        with it.client() as client:
            jobs = client.get(f"/api/v1/jobs?state={state}").json()["jobs"]
        return jobs[0]["id"] if jobs else None

    return it.wait(f"a job is {state}", found)


def test_who_waits_is_told_that_it_is_not_permitted_any_more_and_why(it):
    answer = waiting(it, kind="hang", archetype="dataThroughTtp")
    job = newest(it)
    it.agree("north", {**it.agreement("north"), "relations": {}})
    told = answer.result(30)
    assert told.status_code == 403
    assert told.headers["content-type"] == "application/problem+json"
    assert told.json()["code"] == "revoked"
    assert told.json()["reasons"][0]["code"] == "no-relation"
    record = it.job(job)
    assert record["state"] == "cancelled"
    assert {party: (part["state"], part["error"]["code"]) for party, part in record["parts"].items()} == {
        "north": ("cancelled", "revoked"),
        "third": ("cancelled", "revoked"),
    }
    with it.client() as client:
        assert client.get(f"/api/v1/jobs/{job}/result").status_code == 403
    it.wait("no service of it runs", lambda: not services(it))


def test_the_next_request_runs_under_the_other_archetype_at_once(it):
    assert it.run().json()["archetypes"] == {"north": "computeToData"}
    it.agree("north", allowedArchetypes=TTP)
    assert it.run().json()["archetypes"] == {"north": "dataThroughTtp"}


def test_a_running_request_is_answered_by_a_job_that_runs_in_the_permitted_way(it):
    answer = waiting(it)
    first = newest(it)
    it.agree("north", allowedArchetypes=TTP)
    told = answer.result(30)
    assert told.status_code == 200, told.text
    record = told.json()
    assert record["replaces"] == first
    assert record["archetypes"] == {"north": "dataThroughTtp"}
    assert record["results"][0]["rows"] == ROWS["north"]
    assert it.job(first)["state"] == "cancelled"
    assert it.job(first)["error"]["again"] is True


def test_parts_that_do_not_depend_on_it_and_jobs_of_others_go_on(it):
    north = it.agreement("north")
    it.agree("north", {**north, "relations": {**north["relations"], BOB: north["relations"][USER]}})
    both = waiting(it, providers=("north", "south"))
    other = waiting(it, user=BOB)
    newest(it)
    it.wait("bob's runs", lambda: len(services(it)) >= 3 or None)
    with it.client(BOB) as client:
        theirs = client.get("/api/v1/jobs?state=running").json()["jobs"][0]["id"]
    relations = {BOB: north["relations"][USER]}
    it.agree("north", {**north, "relations": relations})
    partial, whole = both.result(30), other.result(30)
    assert partial.json()["state"] == "partial"
    assert partial.json()["providers"]["north"]["error"]["code"] == "revoked"
    assert [entry["rows"] for entry in partial.json()["results"] if "rows" in entry] == [ROWS["south"]]
    assert whole.json()["id"] == theirs
    assert whole.json()["results"][0]["rows"] == ROWS["north"]


def test_removing_the_agreement_stops_what_runs(it):
    it.start("hang", "j-removed")
    running(it, "j-removed")
    with it.client("legal@north.example") as admin:
        assert admin.delete(f"{AGREEMENTS}/north").status_code == 204
    assert it.end_of("j-removed")["error"]["code"] == "revoked"


def test_a_relation_that_ends_stops_what_runs_at_that_time(it):
    until = datetime.now(UTC) + timedelta(seconds=2)
    it.agree("north", validUntil=until.isoformat())
    it.start("hang", "j-expires")
    running(it, "j-expires")
    record = it.end_of("j-expires")
    assert record["error"]["reasons"][0]["code"] == "expired"
    assert datetime.fromisoformat(record["ended"]) >= until


def test_two_changes_at_once_leave_the_last_one_in_force(it):
    north = it.agreement("north")
    nobody = {**north, "relations": {}}
    it.start("hang", "j-twice")
    running(it, "j-twice")
    it.agree("north", nobody)
    it.agree("north", north)
    assert it.end_of("j-twice")["error"]["code"] == "revoked"
    assert it.run().status_code == 200


def test_an_orchestrator_that_is_away_does_not_keep_a_party_from_stopping_what_it_forbids(it):
    it.start("hang", "j-partition")
    running(it, "j-partition")
    it.wait("its service runs", lambda: services(it) or None)
    pid = it.pid("orchestrator")
    os.kill(pid, signal.SIGSTOP)
    try:
        asyncio.run(write_as_party(it, "north", Agreement(name="north")))
        it.wait("its service is stopped", lambda: not services(it))
    finally:
        os.kill(pid, signal.SIGCONT)
    assert it.end_of("j-partition")["error"]["code"] in ("revoked", "lost")
    assert it.run().status_code == 403


async def write_as_party(it, party, agreement):
    """Write an agreement as the party itself can, with nobody between it and its own bucket."""
    config = AgentConfig.model_validate_json((it.state.unit(party) / "config.json").read_bytes())
    kb = await jetstream.connect(config.bus, config.credentials, party, server=config.server)
    try:
        await agreements_of(kb, party).put(party, agreement)
    finally:
        await kb.close()


def test_an_orchestrator_that_is_killed_meanwhile_lets_nothing_run_that_is_forbidden(it):
    it.start("hang", "j-restart")
    running(it, "j-restart")
    pid = it.kill("orchestrator")
    it.agree("north", {**it.agreement("north"), "relations": {}})
    it.wait_renewed("orchestrator", pid)
    it.wait("no service runs", lambda: not services(it))
    assert it.end_of("j-restart")["error"]["code"] in ("lost", "revoked")
    assert it.run().status_code == 403


@contextlib.contextmanager
def second_orchestrator(it):
    config = it.state.unit("orchestrator") / "config.json"
    argv = [sys.executable, "-m", "dynamos.deploy.unit", "orchestrator", str(config)]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        try:
            for line in process.stderr:
                if '"address"' in line:
                    break
            else:
                raise AssertionError("the second orchestrator did not start")
            threading.Thread(target=process.stderr.read, daemon=True).start()
            yield process
        finally:
            process.terminate()
            process.wait(30)


def test_two_orchestrators_each_hold_their_own_jobs_to_the_agreements(it):
    it.start("hang", "j-two-0")
    running(it, "j-two-0")
    with second_orchestrator(it):
        for number in range(1, 9):
            assert it.start("hang", f"j-two-{number}").status_code == 202
        records = [it.job(f"j-two-{number}") for number in range(9)]
        assert len({record["orchestrator"] for record in records}) == 2
        assert {record["state"] for record in records} == {"running"}
        with it.client() as client:
            for record in records[-2:]:
                assert client.delete(f"/api/v1/jobs/{record['id']}").status_code == 200
        it.agree("north", {**it.agreement("north"), "relations": {}})
        ends = [it.end_of(f"j-two-{number}")["error"]["code"] for number in range(9)]
        assert ends == ["revoked"] * 7 + ["cancelled"] * 2
        it.wait("no service runs", lambda: not services(it))


def test_a_change_is_simulated_for_the_partys_admin_and_stops_nothing(it):
    it.start("hang", "j-simulated")
    running(it, "j-simulated")
    nobody = {"name": "north", "relations": {}}
    path = f"{AGREEMENTS}/north/simulate"
    with it.client() as client:
        assert client.post(path, json=nobody).status_code == 403
    with it.client(ADMIN) as admin:
        told = admin.post(path, json=nobody, params={"past": 50}).raise_for_status().json()
        same = admin.post(path, json=it.agreement("north")).raise_for_status().json()
        assert admin.post(path, json={"relations": 1}).status_code == 400
    assert [(each["job"], each["effect"]) for each in told["running"]] == [("j-simulated", "stopped")]
    assert told["summary"]["past"]["stopped"] >= 1
    assert same["summary"]["running"] == {"untouched": 1}
    assert it.job("j-simulated")["state"] == "running"
    with it.client() as client:
        client.delete("/api/v1/jobs/j-simulated").raise_for_status()


def test_rows_of_what_is_still_permitted_are_exact(it):
    it.agree("north", allowedArchetypes=TTP)
    with it.client() as client:
        answer = client.post("/api/v1/jobs?wait=true", json=it.ask(), headers=ARROW)
    table = pa.ipc.open_stream(answer.content).read_all()
    assert sorted(table["id"].to_pylist()) == list(range(ROWS["north"]))
