"""Several agents and orchestrators at once: upgrades without a lost request, and what is left by one that dies."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from support.replicas import Load, replicas
from support.systems import ADMIN, USER, system


@pytest.fixture(scope="module")
def it():
    with tempfile.TemporaryDirectory(prefix="dynamos-replicas-") as folder, system(Path(folder)) as running:
        yield running


@pytest.fixture
def more(it):
    with tempfile.TemporaryDirectory(prefix="dynamos-more-") as folder, replicas(it, Path(folder)) as make:
        yield make


def load(it, *addresses: str, rate: float = 5.0) -> Load:
    with it.client() as client:
        headers = {"authorization": client.headers["authorization"]}
    bodies = [it.ask(), it.ask(providers=("north", "south"), archetype="dataThroughTtp")]
    return Load(list(addresses) or [it.status.api], headers, bodies, rate)


def running(it, job):
    return it.wait(f"{job} runs", lambda: it.job(job)["state"] == "running")


def start_at_two(it, prefix: str, member) -> dict[str, str]:
    """Start jobs until two instances have some; give whose each is."""
    whose: dict[str, str] = {}
    for number in range(40):
        job = f"{prefix}-{number}"
        it.start("hang", job)
        running(it, job)
        whose[job] = member(it.job(job))
        if len(set(whose.values())) > 1:
            return whose
    raise AssertionError(f"all are of one: {whose}")


def cancel(it, jobs) -> None:
    with it.client() as client:
        for job in jobs:
            client.delete(f"/api/v1/jobs/{job}").raise_for_status()


@pytest.mark.e2e
def test_no_request_is_lost_while_one_of_two_orchestrators_is_replaced(it, more):
    old, new = more("orchestrator", "orchestrator"), more("orchestrator", "orchestrator")
    asking = load(it)
    with asking.running():
        asking.wait(10)
        assert old.stop() == 0
        asking.wait(10)
        assert new.stop() == 0
        asking.wait(5)
    assert asking.bad == []
    lives = {it.job(body["id"])["orchestrator"] for _, body, _ in asking.answers}
    assert len(lives) >= 2


@pytest.mark.e2e
def test_no_request_is_lost_while_the_agents_of_two_parties_are_replaced(it, more):
    old = [more(party, "agent") for party in ("north", "third")]
    asking = load(it)
    with asking.running():
        asking.wait(10)
        for each in old:
            assert each.stop() == 0
            asking.wait(5)
    assert asking.bad == []
    used = {it.job(body["id"])["instances"]["north"] for _, body, _ in asking.answers}
    assert len(used) >= 2


def test_jobs_of_an_orchestrator_that_dies_are_told_lost_by_another_and_only_those(it, more):
    other = more("orchestrator", "orchestrator")
    whose = start_at_two(it, "dies", lambda job: job["orchestrator"])
    other.kill()
    with it.client() as client:
        listed = {job["id"] for job in client.get("/api/v1/jobs").json()["jobs"]}
    assert set(whose) <= listed

    def ended():
        return {job for job in whose if it.job(job)["state"] == "lost"}

    lost = it.wait("some are lost", ended, within=10)
    gone = {whose[job] for job in lost}
    assert len(gone) == 1
    theirs = {job for job, life in whose.items() if life in gone}
    it.wait("all of them are", lambda: ended() == theirs, within=10)
    assert {it.job(job)["error"]["code"] for job in theirs} == {"lost"}
    left = set(whose) - theirs
    assert {it.job(job)["state"] for job in left} == {"running"}
    cancel(it, left)
    assert {it.end_of(job)["state"] for job in left} == {"cancelled"}
    assert it.run().status_code == 200


def test_every_verb_works_whichever_orchestrator_answers(it, more):
    more("orchestrator", "orchestrator")
    whose = start_at_two(it, "verbs", lambda job: job["orchestrator"])
    withdrawn = {**it.agreement("north"), "relations": {}}
    with it.client(ADMIN) as admin, it.client() as client:
        for _ in range(8):
            told = admin.post("/api/v1/policyEnforcer/agreements/north/simulate", json=withdrawn).raise_for_status()
            assert {each["job"] for each in told.json()["running"]} >= set(whose)
            listed = client.get("/api/v1/jobs", params={"state": "running"}).json()["jobs"]
            assert {job["id"] for job in listed} >= set(whose)
            for job in whose:
                assert client.get(f"/api/v1/jobs/{job}").json()["state"] == "running"
    cancel(it, whose)
    assert {it.end_of(job)["state"] for job in whose} == {"cancelled"}


def test_an_agent_that_dies_loses_its_own_parts_and_the_next_requests_run_at_the_other(it, more):
    other = more("north", "agent")
    whose = start_at_two(it, "agent", lambda job: job["instances"]["north"])
    other.kill()
    assert it.run().status_code == 200

    def ended():
        return {job for job in whose if it.job(job)["state"] == "lost"}

    lost = it.wait("some are lost", ended, within=10)
    assert len({whose[job] for job in lost}) == 1
    left = {job for job, at in whose.items() if at not in {whose[each] for each in lost}}
    assert {it.job(job)["state"] for job in left} == {"running"}
    cancel(it, left)
    assert {it.end_of(job)["state"] for job in left} == {"cancelled"}


def test_all_agents_of_a_party_enforce_what_one_of_them_is_told(it, more):
    other = more("north", "agent")
    whose = start_at_two(it, "enforce", lambda job: job["instances"]["north"])
    before = it.agreement("north")
    try:
        it.agree("north", {**before, "relations": {}})
        assert {it.end_of(job, within=10)["error"]["code"] for job in whose} == {"revoked"}
        assert "part.revoked" in other.log
        assert it.run().status_code == 403
    finally:
        it.agree("north", before)
    with it.client() as client:
        told = client.get("/api/v1/getAvailableProviders").json()["north"]
    assert len(told["instances"]) == 2
    assert USER in it.agreement("north")["relations"]
