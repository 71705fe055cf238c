"""Grounds keep their contract: in memory and in namespaces, what is made is seen, and going on after an interruption
leads to what is wanted."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path

import pytest

from dynamos.kit.errors import Unavailable
from dynamos.model.networks import Fault
from dynamos.testbed import apply
from dynamos.testbed.fabrics import WanFabric
from dynamos.testbed.facts import Facts
from dynamos.testbed.faults import faulted
from dynamos.testbed.grounds import Ground
from dynamos.testbed.items import WORLD, Container, Key, Node, Overlay
from dynamos.testbed.journals import Journal
from dynamos.testbed.memory import MemoryGround
from dynamos.testbed.namespaced import NamespacesGround
from dynamos.testbed.overlay_plans import request_overlay
from dynamos.testbed.overlays.drivers import Capabilities
from dynamos.testbed.overlays.vxlan import Vxlan
from dynamos.testbed.plans import plan
from dynamos.testbed.wanted import Wanted
from dynamos.testbed.worlds import World
from support.plain_wans import PlainWan
from support.worlds import machine_state
from support.worlds_of_profiles import TRIANGLE, profile_of, wanted_of

_CHILD = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from support.plain_wans import PlainWan
from support.worlds_of_profiles import wanted_of
from dynamos.testbed import apply
from dynamos.testbed.namespaced import NamespacesGround
state = wanted_of(overlay={"driver": "vxlan"})
ground = NamespacesGround(Path(sys.argv[2]), fabric=PlainWan)
apply.up(ground, state, lambda step: print(step.number, step.action, flush=True))
"""


class Stopped(BaseException):
    """What stops a ground, as Ctrl-C does."""


@pytest.fixture(
    params=[
        "memory",
        pytest.param("namespaces", marks=[pytest.mark.testbed, pytest.mark.xdist_group("testbed")]),
        pytest.param("wan", marks=[pytest.mark.testbed, pytest.mark.xdist_group("testbed")]),
    ]
)
def ground(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ground]:
    if request.param == "memory":
        yield MemoryGround()
        return
    if os.geteuid() != 0:
        pytest.skip("needs root")
    fabric = {"namespaces": PlainWan, "wan": WanFabric}[request.param]
    made = NamespacesGround(tmp_path / "testbed", fabric=fabric)
    try:
        probe = World.create(tmp_path / "probe", "probe")
    except Unavailable as error:
        pytest.skip(str(error))
    netem = probe.run(["tc", "qdisc", "add", "dev", "lo", "root", "netem"], check=False).code == 0
    probe.kill()
    if request.param == "wan" and not netem and not shutil.which("linux.uml"):
        pytest.skip("nothing here delays packets: neither the kernel's netem nor user-mode-linux")
    yield made
    if world := World.find(tmp_path / "testbed"):
        world.kill()


def vxlan(**changes: object) -> Wanted:
    return wanted_of(**{"overlay": {"driver": "vxlan"}, **changes})


def keys_of(ground: Ground) -> dict[Key, object]:
    return dict(ground.look().items)


def test_a_testbed_is_made_seen_changed_and_removed(ground: Ground) -> None:
    assert ground.look() == Facts()
    apply.up(ground, vxlan())
    assert keys_of(ground) == dict(vxlan().items)
    assert plan(vxlan(), ground.look()) == ()
    changed = vxlan(
        sites={"a": {"parties": ["ann"]}, "b": {"parties": ["bea", "bob"]}, "c": {"parties": ["cid"], "nodes": 2}},
        links=[{"between": ["a", "b"], "delay": "10ms"}, {"between": ["b", "c"], "mtu": 1500}],
    )
    apply.up(ground, changed)
    assert keys_of(ground) == dict(changed.items)
    apply.up(
        ground, faulted(changed, [Fault(at=0, action="power-off", site="c"), Fault(at=0, action="cut", link="b-c")])
    )
    assert Key("node", "c-1") not in ground.look().items
    apply.up(ground, changed)
    assert keys_of(ground) == dict(changed.items)
    assert [str(each) for each in apply.down(ground)] == ["- world"]
    assert ground.look() == Facts()
    assert apply.down(ground) == ()


def test_every_call_may_be_repeated(ground: Ground) -> None:
    state = vxlan()
    for item in state.items.values():
        ground.make(item)
        ground.make(item)
    assert plan(state, ground.look()) == ()
    for kind in ("overlay", "container", "node", "link", "world"):
        for item in [each for each in state.items.values() if each.kind == kind]:
            ground.remove(item)
            ground.remove(item)
            assert item.key not in ground.look().items
    assert ground.look() == Facts()


def test_an_overlay_of_a_request_comes_and_goes(ground: Ground) -> None:
    profile = profile_of(overlay={"driver": "vxlan", "scope": "request"})
    state = wanted_of(overlay={"driver": "vxlan", "scope": "request"})
    apply.up(ground, state)
    overlay = request_overlay(profile, 3, [state.of(Container)[name] for name in ("ann", "cid")], state.of(Node))
    ground.make(overlay)
    assert ground.look().items[overlay.key] == overlay
    assert plan(state, ground.look()) == ()
    ground.remove(overlay)
    assert overlay.key not in ground.look().items


@pytest.mark.testbed
@pytest.mark.xdist_group("testbed")
@pytest.mark.parametrize("ground", ["namespaces"], indirect=True)
class TestNamespaces:
    """What only real things can show."""

    def test_containers_reach_each_other_across_sites_and_nothing_else(self, ground: Ground, tmp_path: Path) -> None:
        apply.up(ground, vxlan())
        world = World.find(tmp_path / "testbed")
        assert world is not None
        ann = world.find_box("a-1/ann")
        assert ann.run(["ping", "-c1", "-W2", "cid"], check=False).code == 0
        assert ann.run(["ping", "-c1", "-W1", "198.18.0.11"], check=False).code != 0
        assert world.find_node("c-2").run(["ping", "-c1", "-W2", "198.18.0.11"], check=False).code == 0

    def test_nodes_and_sites_are_found_by_name_on_every_node_however_they_change(self, ground, tmp_path) -> None:
        apply.up(ground, wanted_of(overlay={"driver": "none"}))
        world = World.find(tmp_path / "testbed")
        assert world is not None

        def known(node: str) -> set[str]:
            """Which names lead to a machine that answers."""
            box = world.find_node(node)
            names = [*wanted_of().of(Node), "a", "b", "c", "d", "d-1"]
            return {name for name in names if box.run(["ping", "-c1", "-W2", name], check=False).code == 0}

        everybody = {"a", "b", "c", "a-1", "b-1", "c-1", "c-2"}
        assert known("c-2") == known("a-1") == everybody
        more = wanted_of(
            overlay={"driver": "none"},
            sites={**TRIANGLE["sites"], "d": {"parties": []}},
            links=[*TRIANGLE["links"], {"between": ["c", "d"]}],
        )
        done = [str(action) for action in apply.up(ground, more)]
        assert [line for line in done if "learns" in line] == [
            f"~ node {name}: learns d, d-1" for name in ("a-1", "b-1", "c-1", "c-2")
        ]
        assert known("a-1") == known("d-1") == {*everybody, "d", "d-1"}
        assert apply.up(ground, more) == ()
        world.find_node("b-1").put("/etc/hosts", b"198.18.9.9 a-1 stray\n")
        assert [str(action) for action in apply.reconcile(ground, more)] == [
            "~ node b-1: learns a, b, c, d, a-1, c-1, c-2, d-1; forgets stray"
        ]
        apply.up(ground, wanted_of(overlay={"driver": "none"}))
        assert known("b-1") == everybody

    def test_addresses_that_this_machine_has_itself_work_inside_and_nothing_changes_outside(self, ground) -> None:
        before = machine_state()
        own = [line.split()[3] for line in before["links_and_addresses"].splitlines() if " lo " not in line]
        taken = IPv4Interface(own[0]).ip if own else "10.0.0.1"
        state = wanted_of(
            overlay={"driver": "none"},
            subnets={"wan": str(IPv4Network(f"{taken}/17", strict=False)), "containers": "100.64.0.0/12"},
        )
        apply.up(ground, state)
        world = World.find(ground._folder)
        assert world is not None
        assert world.find_node("c-2").run(["ping", "-c1", "-W2", "a-1"], check=False).code == 0
        assert world.find_box("a-1/abe").run(["ping", "-c1", "-W2", "cid"], check=False).code == 0
        assert machine_state() == before

    def test_where_there_is_no_overlay_routers_know_the_way_to_containers(self, ground: Ground, tmp_path: Path) -> None:
        apply.up(ground, wanted_of(overlay={"driver": "none"}))
        world = World.find(tmp_path / "testbed")
        assert world is not None
        assert world.find_box("a-1/abe").run(["ping", "-c1", "-W2", "cid"], check=False).code == 0

    @pytest.mark.parametrize("stop", [1, 9, 18])
    def test_stopped_at_an_action_it_goes_on_from_there(self, ground: Ground, stop: int) -> None:
        state = vxlan()

        def told(step: apply.Step) -> None:
            if step.number == stop:
                raise Stopped

        with pytest.raises(Stopped):
            apply.up(ground, state, told)
        went_on = apply.up(ground, state)
        assert 0 < len(went_on) <= len(state.items)
        assert plan(state, ground.look()) == ()

    @pytest.mark.parametrize("stop", [1, 5, 12, 19])
    def test_killed_in_the_middle_of_an_action_it_goes_on(self, ground: Ground, tmp_path: Path, stop: int) -> None:
        tests = Path(__file__).parent.parent
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(tests), str(tmp_path / "testbed")], stdout=subprocess.PIPE, text=True
        )
        with child:
            assert child.stdout is not None
            for line in child.stdout:
                if line.startswith(f"{stop} "):
                    break
            child.kill()
        apply.up(ground, vxlan())
        assert plan(vxlan(), ground.look()) == ()

    def test_what_was_begun_and_not_finished_is_made_again(self, ground: Ground, tmp_path: Path) -> None:
        state = vxlan()
        apply.up(ground, state)
        journal = Journal(tmp_path / "testbed" / "items")
        for key in (Key("overlay", "market"), Key("link", "a-b"), Key("node", "c-2")):
            journal.begin(state.items[key])
        assert set(ground.look().broken) == {Key("overlay", "market"), Key("link", "a-b"), Key("node", "c-2")}
        apply.up(ground, state)
        assert plan(state, ground.look()) == ()

    def test_drift_is_seen_and_mended(self, ground: Ground, tmp_path: Path) -> None:
        state = vxlan()
        apply.up(ground, state)
        world = World.find(tmp_path / "testbed")
        assert world is not None
        world.find_box("a-1/ann").run(["ip", "link", "del", "market"])
        world.find_node("router-b").run(["ip", "route", "flush", "proto", "77"])
        world.find_node("c-1").destroy()
        mended = [str(action) for action in apply.reconcile(ground, state)]
        assert mended[0].startswith("~ routes b: to 2 networks instead of 0")
        assert [line.partition(":")[0] for line in mended] == [
            "~ routes b", "+ node c-1", "+ container cid", "~ overlay market",
        ]  # fmt: skip
        assert world.find_box("a-1/ann").run(["ping", "-c1", "-W2", "cid"], check=False).code == 0

    def test_a_world_that_was_killed_leaves_nothing_and_is_made_again(self, ground: Ground, tmp_path: Path) -> None:
        apply.up(ground, vxlan())
        world = World.find(tmp_path / "testbed")
        assert world is not None
        world.kill()
        assert ground.look() == Facts()
        assert len(apply.up(ground, vxlan())) == len(vxlan().items)

    def test_what_a_driver_lacks_is_told_before_anything_of_an_overlay_is_made(self, ground, monkeypatch) -> None:
        apply.up(ground, vxlan(overlay={"driver": "vxlan", "scope": "request"}))
        lacking = Capabilities(2, encrypts=False, overhead=50, programs={"no-such-program": "no-such-package"})
        monkeypatch.setattr(Vxlan, "capabilities", lacking)
        with pytest.raises(Unavailable, match="no-such-program"):
            apply.up(ground, vxlan())


def test_a_journal_gives_back_what_was_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "items")
    assert journal.read() == ({}, {})
    for item in vxlan().items.values():
        journal.begin(item)
        journal.done(item)
    assert journal.read() == (dict(vxlan().items), {})
    journal.begin(vxlan().of(Overlay)["market"])
    (tmp_path / "items" / "junk.json").write_text("{")
    assert set(journal.read()[1]) == {Key("overlay", "market")}
    journal.forget(WORLD)
    assert WORLD not in journal.read()[0]
    journal.clear()
    assert journal.read() == ({}, {})
