"""From facts to wanted: the plans of cases, and that plans lead there from anywhere, however often interrupted."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamos.kit.errors import Broken, NotFound, Unavailable
from dynamos.model.networks import Fault
from dynamos.testbed import apply
from dynamos.testbed.facts import Facts
from dynamos.testbed.faults import faulted
from dynamos.testbed.items import Container, Item, Key, Link, Overlay
from dynamos.testbed.memory import MemoryGround
from dynamos.testbed.overlay_plans import request_overlay
from dynamos.testbed.plans import plan
from dynamos.testbed.wanted import NOTHING, Wanted
from support.worlds_of_profiles import profile_of, wanted_of

CASES = sorted((Path(__file__).parent / "plans").glob("*.yaml"))

STATES: list[Wanted] = [
    wanted_of(),
    NOTHING,
    wanted_of(sites={"a": {"parties": ["ann"]}, "b": {"parties": ["bea", "abe"]}, "c": {"parties": ["cid"]}}),
    wanted_of(overlay={"driver": "vxlan"}),
    wanted_of(overlay={"driver": "none"}),
    wanted_of(overlay={"driver": "vxlan", "scope": "group"}, groups={"g": {"parties": ["ann", "cid"]}}),
    wanted_of(links=[{"between": ["a", "b"], "delay": "11ms"}, {"between": ["c", "b"]}]),
    wanted_of(subnets={"wan": "10.0.0.0/15"}),
    faulted(wanted_of(), [Fault(at=0, action="power-off", site="c"), Fault(at=0, action="cut", link="a-b")]),
]


class Interrupted(Exception):
    """What stops a ground in the middle."""


def interrupting(after: int) -> Any:
    """Give a step that stops the ground at the so many-eth."""
    left = itertools.count(after, -1)

    def step() -> None:
        if next(left) == 0:
            raise Interrupted

    return step


def ground_at(state: Wanted, step: Any = lambda: None) -> MemoryGround:
    ground = MemoryGround()
    apply.up(ground, state)
    ground._step = step
    return ground


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_plans_are_as_in_the_cases(path: Path) -> None:
    """`there` and `wanted` are changes of the triangle (absent: nothing), `lost` are items that have gone, `faults`
    is what is wrong with what is wanted, `plan` the lines of the plan."""
    case = yaml.safe_load(path.read_text())
    ground = MemoryGround()
    if "there" in case:
        apply.up(ground, wanted_of(**case["there"]))
    for name in case.get("lost", ()):
        ground.lose(Key(*name.split()))
    for name, why in case.get("broken", {}).items():
        ground.broken[Key(*name.split())] = why
    state = wanted_of(**case["wanted"]) if "wanted" in case else NOTHING
    state = faulted(state, [Fault.model_validate({"at": 0, **fault}) for fault in case.get("faults", ())])
    assert list(map(str, plan(state, ground.look()))) == case["plan"]


@pytest.mark.parametrize(("there", "state"), list(itertools.product(STATES, STATES)))
def test_every_plan_leads_to_what_is_wanted_and_then_nothing_is_left_to_do(there: Wanted, state: Wanted) -> None:
    ground = ground_at(there)
    apply.up(ground, state)
    assert ground.items == dict(state.items)
    assert plan(state, ground.look()) == ()


@settings(deadline=None, max_examples=300)
@given(
    there=st.sampled_from(STATES),
    state=st.sampled_from(STATES),
    stops=st.lists(st.integers(0, 60), max_size=3),
    accidents=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40)), max_size=3),
)
def test_however_often_it_is_interrupted_going_on_leads_to_what_is_wanted(there, state, stops, accidents) -> None:
    ground = ground_at(there)
    for number, stop in enumerate([*stops, 10**9]):
        for _, which in (each for each in accidents if each[0] == number):
            if ground.items:
                ground.lose(list(ground.items)[which % len(ground.items)])
        ground._step = interrupting(stop)
        try:
            apply.up(ground, state)
        except Interrupted:
            continue
    ground._step = lambda: None
    apply.up(ground, state)
    assert ground.items == dict(state.items)
    assert ground.broken == {}
    assert apply.up(ground, state) == ()


@settings(deadline=None, max_examples=200)
@given(state=st.sampled_from(STATES), data=st.data())
def test_from_any_set_of_items_and_broken_ones_the_plan_leads_to_what_is_wanted(state: Wanted, data: Any) -> None:
    pool: dict[Key, Item] = {}
    for each in data.draw(st.lists(st.sampled_from(STATES), max_size=3)):
        pool |= {key: item for key, item in each.items.items() if data.draw(st.booleans())}
    ground = MemoryGround()
    ground.items = pool
    ground.broken = {key: "cut short" for key in pool if data.draw(st.integers(0, 5)) == 0}
    apply.up(ground, state)
    assert ground.items == dict(state.items)
    assert plan(state, ground.look()) == ()


def test_down_is_one_action_and_then_none() -> None:
    ground = ground_at(wanted_of())
    assert list(map(str, apply.down(ground))) == ["- world"]
    assert apply.down(ground) == ()
    assert ground.items == {}


def test_a_ground_that_does_not_do_what_it_says_is_found_out() -> None:
    class Idle(MemoryGround):
        def make(self, *items: Item) -> None:
            pass

    with pytest.raises(Broken, match="not what is wanted"):
        apply.up(Idle(), wanted_of())


def test_an_error_names_the_action_that_it_stopped() -> None:
    class Poor(MemoryGround):
        def make(self, *items: Item) -> None:
            if items[0].kind == "link":
                raise Unavailable("there is no netem here", hint="install user-mode-linux")
            super().make(*items)

    said: list[str] = []
    with pytest.raises(Unavailable) as caught:
        apply.up(Poor(), wanted_of(), lambda step: said.append(f"{step.number}/{step.total} {step.action}"))
    assert caught.value.where == "link a-b"
    assert caught.value.hint == "install user-mode-linux"
    assert said[4] == f"5/{len(wanted_of().items)} + link a-b: 10ms, mtu 1500"
    assert len(said) == 7


def test_overlays_of_requests_that_are_under_way_are_left_alone() -> None:
    profile = profile_of(overlay={"driver": "vxlan", "scope": "request"})
    state = wanted_of(overlay={"driver": "vxlan", "scope": "request"})
    ground = ground_at(state)
    members = [state.of(Container)[name] for name in ("ann", "cid")]
    overlay = request_overlay(
        profile, 7, members, {item.name: item for item in state.items.values() if item.kind == "node"}
    )
    ground.make(overlay)
    assert apply.up(ground, state) == ()
    ground.lose(Key("container", "cid"))
    assert [str(action.key) for action in apply.up(ground, state)] == ["container cid", "overlay request-7"]
    assert ground.items[overlay.key] == overlay
    apply.up(ground, wanted_of(sites={"a": {"parties": ["abe"]}, "b": {}, "c": {}}, overlay={"scope": "request"}))
    assert overlay.key not in ground.items


def test_faults_act_upon_each_other_and_heal_gives_back_what_the_profile_says() -> None:
    state = wanted_of()
    faults = [
        Fault.model_validate({"at": 1, "action": "change", "link": "b-a", "change": {"delay": "90ms"}}),
        Fault.model_validate({"at": 2, "action": "change", "link": "a-b", "change": {"loss": "3%"}}),
        Fault.model_validate({"at": 3, "action": "silence", "link": "a-b"}),
    ]
    link = faulted(state, faults).of(Link)["a-b"]
    assert (str(link.forward.delay), link.backward.loss, link.state) == ("90ms", 0.03, "silent")
    assert faulted(state, [*faults, Fault(at=4, action="heal", link="a-b")]) == state


def test_a_site_without_power_has_no_nodes_and_leaves_overlays() -> None:
    off = faulted(wanted_of(), [Fault(at=0, action="power-off", site="a")])
    assert [seat.container for seat in off.of(Overlay)["market"].seats] == ["bea", "cid"]
    assert not any(getattr(item, "site", "") == "a" for item in off.items.values())
    assert Key("router", "a") in off.items
    on = [Fault(at=0, action="power-off", site="a"), Fault(at=1, action="power-on", site="a")]
    assert faulted(wanted_of(), on) == wanted_of()


@pytest.mark.parametrize("where", [{"link": "a-d"}, {"site": "d"}])
def test_a_fault_of_something_that_is_not_there_is_refused(where: dict[str, str]) -> None:
    action = "cut" if "link" in where else "power-off"
    with pytest.raises(NotFound, match="there is no"):
        faulted(wanted_of(), [Fault.model_validate({"at": 0, "action": action, **where})])


def test_an_empty_plan_of_nothing() -> None:
    assert plan(NOTHING, Facts()) == ()
