"""What a marketplace on a real cluster does at five requests a second, while parts of it and of the cluster die.

Each request ends with its rows or with a clear error, none is run twice, and service is back afterwards. The load comes
from the node of the API's pod: nothing but the marketplace itself is between a request and its answer.
"""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from cluster.clusters import Cluster
from cluster.specs import profile_of

from dynamos.deploy.provisioning import token_for
from dynamos.deploy.states import StateFolder
from dynamos.testbed.wanted import PORTS
from support.clusters import eventually, needs_cluster
from support.markets import Market, load_ours, market
from support.replicas import Load

pytestmark = [pytest.mark.cluster, pytest.mark.soak, pytest.mark.xdist_group("cluster")]
USER = "meg@united.example"
NODES = 3
MORE = "  busReplicas: 3\n  orchestrators: 2\n  agents: 2\n"
BODY = {
    "type": "sqlDataRequest",
    "providers": ["registry"],
    "query": "SELECT manufacturer, year FROM planes WHERE year IS NOT NULL",
    "algorithm": "mean",
    "algorithmColumns": {"group": "manufacturer", "value": "year"},
    "deadline": "20s",
}
BEFORE, AFTER, AWAY_SECONDS, BACK_SECONDS = 5, 10, 30.0, 180.0


class Place:
    """The marketplace, where its pods are, and how it is asked."""

    def __init__(self, made: Market, cluster: Cluster) -> None:
        self.name, self.cluster = made.name, cluster
        token = token_for(StateFolder(made.state / made.name), USER)
        self.headers = {"authorization": f"Bearer {token}"}

    def pods(self, role: str, namespace: str = "") -> list[dict]:
        """The pods of a role that are not on their way out."""
        where = namespace or self.name
        told = self.cluster.kubectl("-n", where, "get", "pods", "-l", f"dynamos.dev/role={role}", "-o", "json")
        return [each for each in json.loads(told)["items"] if "deletionTimestamp" not in each["metadata"]]

    def kill_pod(self, role: str, namespace: str = "") -> None:
        """Have one pod of a role end at once, without a word."""
        victim = self.pods(role, namespace)[0]["metadata"]["name"]
        self.cluster.kubectl("-n", namespace or self.name, "delete", "pod", victim, "--grace-period=0", "--force")

    def load(self) -> Load:
        (api,) = self.pods("api")
        self.node = api["spec"]["nodeName"]
        return Load([f"http://{api['status']['podIP']}:{PORTS['api']}"], self.headers, [BODY])

    @contextmanager
    def asked(self) -> Iterator[Load]:
        """Ask all the time during the block, from the node of the API."""
        load, stop, begun = self.load(), threading.Event(), threading.Event()

        def play() -> None:
            with load.running():
                begun.set()
                stop.wait()

        thread = threading.Thread(target=lambda: self.cluster.inside(play, self.node))
        thread.start()
        try:
            assert begun.wait(30)
            yield load
        finally:
            stop.set()
            thread.join()

    def answers_again(self) -> None:
        """Wait until requests bring their rows again, several in a row."""

        last: list[object] = []

        def well() -> bool:
            load = self.load()

            def play() -> None:
                for number in range(3):
                    load._ask(number)

            self.cluster.inside(play, self.node)
            last[:] = load.bad
            return not last

        try:
            eventually("requests are answered again", well, within=BACK_SECONDS)
        except AssertionError as error:
            raise AssertionError(f"{error}: {last}") from None


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    needs_cluster()
    folder = tmp_path_factory.mktemp("faults")
    cluster = Cluster.up(folder / "cluster", profile_of(nodes=NODES, name="faults"), owner=os.getpid())
    try:
        with market(cluster, folder, "faulty") as made:
            made.write(MORE)
            made.stack.up()
            place = Place(made, cluster)
            place.answers_again()
            yield place
    finally:
        cluster.down()


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
