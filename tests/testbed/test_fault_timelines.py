"""Faults happen at their moments, in order, and what happened is told."""

import json

import pytest

from dynamos.kit.clocks import ManualClock
from dynamos.kit.errors import NotFound
from dynamos.model.networks import Fault
from dynamos.testbed.chronicles import Chronicle
from dynamos.testbed.timelines import Timeline, apply


class Network:
    """Notes what happens to it, and when."""

    def __init__(self, clock: ManualClock, takes: float = 0.0) -> None:
        self._clock = clock
        self._takes = takes
        self.noted: list[tuple[float, str]] = []

    def _note(self, text: str) -> None:
        if "nowhere" in text:
            raise NotFound("there is no link 'nowhere'")
        self.noted.append((self._clock.monotonic(), text))
        self._clock.advance(self._takes)

    def set(self, name, way, to) -> None:
        self._note(f"set {name} {way} {to.delay}")

    def cut(self, name) -> None:
        self._note(f"cut {name}")

    def silence(self, name) -> None:
        self._note(f"silence {name}")

    def heal(self, name) -> None:
        self._note(f"heal {name}")

    def power(self, site, *, on) -> None:
        self._note(f"power {site} {on}")


class Waits:
    """Waits by moving the clock, until it is told to stop."""

    def __init__(self, clock: ManualClock, stop_at: float = float("inf")) -> None:
        self._clock = clock
        self._stop_at = stop_at

    def wait(self, timeout: float) -> bool:
        left = self._stop_at - self._clock.monotonic()
        self._clock.advance(min(timeout, max(left, 0.0)))
        return left <= timeout


FAULTS = [
    Fault(at="30s", action="heal", link="a-b"),
    Fault(at="10s", action="cut", link="a-b"),
    Fault(at="20s", action="change", link="b-c", change={"delay": "200ms"}),
    Fault(at="20s", action="silence", link="b-c"),
    Fault(at="40s", action="power-off", site="c"),
    Fault(at="50s", action="power-on", site="c"),
]


def test_every_fault_happens_at_its_moment_in_order():
    clock = ManualClock()
    clock.advance(1000)
    network = Network(clock)
    told = []
    happened = Timeline(FAULTS).run(network, clock, stop=Waits(clock), told=told.append)
    assert network.noted == [
        (1010, "cut a-b"), (1020, "set b-c both 200ms"), (1020, "silence b-c"), (1030, "heal a-b"),
        (1040, "power c False"), (1050, "power c True"),
    ]  # fmt: skip
    assert [each.began for each in happened] == [10, 20, 20, 30, 40, 50]
    assert tuple(told) == happened


def test_a_fault_that_takes_long_delays_the_next_and_both_moments_are_told():
    clock = ManualClock()
    happened = Timeline([*FAULTS[:2], Fault(at="12s", action="silence", link="b-c")]).run(
        Network(clock, takes=3.0), clock, stop=Waits(clock)
    )
    assert [(each.began, each.done) for each in happened] == [(10, 13), (13, 16), (30, 33)]


def test_a_fault_that_fails_is_recorded_and_the_next_ones_happen():
    clock = ManualClock()
    network = Network(clock)
    faults = [Fault(at="1s", action="cut", link="nowhere"), Fault(at="2s", action="cut", link="a-b")]
    happened = Timeline(faults).run(network, clock, stop=Waits(clock))
    assert [each.error for each in happened] == ["there is no link 'nowhere'", ""]
    assert network.noted == [(2, "cut a-b")]
    first, second = (json.loads(json.dumps(each.as_dict())) for each in happened)
    assert first == {
        "fault": {"at": "1s", "action": "cut", "link": "nowhere"}, "planned": 1.0, "began": 1.0, "done": 1.0,
        "error": "there is no link 'nowhere'",
    }  # fmt: skip
    assert "error" not in second


def test_a_time_line_that_is_stopped_leaves_the_rest_and_can_be_mended():
    clock = ManualClock()
    network = Network(clock)
    timeline = Timeline(FAULTS)
    happened = timeline.run(network, clock, stop=Waits(clock, stop_at=15.0))
    assert [each.fault.action for each in happened] == ["cut"]
    assert clock.monotonic() == 15
    network.noted.clear()
    timeline.mend(network)
    assert [text for _, text in network.noted] == ["heal a-b", "heal b-c", "power c True"]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.action)
def test_every_action_of_the_model_does_something(fault):
    network = Network(ManualClock())
    apply(network, fault)
    assert len(network.noted) == 1


def test_a_chronicle_tells_what_waits_and_what_has_happened_and_goes_on_where_it_was(tmp_path):
    clock = ManualClock()
    clock.advance(100)
    chronicle, network = Chronicle(tmp_path), Network(clock)
    assert chronicle.read() is None
    chronicle.keep(FAULTS, network, stop=Waits(clock, stop_at=115.0), clock=clock)
    told = chronicle.read()
    assert [each["planned"] for each in told["faults"]] == [10, 20, 20, 30, 40, 50]
    assert [each.get("began") for each in told["faults"]] == [10, None, None, None, None, None]
    clock.advance(10)  # nobody was there when two faults were due
    chronicle.keep(FAULTS, network, stop=Waits(clock), clock=clock)
    assert [each["began"] for each in chronicle.read()["faults"]] == [10, 25, 25, 30, 40, 50]
    assert [text for _, text in network.noted].count("cut a-b") == 1
    chronicle.keep(FAULTS, network, stop=Waits(clock), clock=clock)
    assert len(network.noted) == len(FAULTS)
    chronicle.clear()
    chronicle.clear()
    assert chronicle.read() is None
