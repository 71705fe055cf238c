"""A cluster over several sites: pods meet the delays of the profile's links, and faults that sites have."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from cluster import images
from cluster.clusters import Cluster
from cluster.specs import profile_of
from dynamos.kit.errors import DynamosError
from support.clusters import GROUP, Pods, eventually, needs_cluster, shell_pod
from support.wans import netem_needs

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group(GROUP)]
DELAY_MS = 20


@pytest.fixture(scope="module")
def stretched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of three sites in a row, with a node each: there is no link between the first and the last."""
    needs_cluster()
    netem_needs()
    delay = f"{DELAY_MS}ms"
    profile = profile_of(("left", "middle", "right"), 1, [("left", "middle", delay), ("middle", "right", delay)])
    made = Cluster.up(tmp_path_factory.mktemp("stretched"), profile, owner=os.getpid())
    try:
        archive, _ = images.busybox(made.folder)
        made.load(archive)
        made.kubectl("create", "namespace", "sites")
        yield made
    finally:
        made.down()


def is_ready(cluster: Cluster, name: str) -> bool:
    told = json.loads(cluster.kubectl("get", "node", name, "-o", "json"))
    return {each["type"]: each["status"] for each in told["status"]["conditions"]}["Ready"] == "True"


def round_trip(pods: Pods, name: str, address: str) -> float:
    """The shortest of some round trips from a pod: milliseconds."""
    told = pods.shell(name, f"busybox ping -q -c 5 -i 0.1 {address}")
    return float(told.rpartition("= ")[2].split("/")[0])


def test_pods_of_two_sites_meet_the_delay_of_their_links(stretched: Cluster) -> None:
    pods = Pods(stretched, "sites")
    spots = {site: f"{site}-1" for site in ("left", "middle", "right")}
    capable = {"runAsUser": 0, "capabilities": {"add": ["NET_RAW"]}}  # what busybox's ping needs
    found = pods.run(*(shell_pod(site, nodeSelector={"dynamos.dev/site": site}, security=capable) for site in spots))
    near = round_trip(pods, "left", found["middle"])
    far = round_trip(pods, "left", found["right"])
    assert 2 * DELAY_MS <= near < 2 * DELAY_MS + 15
    assert 4 * DELAY_MS <= far < 4 * DELAY_MS + 25
    where = json.loads(pods.kubectl("get", "pods", "-o", "json"))["items"]
    assert {each["metadata"]["name"]: each["spec"]["nodeName"] for each in where} == spots


def test_a_killed_node_is_noticed_and_comes_back(stretched: Cluster) -> None:
    stretched.kill("right-1")
    eventually("the node is lost", lambda: not is_ready(stretched, "right-1"))
    stretched.start("right-1")
    eventually("the node is back", lambda: is_ready(stretched, "right-1"))
    archive, _ = images.busybox(stretched.folder)
    stretched.load(archive, ["right-1"])
    Pods(stretched, "sites").run(shell_pod("again", node="right-1"))


def test_a_node_that_is_cut_off_is_noticed_and_heals(stretched: Cluster) -> None:
    stretched.partition("middle-1")
    eventually("the node is lost", lambda: not is_ready(stretched, "middle-1"))
    stretched.heal("middle-1")
    eventually("the node is back", lambda: is_ready(stretched, "middle-1"))


def test_what_runs_outlives_the_api_server(stretched: Cluster) -> None:
    pods = Pods(stretched, "sites")
    pods.run(shell_pod("steady", "while :; do date; busybox sleep 0.2; done", node="left-1"))
    stretched.stop_api()
    with pytest.raises(DynamosError):
        pods.kubectl("get", "pods", "--request-timeout=2s")
    stretched.start_api()
    assert pods.kubectl("get", "pod", "steady", "-o", "jsonpath={.status.phase}") == "Running"
