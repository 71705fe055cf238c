"""What planners pick, from what they know and have learned."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamos.adaptation.planners import registry
from dynamos.adaptation.planners.experiences import Experiences
from dynamos.adaptation.settings import LoopSettings, Weighing
from dynamos.kit.errors import Mistakes
from support.adaptation import HOME, at, experience, situation

FIRST, SECOND = at("third"), at("fourth")
NAMES = tuple(registry.known())


def make(name, **options):
    return registry.make(name, options)[0]


def test_weights_picks_the_first_whatever_happens():
    assert make("weights").judge(situation(FIRST, SECOND, trouble=["third"])).option == FIRST


def test_fixed_picks_what_the_options_say_where_that_is_permitted():
    fixed = make("fixed", computeProvider="fourth")
    assert fixed.judge(situation(HOME, FIRST, SECOND)).option == SECOND
    apart = fixed.judge(situation(HOME, FIRST))
    assert apart.option == HOME
    assert "not permitted" in apart.why


def test_fixed_for_one_provider_goes_before_fixed_for_all():
    fixed = make("fixed", archetype="computeToData", archetypes={"UVA": "dataThroughTtp"})
    assert fixed.judge(situation(HOME, FIRST)).option == FIRST


def test_load_threshold_leaves_who_has_too_much_to_do():
    planner = make("load-threshold")
    assert planner.judge(situation(FIRST, SECOND)).option == FIRST
    moved = planner.judge(situation(FIRST, SECOND, trouble=["third"]))
    assert moved.option == SECOND
    assert "overload at third" in moved.rejected[FIRST.name]
    assert planner.judge(situation(FIRST, SECOND, trouble=["third", "fourth"])).option == FIRST


def learned(planner, *rows):
    for option, seconds, level in rows:
        planner.learn(experience(option, seconds, level=level))
    return planner


def test_the_cost_model_picks_what_was_faster():
    planner = learned(make("cost-model"), *[(FIRST, 0.4, 0.0), (SECOND, 0.1, 0.0)] * 4)
    judged = planner.judge(situation(FIRST, SECOND))
    assert judged.option == SECOND
    prediction = judged.predictions[SECOND.name]
    assert prediction.low < prediction.seconds < prediction.high
    assert prediction.seconds == pytest.approx(0.1, rel=0.4)


def test_the_cost_model_expects_a_loaded_party_to_be_slower_before_it_has_seen_one():
    planner = learned(make("cost-model"), *[(FIRST, 0.1, 0.0), (SECOND, 0.1, 0.0)] * 4)
    calm = situation(FIRST, SECOND, loads={"third": 0.0, "fourth": 0.0})
    planner.decided(calm, planner.judge(calm))
    loaded = planner.judge(situation(FIRST, SECOND, loads={"third": 0.7, "fourth": 0.0}))
    assert loaded.option == SECOND
    assert loaded.predictions[FIRST.name].seconds > 2 * loaded.predictions[SECOND.name].seconds


def test_the_cost_model_learns_that_load_does_not_matter_where_it_does_not():
    rows = [(FIRST, 0.1, level / 10) for level in range(10)] * 5
    planner = learned(make("cost-model"), *rows, *[(SECOND, 0.12, 0.0)] * 5)
    assert planner.judge(situation(FIRST, SECOND, loads={"third": 0.8, "fourth": 0.0})).option == FIRST


def test_the_cost_model_does_not_change_its_mind_for_little():
    planner = learned(make("cost-model"), *[(FIRST, 0.1, 0.0)] * 8, *[(SECOND, 0.105, 0.0)] * 8)
    here = situation(FIRST, SECOND)
    first = planner.judge(here)
    planner.decided(here, first)
    learned(planner, *[(SECOND, 0.097, 0.0)] * 8)
    assert planner.judge(here).option == first.option == FIRST
    learned(planner, *[(SECOND, 0.05, 0.0)] * 8)
    assert planner.judge(here).option == SECOND


def test_the_cost_model_weighs_bytes_and_joules_too():
    rows = [(HOME, 0.2, 0), (FIRST, 0.1, 50_000_000)] * 4
    fast, thrifty = make("cost-model"), make("cost-model", weighing={"time": 1, "bytes": 0.1})
    for planner in (fast, thrifty):
        for option, seconds, moved in rows:
            planner.learn(experience(option, seconds, moved=moved, bytes=moved))
    assert fast.judge(situation(HOME, FIRST)).option == FIRST
    assert thrifty.judge(situation(HOME, FIRST)).option == HOME


def test_a_slow_way_is_reckoned_with():
    planner = make("cost-model")
    for option in (HOME, FIRST) * 4:
        moved = 0 if option is HOME else 10_000_000
        planner.learn(experience(option, 0.2 if option is HOME else 0.1, moved=moved, way=0.001))
    assert planner.judge(situation(HOME, FIRST)).option == FIRST
    slow = {"UVA>third": {"rate": 1e6, "age": 1.0}}
    assert planner.judge(situation(HOME, FIRST, links=slow)).option == HOME
    stale = {"UVA>third": {"rate": 1e6, "age": 100.0, "stale": True}}
    assert planner.judge(situation(HOME, FIRST, links=stale)).option == FIRST


def test_a_stale_load_is_not_used():
    planner = learned(make("cost-model"), *[(FIRST, 0.1, 0.0), (SECOND, 0.12, 0.0)] * 4)
    stale = situation(FIRST, SECOND, loads={"third": 0.9, "fourth": 0.0}, stale=["third"])
    assert planner.judge(stale).option == FIRST


def test_the_cost_model_tries_what_is_unknown_a_few_times_and_no_more():
    planner = learned(make("cost-model", trials=2), *[(HOME, 0.1, 0.0)] * 4)
    here, explored = situation(HOME, FIRST), 0
    for _ in range(6):
        judged = planner.judge(here)
        planner.decided(here, judged)
        explored += judged.explores
    assert explored == 2


def test_the_bandit_explores_no_more_than_its_share_and_never_beyond_its_bound():
    bad = at("fifth")
    rows = [(FIRST, 0.1, 0.0), (SECOND, 0.12, 0.0), (bad, 0.5, 0.0)] * 3
    planner = learned(make("bandit", share=0.2, bound=1.5), *rows)
    picked = []
    for number in range(200):
        here = situation(FIRST, SECOND, bad, job=f"job-{number}")
        judged = planner.judge(here)
        planner.decided(here, judged)
        picked.append(judged)
    explored = sum(each.explores for each in picked)
    assert 0 < explored <= 0.2 * 200 + 1
    assert all(each.option != bad for each in picked)


def test_the_bandit_finds_the_best_in_the_end():
    true = {FIRST.name: 0.2, SECOND.name: 0.1}
    planner, luck, picked = make("bandit", share=0.5, bound=3), random.Random(7), []
    for number in range(150):
        here = situation(FIRST, SECOND, job=f"job-{number}")
        judged = planner.judge(here)
        planner.decided(here, judged)
        planner.learn(experience(judged.option, true[judged.option.name] * luck.uniform(0.9, 1.1)))
        picked.append(judged.option)
    assert picked[-50:].count(SECOND) > 45


OPTIONS = st.lists(st.sampled_from(["third", "fourth", "fifth", "sixth"]), min_size=1, max_size=4, unique=True)
ROWS = st.lists(
    st.tuples(st.sampled_from(["third", "fourth", "fifth", "sixth"]), st.floats(0, 100), st.floats(0, 3)), max_size=30
)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40, deadline=None)
@given(places=OPTIONS, rows=ROWS, loads=st.dictionaries(st.sampled_from(["third", "fourth"]), st.floats(0, 2)))
def test_whatever_was_learned_planners_pick_one_of_the_options_and_reject_the_others(name, places, rows, loads):
    planner = make(name)
    for place, seconds, level in rows:
        planner.learn(experience(at(place), seconds, level=level))
    options = [at(place) for place in places]
    trouble = [party for party, level in loads.items() if level > 1]
    here = situation(*options, loads=loads, trouble=trouble)
    judged = planner.judge(here)
    assert judged.option in options
    assert set(judged.rejected) == {option.name for option in options} - {judged.option.name}
    assert planner.judge(here) == judged


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(rows=ROWS)
def test_what_was_learned_survives_being_written_down(name, rows):
    planner, other = make(name), make(name)
    for place, seconds, level in rows:
        planner.learn(experience(at(place), seconds, level=level))
        here = situation(FIRST, SECOND)
        planner.decided(here, planner.judge(here))
    other.recall(json.loads(json.dumps(planner.remember())))
    here = situation(FIRST, SECOND, HOME)
    assert other.judge(here).option == planner.judge(here).option
    assert other.remember() == planner.remember()


TIMES = st.tuples(st.sampled_from([FIRST, SECOND, HOME]), st.floats(0.001, 50), st.floats(0, 1))


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(TIMES, min_size=1), data=st.data())
def test_the_order_within_the_window_does_not_matter(rows, data):
    one, other = (Experiences(LoopSettings(), Weighing()) for _ in range(2))
    for option, seconds, level in rows:
        one.add(experience(option, seconds, level=level))
    for option, seconds, level in data.draw(st.permutations(rows)):
        other.add(experience(option, seconds, level=level))
    here = situation(FIRST, SECOND, HOME, loads={"third": 0.5})
    for option in here.options:
        ours, theirs = one.predict(here, option), other.predict(here, option)
        assert (ours is None) == (theirs is None)
        if ours is not None and theirs is not None:
            assert ours.seconds == pytest.approx(theirs.seconds, rel=1e-6)
            assert ours.low == pytest.approx(theirs.low, rel=1e-3)


def test_what_left_the_window_is_forgotten():
    experiences = Experiences(LoopSettings(), Weighing(), window=5)
    for _ in range(20):
        experiences.add(experience(FIRST, 9.0))
    for _ in range(5):
        experiences.add(experience(SECOND, 0.1))
    assert experiences.seen(situation(FIRST), FIRST) == 0
    told = experiences.predict(situation(FIRST), FIRST)
    assert told is not None
    assert told.seconds == pytest.approx(0.1, rel=0.01)


def test_wrong_names_and_options_are_all_told_with_near_names():
    assert registry.check("cost-modell", {})[0][2] == "did you mean 'cost-model'?"
    found = registry.check("bandit", {"shar": 1, "bound": 0.2, "weighing": {"time": "much"}})
    assert [path for path, _, _ in found] == [
        ("plannerOptions", "weighing", "time"), ("plannerOptions", "bound"), ("plannerOptions", "shar"),
    ]  # fmt: skip
    with pytest.raises(Mistakes):
        registry.make("bandit", {"shar": 1})
