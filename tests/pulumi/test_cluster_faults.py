"""What a marketplace on a real cluster does at five requests a second, while parts of it and of the cluster die.

Each request ends with its rows or with a clear error, none is run twice, and service is back afterwards. The load comes
from the node of the API's pod: nothing but the marketplace itself is between a request and its answer.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from support.markets import load_ours
from support.places import Place, standing

pytestmark = [pytest.mark.cluster, pytest.mark.soak, pytest.mark.xdist_group("cluster")]
BEFORE, AFTER, AWAY_SECONDS = 5, 10, 30.0


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with standing(tmp_path_factory.mktemp("faults"), "faulty") as found:
        yield found


def lose_a_node(place: Place) -> None:
    victim = next(node.name for node in place.cluster.spec.nodes if node.name != place.node)
    place.cluster.kill(victim)
    threading.Event().wait(AWAY_SECONDS)  # what is shown is what happens meanwhile
    place.cluster.start(victim)
    load_ours(place.cluster, [victim])  # a real node still has its images


def lose_an_agent(place: Place) -> None:
    place.kill_pod("agent", f"{place.name}-registry")


def lose_an_orchestrator(place: Place) -> None:
    place.kill_pod("orchestrator")


def lose_a_server_of_the_bus(place: Place) -> None:
    place.kill_pod("bus")


def lose_the_api_server(place: Place) -> None:
    place.cluster.stop_api()
    try:
        threading.Event().wait(AWAY_SECONDS)  # what is shown is what happens meanwhile
    finally:
        place.cluster.start_api()


@pytest.mark.parametrize(
    "fault",
    [lose_an_agent, lose_an_orchestrator, lose_a_server_of_the_bus, lose_the_api_server, lose_a_node],
    ids=lambda fault: fault.__name__,
)
def test_every_request_ends_well_or_clearly_none_runs_twice_and_service_is_back(place, fault, record_property):
    with place.asked() as load:
        load.wait(BEFORE)
        fault(place)
        load.wait(AFTER)
    place.answers_again()
    codes = Counter("ok" if status == 200 else body.get("code", "") for status, body, _ in load.answers)
    record_property("answers", dict(codes))
    print(fault.__name__, dict(codes), f"longest {max(seconds for _, _, seconds in load.answers):.1f} s")
    for status, body, _ in load.answers:
        assert status >= 200, body  # an answer, and not a connection that broke
        assert (status == 200 and body["state"] == "succeeded") or (status >= 400 and body["code"] and body["detail"])
    rows = {json.dumps([each["rows"] for each in body["results"]]) for status, body, _ in load.answers if status == 200}
    assert len(rows) == 1
    parts = [part for status, body, _ in load.answers if status == 200 for part in body["parts"].values()]
    assert all(len({usage["step"] for usage in part["usages"]}) == len(part["usages"]) for part in parts)
