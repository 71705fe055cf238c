"""A network for each job: made before its parts start, of just its parts, and removed when it ends, however it ends."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dynamos.kit.errors import BadInput
from dynamos.model.profiles import Profile
from dynamos.testbed.items import Container
from dynamos.testbed.scopes import job_overlay, slots
from dynamos.testbed.wanted import wanted
from support.sites import Sites, profile_of, sites

BOTH = ("north", "south")
system = [pytest.mark.testbed, pytest.mark.system, pytest.mark.xdist_group("testbed")]


def profile(driver: str) -> Profile:
    return Profile.model_validate(profile_of(Path("/market"), {"driver": driver, "scope": "request"}))


@pytest.mark.parametrize("driver", ["none", "vxlan"])
def test_all_sites_work_out_the_same_network_and_no_two_jobs_share_an_address(driver):
    plan = profile(driver)
    state = wanted(plan)
    seen: set[str] = {each.address.partition("/")[0] for each in state.of(Container).values()}
    for slot in (0, 1, slots(plan) - 1):
        overlay = job_overlay(plan, state, slot, ("third", "south"))
        assert overlay == job_overlay(plan, wanted(plan), slot, ("third", "south"))
        assert [seat.node for seat in overlay.seats] == ["hub-1", "west-1"]
        names = [seat.container for seat in overlay.seats]
        assert names == [f"request-{slot}-third", f"request-{slot}-south"]
        addresses = {seat.address for seat in overlay.seats}
        assert len(addresses) == 2
        assert not addresses & seen
        seen |= addresses


def test_what_no_site_can_make_is_refused():
    plan = profile("none")
    with pytest.raises(BadInput, match="slot"):
        job_overlay(plan, wanted(plan), slots(plan), BOTH)
    with pytest.raises(BadInput, match="nobody"):
        job_overlay(plan, wanted(plan), 0, ("north", "nobody"))


@pytest.fixture(scope="module", params=["none", "vxlan"])
def testbed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    with sites(tmp_path_factory.mktemp("scoped"), driver=request.param, scope="request") as found:
        yield found


def gone(testbed: Sites) -> None:
    """Wait until nothing of a job's network is left: containers, records of it, devices and rules at nodes."""
    testbed.wait("the containers of jobs are gone", lambda: not testbed.request_boxes())
    for site in ("east", "west", "hub"):
        folder = testbed.state.unit(f"network-{site}") / "networks"
        testbed.wait("no network is under way", lambda folder=folder: not list(folder.glob("*")))
    for node in testbed.world.nodes():
        assert "request-" not in node.run(["ip", "-o", "link"]).text
        assert "overlay_" not in node.run(["nft", "list", "tables"]).text


def ups(testbed: Sites) -> list[float]:
    """Give how long each job's network took to make, in milliseconds."""
    lines = (testbed.state.unit("orchestrator") / "log.jsonl").read_text().splitlines()
    told = [json.loads(line) for line in lines if "network.up" in line]
    return [each["prepare_ms"] + each["join_ms"] for each in told]


class TestJobs:
    pytestmark = system

    def test_jobs_at_the_same_time_are_all_right_and_leave_nothing(self, testbed: Sites):
        def run(number: int) -> str:
            answer = testbed.run("rows", providers=BOTH, archetype="dataThroughTtp", jobId=f"many-{number}")
            assert answer.json().get("state") == "succeeded", answer.text
            moved = [t["rows"] for p in answer.json()["parts"].values() for t in p["transfers"] if "@" not in t["edge"]]
            return f"{sorted(moved)}"

        with ThreadPoolExecutor(12) as pool:
            answers = set(pool.map(run, range(12)))
        assert len(answers) == 1, answers
        gone(testbed)
        took = ups(testbed)
        print(f"set-up of a job's network: p50 {statistics.median(took):.0f} ms of {len(took)}")

    def test_while_a_job_runs_its_network_joins_its_parts_and_nobody_else(self, testbed: Sites):
        testbed.start("slow", "alone", providers=BOTH, archetype="dataThroughTtp")
        testbed.wait("the job runs", lambda: testbed.job("alone")["state"] == "running")
        boxes = {box.name: box for node in testbed.world.nodes() for box in node.containers()}
        inside = {name.split("-", 2)[2]: box for name, box in boxes.items() if name.startswith("request-")}
        assert set(inside) == {"north", "south", "third"}
        address = inside["third"].run(["ip", "-4", "-o", "addr", "show", "scope", "global"]).text.split()[3]
        ask = (
            "import socket\ntry: socket.create_connection((%r, 8815), 1); print('through')\n"
            "except OSError as error: print(type(error).__name__)"
        )
        words = ["python3", "-c", ask % address.partition("/")[0]]
        assert inside["north"].run(words).text.strip() == "through"
        for outsider in (boxes["north"], boxes["south"], testbed.world.find_node("east-1")):
            assert outsider.run(words).text.strip() != "through", outsider
        assert testbed.end_of("alone")["state"] == "succeeded"
        gone(testbed)

    def test_a_job_that_fails_or_is_cancelled_leaves_nothing(self, testbed: Sites):
        assert testbed.run("crash", providers=BOTH, archetype="dataThroughTtp").json()["code"] == "crashed"
        testbed.start("hang", "stopped", providers=BOTH, archetype="dataThroughTtp")
        testbed.wait("the job runs", lambda: testbed.job("stopped")["state"] == "running")
        with testbed.client() as client:
            client.delete("/api/v1/jobs/stopped")
        assert testbed.end_of("stopped")["state"] == "cancelled"
        gone(testbed)

    def test_an_agent_that_is_killed_in_the_middle_leaves_nothing(self, testbed: Sites):
        testbed.start("hang", "killed", providers=BOTH, archetype="dataThroughTtp")
        testbed.wait("the job runs", lambda: testbed.job("killed")["state"] == "running")
        pid = testbed.kill("third")
        assert testbed.end_of("killed")["state"] in ("lost", "failed")
        gone(testbed)
        testbed.wait_renewed("third", pid)
        answer = testbed.run("rows", providers=BOTH, archetype="dataThroughTtp")
        assert answer.json().get("state") == "succeeded", answer.text

    def test_a_helper_that_is_killed_in_the_middle_removes_in_its_next_life_what_it_made(self, testbed: Sites):
        testbed.start("hang", "orphaned", providers=BOTH, archetype="dataThroughTtp", deadline="8s")
        testbed.wait("the job runs", lambda: testbed.job("orphaned")["state"] == "running")
        pid = testbed.kill("network-west")
        testbed.wait_renewed("network-west", pid)
        testbed.wait("it has cleared up", lambda: not [n for n in testbed.request_boxes() if n.endswith("south")])
        testbed.end_of("orphaned")
        gone(testbed)

    def test_a_job_of_one_party_needs_no_network(self, testbed: Sites):
        before = len(ups(testbed))
        answer = testbed.run("rows", providers=("north",), archetype="computeToData")
        assert answer.json().get("state") == "succeeded", answer.text
        assert len(ups(testbed)) == before
