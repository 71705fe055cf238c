"""A strategy from outside sees and sets how a whole system adapts, and what it sets outlives the orchestrator."""

from __future__ import annotations

import httpx
import jsonschema
import pytest

from dynamos.deploy.provisioning import token_for
from support.systems import BOUND

BASE = "/api/v1/adaptation"
PIN = {"requestType": "rows", "provider": "north", "archetype": "dataThroughTtp", "computeProvider": "third"}


@pytest.fixture
def strategy(running):
    """A client of an admin of the marketplace; what it has set is taken back."""
    headers = {"authorization": f"Bearer {token_for(running.state, 'operator', operates=True)}"}
    with httpx.Client(base_url=running.status.api, headers=headers, timeout=BOUND, trust_env=False) as client:
        yield client
        client.put(f"{BASE}/execute", json={"planner": "", "pins": []}).raise_for_status()


def asked(client, place):
    """Give an answer, held to its schema as UPISAS holds it."""
    schema, answer = (client.get(f"{BASE}/{place}{end}").raise_for_status().json() for end in ("_schema", ""))
    jsonschema.validate(answer, schema)
    assert sorted(answer) == sorted(schema["properties"])
    return answer


def test_what_it_sees_is_whole_and_holds_to_the_schemas(running, strategy):
    running.run()
    seen, options = asked(strategy, "monitor"), asked(strategy, "adaptation_options")
    assert set(seen["parties"]) == {"north", "south", "third"}
    assert all(party["online"] for party in seen["parties"].values())
    assert seen["parties"]["third"]["load"]["capacity"] >= 1
    assert seen["jobs"][0]["timings"]["run_ms"] > 0
    assert {"weights", "cost-model", "fixed"} <= set(options["planner"])
    for schema in options["plannerOptions"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    assert PIN in options["pins"]


def test_a_pin_moves_the_next_request_and_outlives_the_orchestrator(running, strategy):
    before = running.run().json()
    schema = strategy.get(f"{BASE}/execute_schema").raise_for_status().json()
    done = strategy.put(f"{BASE}/execute", json={"pins": [PIN]}).raise_for_status().json()
    jsonschema.validate(done, schema)
    after = running.run().json()
    running.wait_renewed("orchestrator", running.kill("orchestrator"))
    later = running.run().json()
    assert before["plan"]["archetypes"] == {"north": "computeToData"}
    assert after["plan"]["archetypes"] == later["plan"]["archetypes"] == {"north": "dataThroughTtp"}
    assert after["plan"]["compute"] == {"north": "third"}
    assert asked(strategy, "monitor")["steering"] == done


def test_an_agreement_that_is_narrowed_is_stronger_than_a_pin(running, strategy):
    strategy.put(f"{BASE}/execute", json={"pins": [PIN]}).raise_for_status()
    whole = running.agreement("north")
    running.agree("north", allowedArchetypes=["computeToData"])
    try:
        answer = running.run().json()
        refused = strategy.put(f"{BASE}/execute", json={"pins": [PIN]})
    finally:
        running.agree("north", whole)
    assert answer["plan"]["archetypes"] == {"north": "computeToData"}
    assert any("was not followed" in note for note in answer["plan"]["notes"])
    assert (refused.status_code, refused.json()["code"]) == (403, "pin-not-permitted")


def test_another_planner_decides_the_next_request(running, strategy):
    options = {"archetype": "dataThroughTtp"}
    strategy.put(f"{BASE}/execute", json={"planner": "fixed", "plannerOptions": options}).raise_for_status()
    assert running.run().json()["plan"]["archetypes"] == {"north": "dataThroughTtp"}
    wrong = strategy.put(f"{BASE}/execute", json={"planner": "fixed", "plannerOptions": {"archetpye": "x"}})
    assert wrong.status_code == 400
    assert asked(strategy, "monitor")["steering"]["plannerOptions"] == options
