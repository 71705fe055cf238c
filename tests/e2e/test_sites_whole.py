"""Whole testbeds with networks, as a person uses them: what must be shown of them, with its figures."""

import os
import random
import re
import signal
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import get_args

import httpx
import pytest

from dynamos.deploy import profiles
from dynamos.deploy.provisioning import token_for
from dynamos.model.networks import DriverName
from dynamos.model.profiles import Profile
from dynamos.testbed import apply
from dynamos.testbed.namespaced import NamespacesGround
from dynamos.testbed.overlays import networks, registry
from dynamos.testbed.overlays.drivers import Member, Network
from dynamos.testbed.proofs import programs
from dynamos.testbed.proofs.captures import way_device
from dynamos.testbed.proofs.rehearsals import ring
from dynamos.testbed.proofs.subjects import Subject
from dynamos.testbed.wanted import wanted
from dynamos.testbed.worlds import World
from support.overlays import unable
from support.soaks import soaking
from support.typed import ANN, SUMS, Typed
from support.worlds import Held, eventually, machine_state

pytestmark = [pytest.mark.e2e, pytest.mark.testbed, pytest.mark.skipif(bool(unable()), reason=unable())]

BULK, ROUNDS = 8 * 2**20, 5
SOON = ("wireguard",)
"""Drivers that are seen in whole testbeds each time; the cases of the contract try every driver each time."""


def write_profile(folder: Path, name: str, *lines: str) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text("\n".join((f"name: {name}", *lines)) + "\n")
    return path


def sums(typed, *words):
    """The answers to one request, by who gave the rows."""
    found = typed.asked("request", *ANN, "-p", "united", "-p", "jetblue", *SUMS, *words)
    return {" ".join(each["providers"]): sorted(map(str, each["rows"])) for each in found["results"]}


@pytest.fixture(scope="module")
def right(tmp_path_factory):
    """What the request answers where nothing is between the parties."""
    typed = Typed(tmp_path_factory.mktemp("laptop"))
    typed("up", "laptop")
    try:
        return sums(typed)
    finally:
        typed("down", "--purge")


def subject_of(typed, name):
    folder = typed.folder(name)
    return Subject.find(profiles.load(Path(folder.read_status().profile)), folder.world)


def test_three_sites_from_nothing_to_an_answer_and_back(typed, right, figure):
    before = machine_state()
    began = time.monotonic()
    typed("up", "three-sites")
    ready = time.monotonic()
    assert sums(typed) == right
    answered = time.monotonic()
    took = [time.monotonic()]
    for _ in range(ROUNDS):
        assert sums(typed) == right
        took.append(time.monotonic())
    typed("down")
    figure("three-sites: dynamos up", f"{ready - began:.1f} s")
    figure("three-sites: up to first answered request", f"{answered - began:.1f} s")
    figure("three-sites: a request, median", f"{_median_gap(took):.2f} s")
    figure("three-sites: dynamos down", f"{time.monotonic() - took[-1]:.1f} s")
    assert machine_state() == before


def test_links_are_as_declared(typed, figure):
    typed("up", "three-sites")
    found = typed.asked("testbed", "verify")
    assert all(not pair["deviations"] for pair in found["pairs"])
    apart = max(abs(p["measured"]["delay"] - p["declared"]["delay"]) for p in found["pairs"])
    rates = [p["measured"]["rate"] / p["declared"]["rate"] for p in found["pairs"]]
    figure("three-sites: links measured", f"in {found['seconds']:.1f} s; delay within {apart * 1e3:.2f} ms, rate "
           f"{min(rates):.2f} to {max(rates):.2f} of what is declared")  # fmt: skip


@pytest.mark.parametrize("times", [3, soaking(10)])
def test_a_world_killed_at_any_moment_leaves_nothing(typed, figure, times):
    before, moments = machine_state(), random.Random(times)
    for _ in range(times):
        typed("up", "three-sites")
        world = World.find(typed.folder("three-sites").world)
        with Held(world, *world.nodes()) as held:
            time.sleep(moments.uniform(0.0, 1.0))  # the moment is what is tried
            os.kill(world.pid, signal.SIGKILL)
            eventually("the end of everything inside", lambda held=held: not held.inhabitants())
        eventually("the end of the supervisor", lambda: not typed.folder("three-sites").is_held())
        typed("down")
        assert machine_state() == before
    figure("SIGKILL of the world", f"{times} times, nothing left")


@pytest.mark.soak
@pytest.mark.parametrize("driver", [name if name in SOON else soaking(name) for name in get_args(DriverName)])
def test_every_driver_over_three_sites(typed, tmp_path, right, figure, driver):
    before = machine_state()
    overlay = f"overlay: {{driver: {driver}, scope: request}}"
    typed("up", write_profile(tmp_path, "mine", "extends: three-sites", overlay))
    subject = subject_of(typed, "mine")
    if lacks := registry.driver(driver).missing(subject.world.nodes()[0]):
        pytest.skip("; ".join(map(str, lacks)))
    assert sums(typed) == right
    assert sums(typed, "--archetype", "dataThroughTtp", "--compute-provider", "safety-board") == right
    isolation = typed.asked("testbed", "isolation")
    assert isolation["holds"]
    canaries = typed.asked("testbed", "canary")
    assert canaries["holds"]
    assert (
        any(any(each["seen"].values()) for each in canaries["canaries"])
        is not registry.driver(driver).capabilities.encrypts
    )
    inside, outside = _paths(subject, driver)
    figure(f"{driver}: through it / beside it", f"{inside} / {outside}; {isolation['tries']} tries hold")
    typed("down")
    assert machine_state() == before


def _paths(subject, driver):
    """Prove the MTU, and give rate and round trip between two containers in a rehearsed overlay and between their
    nodes, in turn."""
    hosts = subject.hosts()
    with subject.playing(ring) as acts:
        overlay = acts[0].overlay
        made = Network(overlay.name, overlay.number, overlay.subnet, overlay.mtu, overlay.options)
        hosts = subject.hosts()
        members = [
            Member(seat.container, hosts[seat.container], hosts[seat.node], seat.underlay, seat.address)
            for seat in overlay.seats
        ]
        assert networks.verify_mtu(made, members, registry.driver(driver)) == []
        one, other = overlay.seats[:2]
        assert way_device(hosts[one.node], other.underlay)
        ends = [(hosts[other.container], {"ports": [("tcp", 8815)]}), (hosts[other.node], {"ports": [("tcp", 8816)]})]
        inside, outside = [], []
        with programs.started("listen", ends):
            for _ in range(ROUNDS):
                inside.append(_transfer(hosts[one.container], other.address, 8815))
                outside.append(_transfer(hosts[one.node], other.underlay, 8816))
    return _told(inside), _told(outside)


def _transfer(host, address, port):
    """The seconds that a short word and a long one take, there and back."""
    seconds = []
    for times in (1, BULK // 8):
        knock = {"address": address, "protocol": "tcp", "port": port, "token": "a1", "text": "12345678", "times": times}
        began = time.monotonic()
        assert programs.answers(host, "knock", {"patience": 60.0, "knocks": [knock]}, within=90.0) == [str(8 * times)]
        seconds.append(time.monotonic() - began)
    return seconds


def _told(rounds):
    short = statistics.median(each[0] for each in rounds)
    bulk = statistics.median(each[1] - each[0] for each in rounds)
    return f"{8 * BULK / bulk / 1e6:.0f} Mbit/s, connect and answer {short * 1e3:.0f} ms"


def test_two_testbeds_at_once_are_independent(typed, tmp_path, right):
    overlay = "overlay: {driver: vxlan, scope: request}"
    one = write_profile(tmp_path, "one", "extends: three-sites", overlay)
    two = write_profile(tmp_path, "two", "extends: three-sites")
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda path: typed("up", path), (one, two)))
    for name in ("one", "two"):
        assert sums(typed, "-t", name) == right
    typed("link", "cut", "amsterdam-tokyo", "-t", "one")
    links = {name: typed.asked("link", "list", "-t", name) for name in ("one", "two")}
    states = {name: [link["state"] for link in found] for name, found in links.items()}
    assert states == {"one": ["up", "up", "cut"], "two": ["up", "up", "up"]}
    typed("down", "-t", "one")
    assert sums(typed, "-t", "two") == right
    assert typed.asked("testbed", "isolation", "-t", "two")["holds"]


@pytest.mark.soak
def test_ten_sites_answer(typed, right, figure):
    began = time.monotonic()
    typed("up", "ten-sites")
    ready = time.monotonic()
    assert sums(typed) == right
    figure("ten-sites: up, then a request", f"{ready - began:.1f} s, {time.monotonic() - ready:.2f} s")
    assert typed.asked("testbed", "isolation")["holds"]


def test_fifty_sites_on_one_machine(tmp_path, figure):
    before = machine_state()
    names = [f"site-{number}" for number in range(50)]
    chords = [(number, number + step) for step in (1, 7) for number in range(50 - step)]
    links = [{"between": [names[a], names[b]], "delay": f"{2 + a % 9}ms", "rate": "50mbit"} for a, b in chords]
    sites = {name: {"parties": [f"party-{name}"]} for name in names}
    overlay = {"driver": "vxlan", "scope": "marketplace"}
    profile = Profile.model_validate(
        {"name": "fifty", "marketplace": "none", "driver": "namespaces", "sites": sites, "links": links,
         "overlay": overlay}
    )  # fmt: skip
    ground = NamespacesGround(tmp_path / "world")
    free = _available()
    began = time.monotonic()
    try:
        apply.up(ground, wanted(profile))
        took, used = time.monotonic() - began, free - _available()
        assert apply.up(ground, wanted(profile)) == ()
        figure("fifty sites, 92 links, one overlay", f"{took:.1f} s, {used / 2**20:.0f} MiB")
    finally:
        began = time.monotonic()
        apply.down(ground)
    figure("fifty sites: down", f"{time.monotonic() - began:.1f} s")
    assert machine_state() == before


@pytest.mark.parametrize(("driver", "many"), [("wireguard", 10), soaking("vxlan", 50), soaking("wireguard", 50)])
def test_concurrent_requests_have_a_network_each(typed, tmp_path, right, figure, driver, many):
    overlay = f"overlay: {{driver: {driver}, scope: request}}"
    settings = "settings: {concurrentJobs: 50, deadline: 5m}"
    typed("up", write_profile(tmp_path, "many", "extends: three-sites", overlay, settings))
    folder = typed.folder("many")
    address, token = folder.read_status().api, token_for(folder, ANN[1])
    body = {
        "type": "sqlDataRequest", "user": {"userName": ANN[1]}, "providers": ["united", "jetblue"], "query": SUMS[1],
        "algorithm": "sum", "algorithmColumns": {"group": "origin", "value": "dep_delay"},
        "archetype": "dataThroughTtp", "computeProvider": "safety-board",
    }  # fmt: skip
    headers = {"authorization": f"Bearer {token}", "accept": "application/json"}

    def ask(_):
        with httpx.Client(base_url=address, headers=headers, timeout=300, trust_env=False) as client:
            job = client.post("/api/v1/jobs", json=body, params={"wait": "true"}).json()
            assert job.get("state") == "succeeded", job
            path = f"/api/v1/jobs/{job['id']}/result"
            return {
                each["party"]: client.get(path, params={"name": each["name"], "format": "json"}).json()
                for each in job["results"]
            }

    began = time.monotonic()
    with ThreadPoolExecutor(many) as pool:
        answers = list(pool.map(ask, range(many)))
    took = time.monotonic() - began
    assert all(answer == answers[0] for answer in answers)
    assert answers[0]
    eventually("the end of all overlays", lambda: not typed.asked("testbed", "show")["overlays"], within=60.0)
    inside = typed("exec", "amsterdam", "--", "ip", "netns").split()
    assert not [name for name in inside if name.startswith("request-")]
    set_up = _set_up_times(folder.unit_log("orchestrator"))
    assert len(set_up) >= many
    up = f"a network up, p50 {statistics.median(set_up):.0f} ms"
    figure(f"{many} concurrent requests over {driver}", f"{took:.1f} s; {up}")


def _set_up_times(log):
    """Milliseconds that each network took, from keys to the last member's first answer."""
    lines = [line for line in log.read_text().splitlines() if "network.up" in line]
    return [sum(float(number) for number in re.findall(r'_ms": ([0-9.]+)', line)) for line in lines]


def _available():
    text = Path("/proc/meminfo").read_text()
    return int(re.search(r"MemAvailable:\s+(\d+)", text)[1]) * 1024


def _median_gap(moments):
    return statistics.median(b - a for a, b in pairwise(moments))
