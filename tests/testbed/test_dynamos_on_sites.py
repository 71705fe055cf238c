"""DYNAMOS over sites with networks of their own: what is asked is answered as on one machine, and what happens to
networks is survived and told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dynamos.deploy.states import Phase
from support.sites import Sites, sites
from support.worlds import machine_state

pytestmark = [pytest.mark.testbed, pytest.mark.system, pytest.mark.xdist_group("testbed")]
BOTH = ("north", "south")


TIMELINE = (
    {"at": "0.4s", "action": "heal", "link": "east-west"},
    {"at": "0.1s", "action": "silence", "link": "east-west"},
)


@pytest.fixture(scope="module")
def testbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    before = machine_state()
    with sites(tmp_path_factory.mktemp("sited"), timeline=TIMELINE) as found:
        yield found
    assert machine_state() == before


def test_the_time_line_of_the_profile_happens_and_is_told(testbed: Sites):
    told = testbed.wait(
        "both faults have happened",
        lambda: (found := cli_json(testbed, "timeline")) and all("done" in each for each in found["faults"]) and found,
    )
    assert [(each["fault"]["action"], each["state"]) for each in told["faults"]] == [
        ("silence", "happened"), ("heal", "happened"),
    ]  # fmt: skip
    assert all(each["began"] >= each["planned"] for each in told["faults"])
    assert testbed.wan.links()["east-west"].state == "up"
    assert cli_json(testbed, "show")["timeline"] == told
    pid = testbed.kill("timeline")
    testbed.wait_renewed("timeline", pid)
    assert cli_json(testbed, "timeline") == told, "what has happened does not happen again"


def network_of(pid: int) -> int:
    return Path(f"/proc/{pid}/ns/net").stat().st_ino


def test_every_unit_is_at_its_site(testbed: Sites):
    nets = {node.name: network_of(node.pid) for node in testbed.world.nodes()}
    at = {name: network_of(testbed.pid(name)) for name in ("bus", "orchestrator", "api", *BOTH)}
    assert at["bus"] == at["orchestrator"] == at["api"] == nets["hub-1"]
    assert (at["north"], at["south"]) == (nets["east-1"], nets["west-1"])
    own = network_of(os.getpid())
    assert own not in at.values()


def cli_json(testbed: Sites, verb: str) -> dict[str, Any]:
    """Give what a verb of `dynamos testbed` says."""
    argv = [sys.executable, "-m", "dynamos.cli.main", "testbed", verb, "--format", "json"]
    argv += ["--state", str(testbed.state.root.parent), "--testbed", testbed.state.root.name]
    return dict(json.loads(subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60).stdout))


def received(testbed: Sites, container: str) -> int:
    """Give how many bytes have come into a container by its networks."""
    told = json.loads(testbed.box(container).run(["ip", "-s", "-j", "link"]).text)
    return sum(device["stats64"]["rx"]["bytes"] for device in told if device["ifname"] != "lo")


def test_streams_go_by_the_parties_own_containers(testbed: Sites):
    before = received(testbed, "third")
    answer = testbed.run("rows", providers=BOTH, archetype="dataThroughTtp")
    assert answer.json().get("state") == "succeeded", answer.text
    moved = sum(transfer["bytes"] for part in answer.json()["parts"].values() for transfer in part["transfers"])
    assert received(testbed, "third") - before > 0.4 * moved > 0


def test_a_party_that_nobody_granted_anything_reaches_no_other(testbed: Sites):
    """Before and after a job, from the container of a party: other parties, nodes, and the world outside."""
    ask = (
        "import socket\ntry: socket.create_connection((%r, %d), 1); print('through')\n"
        "except OSError as error: print(type(error).__name__)"
    )
    south = testbed.box("south")
    third = testbed.box("third").run(["ip", "-4", "-o", "addr", "show", "scope", "global"]).text.split()[3]
    places = [(third.partition("/")[0], 8815), ("198.18.2.11", 4222), ("198.18.0.1", 22), ("127.0.0.1", 8815)]
    for host, port in places[:3]:
        said = south.run(["python3", "-c", ask % (host, port)]).text.strip()
        assert said != "through", f"{host}:{port}"


def test_a_site_that_loses_the_hub_comes_back_by_itself(testbed: Sites):
    for link in ("west-hub", "east-west"):
        testbed.wan.silence(link)
    try:
        testbed.wait("the party counts as gone", lambda: "south" not in testbed.online())
        assert testbed.run("rows", providers=("north",)).json()["state"] == "succeeded"
    finally:
        for link in ("west-hub", "east-west"):
            testbed.wan.heal(link)
    pid = testbed.pid("south")
    testbed.wait("the party is back", lambda: "south" in testbed.online())
    assert testbed.run("rows", providers=("south",)).json()["state"] == "succeeded"
    assert testbed.pid("south") == pid, "its agent was not started again for that"


def test_a_site_without_power_in_the_middle_of_a_job_is_named(testbed: Sites):
    testbed.start("slow", "dark", providers=("south",), archetype="computeToData")
    testbed.wait("the job runs", lambda: testbed.job("dark")["state"] == "running")
    testbed.wan.power("west", on=False)
    try:
        record = testbed.end_of("dark")
    finally:
        testbed.wan.power("west", on=True)
    assert record["state"] in ("lost", "failed"), record
    assert "west" in json.dumps(record["error"])
    testbed.wait("the party is back", lambda: "south" in testbed.online())


def test_a_link_to_the_hub_that_is_cut_in_the_middle_of_a_job_is_named(testbed: Sites):
    testbed.start("slow", "parted", providers=("south",), archetype="computeToData")
    testbed.wait("the job runs", lambda: testbed.job("parted")["state"] == "running")
    testbed.wan.cut("west-hub")
    try:
        record = testbed.end_of("parted")
    finally:
        testbed.wan.heal("west-hub")
    assert record["state"] == "lost", record
    assert record["error"]["message"].startswith("west-hub is cut: "), record["error"]
    assert (record["error"]["code"], record["error"]["link"]) == ("link-cut", "west-hub")
    assert "dynamos link heal" in record["error"]["hint"]
    testbed.wait("the party is back", lambda: "south" in testbed.online())


def test_a_helper_that_was_killed_comes_back_and_agents_find_it(testbed: Sites):
    pid = testbed.kill("network-west")
    testbed.wait_renewed("network-west", pid)
    answer = testbed.run("rows", providers=BOTH, archetype="dataThroughTtp")
    assert answer.json().get("state") == "succeeded", answer.text


def test_a_carrier_that_was_killed_fails_its_job_and_the_next_one_has_another(testbed: Sites):
    inside = testbed.box("third")
    killed = inside.run(["sh", "-c", "kill -9 -1; true"])
    assert killed.code == 0
    answer = testbed.run("rows", providers=BOTH, archetype="dataThroughTtp")
    assert answer.json().get("state") == "succeeded", answer.text


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    """Where rows take some seconds from `east` to `hub`, while the control site, `west`, reaches both."""
    with sites(tmp_path_factory.mktemp("far"), control="west", rate="8mbit") as found:
        yield found


def begin(far: Sites, job: str) -> None:
    """Start a job, and wait until its rows are on their way."""
    before = received(far, "third")
    query = "SELECT a.id, b.amount FROM things a CROSS JOIN things b LIMIT 200000"
    far.start("rows", job, providers=("north",), archetype="dataThroughTtp", query=query)
    far.wait("rows come", lambda: received(far, "third") - before > 300_000)


def test_a_link_that_is_cut_for_a_moment_loses_no_row(far: Sites):
    begin(far, "moment")
    far.wan.cut("east-hub")
    here = received(far, "third")
    assert far.job("moment")["state"] == "running"
    far.wan.heal("east-hub")
    record = far.end_of("moment")
    assert record["state"] == "succeeded", record["error"]
    assert received(far, "third") > here
    assert sum(t["rows"] for t in record["parts"]["north"]["transfers"]) == 200_000


@pytest.mark.parametrize("fault", ["cut", "silence"])
def test_a_link_that_stays_so_ends_the_job_and_is_named(far: Sites, fault: str):
    begin(far, fault)
    getattr(far.wan, fault)("east-hub")
    try:
        record = far.end_of(fault)
    finally:
        far.wan.heal("east-hub")
    state = {"cut": "cut", "silence": "silent"}[fault]
    assert record["state"] == "failed", record
    assert record["error"]["message"].startswith(f"east-hub is {state}: "), record["error"]
    assert record["error"]["link"] == "east-hub"


def test_when_the_world_is_killed_nothing_of_it_stays(tmp_path: Path):
    before = machine_state()
    with sites(tmp_path) as found:
        pids = [found.pid(name) for name in ("bus", "api", "north")]
        os.kill(found.world.pid, signal.SIGKILL)
        found.wait("the testbed has noticed", lambda: found.status.phase == Phase.FAILED)
        assert "world" in found.status.error["message"]
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
        assert machine_state() == before
