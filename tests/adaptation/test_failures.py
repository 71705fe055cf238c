"""A place that fails is left alone for a while, is tried again, and is blamed for nothing that is not its own."""

from __future__ import annotations

from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamos.adaptation.failures import MOST, Score, blamed
from dynamos.adaptation.monitors import Monitor
from dynamos.adaptation.planners import registry
from dynamos.adaptation.planners.recents import Recent
from dynamos.adaptation.settings import LoopSettings
from dynamos.model.jobs import Job, PartReport, State
from dynamos.model.plans import Plan
from support.adaptation import NOW, at, experience, situation

SETTINGS = LoopSettings()
PLAN = Plan(job="j", archetypes={"north": "t"}, compute={"north": "third"}, steps=(), edges=())
AWAY = MappingProxyType({"code": "agent-away", "where": "third"})


def job(state, error=None, **parts):
    """Give a job of north's data at a third party, whose parts ended with these codes ("" is well)."""
    ends = {party: (State.FAILED, {"code": code}) if code else (State.SUCCEEDED, None) for party, code in parts.items()}
    reports = {party: PartReport(job="j", party=party, state=end, error=why) for party, (end, why) in ends.items()}
    members = {"id": "j", "state": state, "plan": PLAN, "parts": reports, "error": error, "timings": {}}
    return Job.model_construct(None, **members)


@pytest.mark.parametrize(
    ("ended", "found"),
    [
        (job(State.SUCCEEDED, north="", third=""), {}),
        (job(State.LOST, north="peer-away", third="lost"), {"third": "lost"}),
        (job(State.FAILED, north="ended", third="deadline"), {"third": "deadline"}),
        (job(State.FAILED, north="deadline", third="ended"), {"third": "deadline"}),
        (job(State.FAILED, north="peer-away", third="ended"), {"third": "peer-away"}),
        (job(State.FAILED, error=AWAY), {"third": "agent-away"}),
        (job(State.FAILED, north="query-invalid", third="ended"), {}),
        (job(State.FAILED, north="stream-broke", third="algorithm-failed"), {}),
        (job(State.FAILED, north="lost", third="reader-gone"), {}),
        (job(State.CANCELLED, north="ended", third="lost"), {}),
        (job(State.FAILED, error={"code": "busy"}), {}),
    ],
)
def test_who_is_blamed_for_what(ended, found):
    assert blamed(ended) == found


def failed(monitor, times, moment=NOW):
    for _ in range(times):
        monitor.end(job(State.LOST, north="peer-away", third="lost"), moment)


def kinds(monitor, moment):
    return [(symptom.kind, symptom.subject) for symptom in monitor.symptoms(moment, ["north", "third"])]


def test_one_failure_is_no_symptom_and_two_are_until_they_are_forgiven():
    monitor = Monitor(SETTINGS)
    failed(monitor, 1)
    assert kinds(monitor, NOW) == []
    failed(monitor, 1, NOW + 1)
    assert kinds(monitor, NOW + 1) == [("failing", "third")]
    assert "lost" in monitor.symptoms(NOW + 1, ["third"])[0].fact
    assert kinds(monitor, NOW + 10) == [("failing", "third")]
    assert kinds(monitor, NOW + 30) == []
    failed(monitor, 1, NOW + 30)
    assert kinds(monitor, NOW + 30) == []


def test_a_place_that_works_again_is_forgiven_sooner():
    one, other = Monitor(SETTINGS), Monitor(SETTINGS)
    for monitor in (one, other):
        failed(monitor, 3)
    for _ in range(3):
        other.end(job(State.SUCCEEDED, north="", third=""), NOW + 1)
    assert kinds(one, NOW + 1) == [("failing", "third")]
    assert kinds(other, NOW + 1) == []


@pytest.mark.parametrize("name", ["load-threshold", "cost-model", "bandit"])
def test_a_place_that_fails_is_avoided_for_a_while_and_not_given_up(name):
    planner, monitor = registry.make(name, {})[0], Monitor(SETTINGS)
    here, other = at("third", "north"), at("fourth", "north")
    for _ in range(8):
        planner.learn(experience(here, 0.1))
        planner.learn(experience(other, 0.3))

    def pick(moment):
        plain = situation(here, other)
        return planner.judge(plain.model_copy(update={"symptoms": monitor.symptoms(moment, ["third", "fourth"])}))

    assert pick(NOW).option == here
    failed(monitor, 2)
    assert pick(NOW).option == other
    assert "failing at third" in pick(NOW).rejected[here.name]
    assert pick(NOW + 60).option == here


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 100)), max_size=60))
def test_a_score_stays_within_its_bounds_and_falls_by_itself(steps):
    score, moment = Score(10.0), NOW
    for fails, wait in steps:
        moment += wait
        before = score.now(moment)
        after = score.fail(moment, "lost") if fails else score.succeed(moment)
        assert 0.0 <= after <= MOST
        assert after > before if fails and before < MOST - 1 else after <= max(before, MOST)
    assert score.now(moment + 200) < 0.001 + MOST / 2**19


def test_what_was_set_longest_ago_is_forgotten_first():
    recent = Recent({"a": 1, "b": 2}, most=2)
    recent.set("a", 3)
    recent.set("c", 4)
    assert recent.as_dict() == {"a": 3, "c": 4}
    assert Recent(recent.as_dict(), most=2).as_dict() == recent.as_dict()


@pytest.mark.parametrize("name", ["cost-model", "bandit"])
def test_what_a_planner_remembers_is_bounded(name):
    planner = registry.make(name, {})[0]
    for number in range(1500):
        here = at("third", f"provider{number}")
        now = situation(here, at("fourth", f"provider{number}"))
        planner.decided(now, planner.judge(now).model_copy(update={"explores": False}))
        planner.decided(now, planner.judge(now).model_copy(update={"explores": True, "predictions": {}}))
    kept = planner.remember()
    assert all(len(kept[member]) <= 1024 for member in ("last", "tried") if member in kept)
