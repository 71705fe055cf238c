"""Symptoms: raised and cleared with hysteresis; what comes and goes is held off."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from dynamos.adaptation.analysis import Analysis, Bounds, Hysteresis
from dynamos.adaptation.monitors import Monitor, rates
from dynamos.adaptation.settings import LoopSettings
from dynamos.middleware.messages import Load
from dynamos.model.jobs import PartReport, State, Transfer
from dynamos.model.plans import REQUESTOR, Edge, Plan

SETTINGS = LoopSettings(raise_after=2, clear_after=2, hold="2s", flaps=3, flap_window="30s")


def kinds(analysis, at):
    return [(each.kind, each.subject) for each in analysis.symptoms(at)]


def test_one_reading_beyond_the_bound_is_no_symptom():
    analysis = Analysis(SETTINGS)
    analysis.take_load("third", 0.95, 0.1, 0.0)
    assert kinds(analysis, 0.0) == []
    analysis.take_load("third", 0.95, 0.1, 0.5)
    assert kinds(analysis, 0.5) == [("overload", "third")]


def test_between_the_bounds_nothing_changes():
    analysis = Analysis(SETTINGS)
    for moment in range(10):
        analysis.take_load("third", 0.7, 0.1, float(moment))
    assert kinds(analysis, 10.0) == []
    for moment in range(10, 12):
        analysis.take_load("third", 0.9, 0.1, float(moment))
    for moment in range(12, 30):
        analysis.take_load("third", 0.7, 0.1, float(moment))
    assert kinds(analysis, 30.0) == [("overload", "third")]


@given(
    st.lists(st.tuples(st.floats(0, 2), st.floats(0.01, 2)), max_size=80),
    st.integers(1, 4),
    st.integers(1, 4),
    st.floats(0, 5),
)
def test_a_symptom_never_comes_and_goes_faster_than_its_bound(readings, raise_after, clear_after, hold):
    it = Hysteresis(Bounds(0.8, 0.6, raise_after, clear_after, hold))
    raised, at, since = [], 0.0, 0
    for value, step in readings:
        at += step
        since += 1
        if it.take(value, at):
            assert since >= (raise_after if it.raised else clear_after)
            since = 0
            if it.raised:
                raised.append(at)
            else:
                assert at - raised[-1] >= hold
    assert all(later - earlier >= hold for earlier, later in pairwise(raised))


def test_who_comes_and_goes_often_is_held_off_for_a_while():
    analysis = Analysis(SETTINGS)
    for moment in (0.0, 4.0, 8.0):
        analysis.lose("third", moment)
        analysis.regain("third")
    assert kinds(analysis, 9.0) == [("flapping", "third")]
    assert kinds(analysis, 39.0) == []


def test_a_symptom_that_is_raised_often_is_held_off_though_it_was_cleared():
    analysis = Analysis(SETTINGS)
    at = 0.0
    for _ in range(3):
        for level in (0.9, 0.9, 0.1, 0.1, 0.1):
            analysis.take_load("third", level, 0.1, at)
            at += 1.0
    assert ("flapping", "third") in kinds(analysis, at)
    assert ("overload", "third") not in kinds(analysis, at)


def test_a_load_that_was_not_renewed_is_stale_and_said_to_be():
    monitor = Monitor(SETTINGS)
    monitor.hear("third", Load(parts=3, capacity=4), 100.0)
    fresh, old = monitor.parties(102.0)["third"], monitor.parties(104.0)["third"]
    assert (fresh.age, fresh.stale, fresh.level) == (2.0, False, 0.75)
    assert (old.age, old.stale) == (4.0, True)
    assert [(each.kind, each.subject) for each in monitor.symptoms(104.0)] == [("stale", "third")]
    assert monitor.symptoms(104.0, ["north"]) == ()


def test_our_own_account_of_what_runs_goes_before_what_was_told():
    monitor = Monitor(SETTINGS)
    monitor.hear("third", Load(parts=0, capacity=4), 100.0)
    for number in range(3):
        monitor.begin(f"job-{number}", ("north", "third"))
    assert monitor.parties(100.1)["third"].level == 0.75
    monitor.begin("job-0", ("north",))
    monitor.forget("job-1")
    assert monitor.parties(100.1)["third"].level == 0.25


def _plan():
    edges = [
        Edge(name="rows", source_party="north", source="q", target_party="third", target="a"),
        Edge(name="result", source_party="third", source="a", target_party=REQUESTOR),
    ]
    return Plan(job="j", archetypes={"north": "t"}, compute={"north": "third"}, steps=(), edges=tuple(edges))


def _sent(edge, count, way_ms, compression="none"):
    sent = Transfer(edge=edge, bytes=count, way_ms=way_ms, compression=compression)
    return PartReport(job="j", party="north", state=State.SUCCEEDED, transfers=(sent,))


def test_only_large_uncompressed_streams_to_parties_tell_of_a_way():
    assert rates(_plan(), _sent("rows", 1_000_000, 100.0)) == [("north>third", 1e7)]
    assert rates(_plan(), _sent("rows", 1_000, 100.0)) == []
    assert rates(_plan(), _sent("rows", 1_000_000, 100.0, "zstd")) == []
    assert rates(_plan(), _sent("result", 1_000_000, 100.0)) == []


def test_a_slow_way_is_a_symptom_until_its_reading_is_too_old():
    monitor = Monitor(SETTINGS)
    for moment in (0.0, 1.0):
        monitor.analysis.take_rate("north>third", 1e6, moment)
        monitor._rates["north>third"] = 1e6, moment
    assert monitor.analysis.has("slow-link", "north>third")
    assert not monitor.links(30.0)["north>third"].stale
    assert monitor.analysis.has("slow-link", "north>third")
    assert monitor.links(90.0, ["north>third"])["north>third"].stale
    assert not monitor.analysis.has("slow-link", "north>third")
