"""Marketplaces on a cluster of several nodes, and requests to them while they, or the cluster, are changed."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster.clusters import Cluster
from cluster.specs import profile_of

from dynamos.deploy.provisioning import token_for
from dynamos.deploy.states import StateFolder
from dynamos.testbed.wanted import PORTS
from support.clusters import eventually, needs_cluster
from support.markets import Market, market
from support.replicas import Load

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
BACK_SECONDS = 180.0


class Place:
    """The marketplace, where its pods are, and how it is asked."""

    def __init__(self, made: Market, cluster: Cluster) -> None:
        self.name, self.cluster, self.market = made.name, cluster, made
        token = token_for(StateFolder(made.state / made.name), USER)
        self.headers = {"authorization": f"Bearer {token}"}

    def pods(self, role: str, namespace: str = "") -> list[dict[str, Any]]:
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


@contextmanager
def standing(folder: Path, name: str, more: str = MORE) -> Iterator[Place]:
    """A cluster with a marketplace of several instances of each unit, which answers. Both end with the block."""
    needs_cluster()
    cluster = Cluster.up(folder / "cluster", profile_of(nodes=NODES, name=name), owner=os.getpid())
    try:
        with market(cluster, folder, name) as made:
            made.write(more)
            made.stack.up()
            place = Place(made, cluster)
            place.answers_again()
            yield place
    finally:
        cluster.down()
