"""Simulated runs: every request ends, the same seed gives the same, and picks are those of the running system."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamos.adaptation.simulator.costs import FREE, MEASURED, Line
from dynamos.adaptation.simulator.minds import Plain
from dynamos.adaptation.simulator.scenes import (
    ARCHETYPES,
    AT_DATA,
    KIND,
    THROUGH,
    Change,
    Party,
    Scene,
    Terms,
    invented,
)
from dynamos.adaptation.simulator.simulations import Simulation, simulate
from dynamos.adaptation.simulator.sites import Sites, slower, without
from dynamos.adaptation.simulator.traces import Ask, drawn, in_order
from dynamos.kit.errors import BadInput, Broken
from dynamos.model.agreements import Agreement, Relation
from dynamos.model.datasets import DataSet
from dynamos.model.request_types import RequestType
from dynamos.model.requests import Request, User
from dynamos.planning.landscapes import Landscape
from dynamos.planning.planners import Pick, Weights
from dynamos.planning.plans import plan
from dynamos.policy.builtin import BuiltIn
from dynamos.services import catalogue


def run(scene, requests=300, rate=20.0, *, seed=0, **more):
    return simulate(scene, drawn(scene, requests, rate, seed=seed), expected=requests, **more)


CHANGES = st.lists(
    st.builds(
        Change,
        at=st.floats(0, 12),
        party=st.sampled_from([f"party{n}" for n in range(6)] + ["third0", "third1"]),
        speed=st.none() | st.floats(0.1, 2),
        online=st.none() | st.booleans(),
        terms=st.none() | st.sampled_from([Terms((AT_DATA,)), Terms(()), Terms((THROUGH,), ("third1",))]),
    ),
    max_size=6,
)


@settings(max_examples=40, deadline=None)
@given(CHANGES, st.integers(1, 8), st.integers(0, 20), st.integers(0, 1000))
def test_whatever_happens_each_request_ends_in_one_way(changes, running, waiting, seed):
    scene = replace(invented(8), changes=tuple(changes), running=running, waiting=waiting)
    simulation = Simulation(scene, drawn(scene, 120, 15.0, seed=seed))
    counts = simulation.run().counts
    assert counts.arrived == counts.ended == 120
    assert simulation.sites.parts == [0] * 8
    assert len(simulation.agenda) == 0
    assert simulation._running == 0


def test_the_same_seed_gives_the_same_and_another_one_does_not():
    scene = invented(30)
    one, again, other = (run(scene, seed=seed).as_dict() for seed in (1, 1, 2))
    assert one == again
    assert one != other


def test_without_changes_everything_is_answered_and_no_party_works_more_than_it_can():
    outcome = run(invented(30), requests=1000)
    assert outcome.counts.completed == 1000
    assert all(0 <= share <= 1 for share in outcome.parties.values())
    assert outcome.latency.quantile(0.5) <= outcome.latency.quantile(0.99) <= outcome.latency.largest


def test_more_capacity_makes_nobody_wait_longer_where_nothing_moves():
    def latency(capacity):
        party = Party("only", capacity, delay=0.0, terms=Terms((AT_DATA,)))
        scene = Scene({"only": party}, running=10_000)
        return run(scene, 2000, 20.0, costs=FREE.with_(query=Line(0.045))).latency.mean

    latencies = [latency(capacity) for capacity in (1, 2, 4, 8)]
    assert latencies == sorted(latencies, reverse=True)
    assert latencies[0] > 2 * latencies[-1]


def test_a_limit_of_jobs_at_once_makes_requests_wait_and_then_turns_them_away():
    free = run(replace(invented(30), running=1000), rate=50.0)
    tight = run(replace(invented(30), running=2), rate=50.0)
    full = run(replace(invented(30), running=2, waiting=3), rate=50.0)
    assert free.queued.largest == 0.0
    assert tight.queued.mean > 0.1
    assert tight.counts.completed == 300
    assert full.counts.busy > 0


def test_who_refuses_and_who_is_away_takes_no_part():
    scene = Scene({"a": Party("a", terms=Terms(())), "b": Party("b", terms=Terms((AT_DATA,)))})
    asks = [Ask(0.0, ("a",)), Ask(1.0, ("a", "b")), Ask(2.0, ("b",))]
    assert simulate(scene, asks).counts.refused == 1
    assert simulate(without(scene, "b"), asks).counts.refused == 3


def test_what_a_party_works_on_when_it_leaves_is_lost():
    scene = Scene({"a": Party("a", terms=Terms((AT_DATA,)))}, changes=(Change(0.1, "a", online=False),))
    counts = simulate(scene, [Ask(0.0, ("a",), rows=10_000_000)]).counts
    assert (counts.failed, counts.completed) == (1, 0)


def test_a_third_party_that_leaves_fails_what_goes_through_it():
    scene = Scene(
        {
            "a": Party("a", terms=Terms((THROUGH,), ("t",))),
            "b": Party("b", terms=Terms((THROUGH,), ("t",))),
            "t": Party("t"),
        },
        changes=(Change(0.1, "t", online=False),),
    )
    counts = simulate(scene, [Ask(0.0, ("a", "b"), rows=1_000_000), Ask(5.0, ("a",))]).counts
    assert (counts.failed, counts.refused) == (1, 1)


def test_a_load_step_makes_requests_take_longer():
    scene = invented(4)
    provider = scene.providers[0]
    asks = [Ask(float(second), (provider,)) for second in range(10)]
    before, after = (simulate(each, asks).latency.mean for each in (scene, slower(scene, provider, 5.0, at=4.5)))
    assert after > 1.5 * before


def test_heartbeats_come_once_a_second_from_everybody():
    scene = invented(200)
    outcome = simulate(scene, [Ask(0.0, scene.providers[:1]), Ask(100.0, scene.providers[:1])])
    assert outcome.rate(outcome.counts.heartbeats) == pytest.approx(200, rel=0.01)


def test_the_load_that_is_known_is_that_of_the_last_heartbeat():
    scene = invented(4)
    sites = Sites(scene)
    name = sites.names[0]
    capacity = sites.servers[0].places
    sites.begin(0, 5.2, 1)
    assert sites.known(name, 5.3) == (0, capacity, pytest.approx(0.3))
    assert sites.known(name, 6.1) == (1, capacity, pytest.approx(0.1))
    sites.begin(0, 6.2, 1)
    sites.begin(0, 6.4, 1)
    assert sites.known(name, 6.9)[0] == 1
    assert sites.known(name, 7.0)[0] == 3


def test_regret_is_nothing_where_there_is_no_choice_and_something_where_the_worse_one_is_picked():
    class Worst:
        name = "worst"

        def pick(self, question):
            chosen = {party: choices[-1] for party, choices in question.choices.items()}
            return Pick({party: choice.archetype.name for party, choice in chosen.items()},
                        {party: choice.computers[-1] for party, choice in chosen.items()})  # fmt: skip

    only = Scene({"a": Party("a", terms=Terms((AT_DATA,)))})
    assert run(only, rate=5.0).regret.largest == 0.0
    some = invented(10)
    assert run(some, make=lambda *_: Plain(Worst())).regret.mean > run(some).regret.mean


def test_what_a_planner_picks_beyond_the_options_ends_the_simulation():
    class Wrong:
        name = "wrong"

        def pick(self, question):
            return Pick(dict.fromkeys(question.choices, THROUGH), dict.fromkeys(question.choices, "moon"))

    with pytest.raises(Broken, match="not permitted"):
        run(invented(4), make=lambda *_: Plain(Wrong()))


def test_traces_are_in_order():
    with pytest.raises(BadInput, match="order"):
        in_order([Ask(1.0, ("a",)), Ask(0.0, ("a",))])
    with pytest.raises(BadInput, match="rate"):
        next(drawn(invented(4), 1, 0.0))


@pytest.mark.parametrize("gone", [(), ("third0",), ("third0", "third1")])
@pytest.mark.parametrize("unites", [False, True])
def test_options_and_picks_are_those_of_policy_and_planning(gone, unites):
    """The stand-in for policy leaves what the engine and the planning of the running system leave."""
    scene = invented(12, share=0.2)
    for party in gone:
        scene = without(scene, party)
    online = frozenset(scene.parties) - set(gone)
    services = {name: catalogue.manifest(name) for name in ("sql-query", "sql-aggregate", "sql-algorithm")}
    kind = RequestType(
        name=KIND, required_services=("sql-query", "sql-algorithm"), optional_services={"sql-aggregate": "aggregate"}
    )
    store = DataSet.model_validate({"name": "store", "tables": {"t": {"columns": {"c": "BIGINT"}}}})
    agreements = {name: agreement(name, scene.parties[name].terms) for name in scene.providers}
    picked = []

    class Watching:
        name = "watching"

        def pick(self, question):
            picked.append((dict(question.choices), Weights().pick(question)))
            return picked[-1][1]

    for number, asked in enumerate([scene.providers[:1], scene.providers[2:4], scene.providers[3:6]]):
        picked.clear()
        simulate(scene, [Ask(1.0, asked, unites=unites and len(asked) > 1)], make=lambda *_: Plain(Watching()))
        request = Request(
            type=KIND, user=User(user_name="ann"), providers=asked, query="SELECT c FROM t",
            options={"aggregate": unites} if len(asked) > 1 else {},
        )  # fmt: skip
        decision = BuiltIn().decide(
            request, agreements, {key: {"store": store} for key in scene.providers}, request_types={KIND: kind},
            services=services, archetypes=ARCHETYPES, now=datetime(2026, 1, 1, tzinfo=UTC), revision="1",
        )  # fmt: skip
        landscape = Landscape(ARCHETYPES, {KIND: kind}, services, online)
        try:
            made = plan(request, decision, landscape, job=f"j{number}", planner=Watching())
        except Exception:  # noqa: BLE001  both have nothing
            assert picked == []
            continue
        (choices, pick), (theirs, other) = picked
        assert choices == theirs
        assert (made.archetypes, made.compute) == (pick.archetypes, pick.compute) == (other.archetypes, other.compute)


def agreement(name, terms):
    relation = Relation(
        request_types=(KIND,), data_sets=("store",), allowed_archetypes=terms.archetypes,
        allowed_compute_providers=terms.computers,
    )  # fmt: skip
    return Agreement(
        name=name, relations={"ann": relation}, compute_providers=terms.computers, archetypes=terms.archetypes
    )


def test_costs_of_the_control_plane_are_felt():
    scene, asks = invented(4), [Ask(0.0, ("party0",))]
    slow = MEASURED.with_(admit=1.0)
    assert simulate(scene, asks, costs=slow).latency.mean == pytest.approx(
        simulate(scene, asks).latency.mean + 1.0 - MEASURED.admit, abs=0.01
    )
