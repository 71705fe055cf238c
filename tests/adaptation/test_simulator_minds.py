"""The planners of the running system in the simulator: they are told of load, learn, and move away from a load step."""

from __future__ import annotations

import pytest

from dynamos.adaptation.planners import registry
from dynamos.adaptation.simulator.costs import MEASURED, Line
from dynamos.adaptation.simulator.minds import minded, plain
from dynamos.adaptation.simulator.scenes import AT_DATA, THROUGH, Party, Scene, Terms, invented
from dynamos.adaptation.simulator.simulations import simulate
from dynamos.adaptation.simulator.sites import slower
from dynamos.adaptation.simulator.traces import Ask, drawn
from dynamos.kit.errors import Mistakes

HEAVY = MEASURED.with_(algorithm=Line(0.1))
PLANNERS = sorted(registry.known())


def run(scene, make, requests=300, rate=10.0):
    return simulate(scene, drawn(scene, requests, rate, seed=3), make=make, expected=requests)


@pytest.mark.parametrize("name", PLANNERS)
def test_every_planner_plans_a_simulation_and_again_the_same(name):
    scene = invented(12)
    one, again = (run(scene, minded(name)).as_dict() for _ in range(2))
    assert one == again
    assert one["planner"] == name
    assert one["requests"]["completed"] == 300


def test_weights_in_the_loop_picks_what_weights_alone_picks():
    scene = invented(12)
    loop, alone = (run(scene, make).as_dict() for make in (minded("weights"), plain))
    assert loop == {**alone, "planner": "weights"}


def two_thirds():
    """A provider whose rows have to go to one of two third parties, and a load step at the first."""
    parties = [
        Party("data", 16, terms=Terms((THROUGH,), ("first", "second"))),
        Party("first", 2),
        Party("second", 2),
    ]
    return slower(Scene({party.name: party for party in parties}), "first", 40.0, at=10.0)


@pytest.mark.parametrize("name", ["load-threshold", "cost-model"])
def test_a_load_step_is_left_within_seconds_and_fixed_stays_with_it(name):
    asks = [Ask(second / 5, ("data",), rows=50_000) for second in range(300)]
    stays, moves = (
        simulate(two_thirds(), asks, make=minded(each), costs=HEAVY, expected=300) for each in ("fixed", name)
    )
    assert moves.latency.mean < stays.latency.mean / 3


def test_load_threshold_does_not_go_to_and_fro():
    asks = [Ask(second / 5, ("data",), rows=50_000) for second in range(300)]
    assert simulate(two_thirds(), asks, make=minded("load-threshold"), costs=HEAVY, expected=300).oscillations <= 2


def test_options_reach_the_planner():
    scene = invented(6)
    through = run(scene, minded("fixed", {"archetype": THROUGH}))
    at_data = run(scene, minded("fixed", {"archetype": AT_DATA}))
    assert set(through.picks) == {THROUGH}
    assert AT_DATA in at_data.picks


def test_a_planner_that_there_is_not_is_a_mistake():
    with pytest.raises(Mistakes, match="cost-modl"):
        run(invented(4), minded("cost-modl"))
