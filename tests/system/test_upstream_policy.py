"""Upstream's demonstration, over its own launch files and paths: somebody's agreement gets another archetype."""

import json
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from dynamos.deploy.states import StateFolder
from support.systems import BOUND, System

SHIPPED = Path(__file__).parents[2] / "profiles"
MARKET = SHIPPED / "marketplaces" / "wage-gap"
USER = "jorrit.stutterheim@cloudnation.nl"
PUT = "/api/v1/policyEnforcer"
LONG = "SELECT count(*) AS n FROM Personen p, Aanstellingen s, Personen q, Aanstellingen t WHERE p.Gebdat < t.Salschal"


@pytest.fixture(scope="module")
def upstream():
    with tempfile.TemporaryDirectory(prefix="dynamos-upstream-") as folder:
        Path(folder).chmod(0o755)
        it = System(StateFolder(Path(folder) / "state"), SHIPPED / "upstream.yaml")
        try:
            it.up()
            yield it
        finally:
            it.down()


@pytest.fixture
def client(upstream):
    agreements = json.loads((MARKET / "agreements.json").read_text())
    with httpx.Client(base_url=upstream.status.api, timeout=BOUND, trust_env=False) as client:
        yield client
        for agreement in agreements:
            assert client.put(PUT, json=agreement).text == "OK"


def request(name="wage-gap", **changes):
    body = json.loads((MARKET / "requests" / f"{name}.json").read_text())
    body["data_request"].update(changes)
    return body


def agreement(client, party="UVA", **relation):
    """Give an agreement as upstream's scripts send it: whole, in its own shape, with a changed relation."""
    members = client.get(f"{PUT}/agreements/{party}").json()
    kept = ("ID", "requestTypes", "dataSets", "allowedArchetypes", "allowedComputeProviders")
    own = {name: members["relations"][USER][name] for name in kept if name in members["relations"][USER]}
    return {
        "name": party,
        "relations": {USER: {**own, **relation}},
        "computeProviders": members["computeProviders"],
        "archetypes": members["archetypes"],
    }


def test_the_next_request_runs_under_the_other_archetype_at_once(client):
    before = client.post("/api/v1/requestApproval", json=request()).json()
    assert before["archetypes"] == {"UVA": "computeToData", "VU": "computeToData"}
    for archetypes, found in ((["dataThroughTtp"], "dataThroughTtp"), (["computeToData"], "computeToData")):
        assert client.put(PUT, json=agreement(client, allowedArchetypes=archetypes)).text == "OK"
        after = client.post("/api/v1/requestApproval", json=request())
        assert after.status_code == 200, after.text
        assert after.json()["archetypes"]["UVA"] == found
        assert len(after.json()["responses"]) == len(before["responses"])


def test_a_running_job_is_revoked_where_nothing_is_permitted_any_more(client):
    body = {**request(query=LONG, algorithm=""), "dataProviders": ["UVA"]}
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(client.post, "/api/v1/requestApproval", json=body)
        job = System.wait("a job runs", lambda: _running(client))
        withdrawn = agreement(client)
        withdrawn["relations"] = {}
        assert client.put(PUT, json=withdrawn).text == "OK"
        answer = asking.result(BOUND)
    assert answer.status_code == 403, answer.text
    assert answer.json()["code"] == "revoked"
    assert client.get(f"/api/v1/jobs/{job}").json()["state"] == "cancelled"


def test_a_running_job_is_planned_again_where_another_archetype_is_permitted(client):
    body = {**request(query=LONG, algorithm=""), "dataProviders": ["UVA"], "deadline": "20s"}
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(client.post, "/api/v1/requestApproval", json=body)
        job = System.wait("a job runs", lambda: _running(client))
        assert client.put(PUT, json=agreement(client, allowedArchetypes=["dataThroughTtp"])).text == "OK"
        again = System.wait("another job runs", lambda: _running(client, but=job))
        record = client.get(f"/api/v1/jobs/{again}").json()
        assert client.delete(f"/api/v1/jobs/{again}").status_code == 200
        asking.result(BOUND)
    assert record["replaces"] == job
    assert record["archetypes"] == {"UVA": "dataThroughTtp"}
    assert client.get(f"/api/v1/jobs/{job}").json()["error"]["code"] == "revoked"


def _running(client, but=""):
    jobs = client.get("/api/v1/jobs?state=running").json()["jobs"]
    return next((job["id"] for job in jobs if job["id"] != but), None)
