"""What is killed comes back, and every job ends or is told lost; none runs twice, and nothing is left behind."""

import os
import tempfile
from pathlib import Path

import httpx
import pytest

from support.systems import ADMIN, system


@pytest.fixture(scope="module")
def faulty():
    with tempfile.TemporaryDirectory(prefix="dynamos-faults-") as folder, system(Path(folder)) as it:
        yield it


def parts_running(it, job, state="running"):
    return it.wait(f"{job} {state}", lambda: it.job(job)["state"] == state or None)


def test_a_provider_that_dies_meanwhile_is_lost_and_the_rest_is_answered(faulty):
    faulty.start("slow", "j-provider", providers=("north", "south"))
    parts_running(faulty, "j-provider")
    pid = faulty.kill("south")
    record = faulty.end_of("j-provider")
    assert record["state"] == "partial"
    assert record["parts"]["north"]["state"] == "succeeded"
    assert record["parts"]["south"]["state"] == "lost"
    faulty.wait_renewed("south", pid)
    assert faulty.run(providers=("north", "south")).status_code == 200


def test_a_third_party_that_dies_ends_the_job_and_tells_why(faulty):
    faulty.start("slow", "j-third", providers=("north", "south"), archetype="dataThroughTtp")
    parts_running(faulty, "j-third")
    pid = faulty.kill("third")
    record = faulty.end_of("j-third")
    assert record["state"] in ("failed", "lost")
    assert "third" in str(record["error"])
    faulty.wait_renewed("third", pid)
    assert faulty.run(archetype="dataThroughTtp").status_code == 200


def test_a_provider_that_is_away_before_the_job_is_said_to_be_away(faulty):
    pid = faulty.pid("south")
    os.kill(pid, 19)  # SIGSTOP: it is there and says nothing, as a machine that hangs
    try:
        faulty.wait("south is offline", lambda: "south" not in _providers(faulty) or None, within=20)
        alone = faulty.run(providers=("south",))
        assert alone.status_code == 503
        assert "south" in alone.text
        both = faulty.run(providers=("north", "south"))
        assert both.status_code == 200
        assert any("south" in note for note in both.json()["plan"]["notes"])
    finally:
        os.kill(pid, 18)
    faulty.wait("south is online", lambda: "south" in _providers(faulty) or None, within=20)


def _providers(it):
    with it.client() as client:
        return client.get("/api/v1/getAvailableProviders").json()


def test_an_orchestrator_that_is_killed_tells_its_jobs_lost_and_runs_none_twice(faulty):
    faulty.start("slow", "j-orchestrator")
    parts_running(faulty, "j-orchestrator")
    pid = faulty.kill("orchestrator")
    faulty.wait_renewed("orchestrator", pid)
    record = faulty.end_of("j-orchestrator")
    assert record["state"] == "lost"
    assert record["error"]["code"] == "lost"
    again = faulty.start("slow", "j-orchestrator")
    assert again.json()["state"] == "lost"
    assert faulty.run().status_code == 200


def test_a_bus_that_is_killed_comes_back_with_everything_and_jobs_end(faulty):
    faulty.start("slow", "j-bus")
    parts_running(faulty, "j-bus")
    pid = faulty.kill("bus")
    faulty.wait_renewed("bus", pid)
    record = faulty.end_of("j-bus")
    assert record["state"] in ("succeeded", "lost", "failed", "partial")
    faulty.wait("requests are answered again", lambda: _answers(faulty) or None)


def _answers(it):
    try:
        return it.run().status_code == 200
    except httpx.HTTPError:
        return False


def test_an_api_that_is_killed_comes_back(faulty):
    pid = faulty.kill("api")
    faulty.wait_renewed("api", pid)
    faulty.wait("requests are answered again", lambda: _answers(faulty) or None)


def test_a_client_that_goes_away_cancels_its_job(faulty):
    before = {job["id"] for job in _jobs(faulty)}
    with faulty.client() as client, pytest.raises(httpx.TimeoutException):
        client.post("/api/v1/jobs?wait=true", json=faulty.ask("hang"), timeout=1.0)

    def cancelled():
        new = [job for job in _jobs(faulty) if job["id"] not in before]
        return new and new[0]["state"] == "cancelled"

    faulty.wait("the job is cancelled", cancelled)


def _jobs(it):
    with it.client() as client:
        return client.get("/api/v1/jobs").json()["jobs"]


def test_cancel_ends_a_service_that_ignores_signals(faulty):
    faulty.start("hang", "j-cancel")
    parts_running(faulty, "j-cancel")
    with faulty.client() as client:
        client.delete("/api/v1/jobs/j-cancel").raise_for_status()
    assert faulty.end_of("j-cancel", within=5)["state"] == "cancelled"


def test_the_same_job_id_runs_once(faulty):
    first = faulty.start("rows", "j-same")
    second = faulty.start("rows", "j-same")
    other = faulty.start("rows", "j-same", algorithm="count")
    assert first.status_code == 202
    assert second.status_code in (200, 202)
    assert other.status_code == 409


def test_an_agreement_is_changed_by_its_admin_and_by_nobody_else(faulty):
    path = "/api/v1/policyEnforcer/agreements/north"
    with faulty.client(ADMIN) as admin:
        answer = admin.get(path)
        agreement = answer.raise_for_status().json()
        with faulty.client() as other:
            assert other.put(path, json=agreement).status_code == 403
        revoked = {**agreement, "relations": {}}
        assert admin.put(path, json=revoked).status_code == 200
        refused = faulty.wait("the change holds", lambda: (a := faulty.run()).status_code == 403 and a)
        assert refused.json()["reasons"][0]["code"] == "no-relation"
        assert admin.put(path, json=agreement).status_code == 200
        faulty.wait("the agreement holds again", lambda: faulty.run().status_code == 200)


def test_down_leaves_nothing():
    with tempfile.TemporaryDirectory(prefix="dynamos-down-") as folder:
        mounts = Path("/proc/self/mountinfo").read_text()
        groups = _groups()
        with system(Path(folder)) as it:
            it.run()
            pids = [unit.pid for unit in it.status.units]
        for pid in pids:
            it.wait(f"{pid} is gone", lambda pid=pid: not Path(f"/proc/{pid}").exists() or _is_zombie(pid))
        assert Path("/proc/self/mountinfo").read_text() == mounts
        it.wait("its control groups are gone", lambda: _groups() <= groups)


def _groups():
    return {group for group in Path("/sys/fs/cgroup").glob("*/dynamos-*") if group.is_dir()}


def _is_zombie(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def test_killing_the_supervisor_ends_every_unit():
    with tempfile.TemporaryDirectory(prefix="dynamos-kill-") as folder, system(Path(folder)) as it:
        status = it.status
        os.kill(status.supervisor, 9)
        for unit in status.units:
            it.wait(f"{unit.name} is gone", lambda u=unit: not Path(f"/proc/{u.pid}").exists() or _is_zombie(u.pid))
        it.wait("the supervisor is gone, and its lock", lambda: not it.state.is_held())
        it.up()
        assert it.run().status_code == 200
