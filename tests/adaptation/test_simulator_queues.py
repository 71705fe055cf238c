"""Queues of the simulator: against theory, against a plain account of every event, and what more capacity does."""

from __future__ import annotations

import random
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamos.adaptation.simulator.agendas import Agenda
from dynamos.adaptation.simulator.costs import FREE
from dynamos.adaptation.simulator.queues import Access, Server, carry, would_carry
from dynamos.adaptation.simulator.scenes import AT_DATA, Party, Scene, Terms
from dynamos.adaptation.simulator.simulations import simulate
from dynamos.adaptation.simulator.tallies import Tally
from dynamos.adaptation.simulator.traces import drawn

ARRIVALS = st.lists(st.tuples(st.floats(0, 5), st.floats(0, 3)), min_size=1, max_size=60)


def one(capacity=1):
    """A marketplace of one party, to which everybody goes, and no control plane to speak of."""
    return Scene({"only": Party("only", capacity=capacity, delay=0.0, rate=1e12, terms=Terms((AT_DATA,)))})


def mean_latency(law, load, *, seed, capacity=1, requests=4_000):
    scene = one(capacity)
    return simulate(scene, drawn(scene, requests, load, seed=seed, law=law, most=1), costs=FREE).latency.mean


@pytest.mark.parametrize(("law", "spread"), [("exponential", 1.0), ("fixed", 0.0)])
def test_one_place_waits_as_long_as_theory_says(law, spread):
    """M/M/1 and M/D/1: Pollaczek and Khinchine's formula lies within the interval of twelve runs' means."""
    load = 0.6
    means = [mean_latency(law, load, seed=seed) for seed in range(12)]
    theory = 1 + load * (1 + spread) / (2 * (1 - load))
    margin = 3.11 * statistics.stdev(means) / len(means) ** 0.5  # 99 %, Student's t with 11 degrees
    assert abs(statistics.mean(means) - theory) < margin


def test_four_places_wait_as_long_as_erlang_says():
    load, places = 3.0, 4
    blocked = (load**places / 24) * places / (places - load)
    waits = blocked / (sum(load**n / factorial for n, factorial in enumerate((1, 1, 2, 6))) + blocked)
    means = [mean_latency("exponential", load, seed=seed, capacity=places) for seed in range(12)]
    margin = 3.11 * statistics.stdev(means) / len(means) ** 0.5
    assert abs(statistics.mean(means) - (1 + waits / (places - load))) < margin


@settings(deadline=None)
@given(ARRIVALS, st.integers(1, 4))
def test_a_server_is_what_an_account_of_every_place_says(arrivals, places):
    server, free, at = Server(places), [0.0] * places, 0.0
    for gap, work in arrivals:
        at += gap
        place = free.index(min(free))
        free[place] = max(at, free[place]) + work
        would = server.would(at, work)
        assert server.serve(at, work) == would == free[place]
    assert server.served == len(arrivals)
    assert server.busy == pytest.approx(sum(work for _, work in arrivals))


@settings(deadline=None)
@given(ARRIVALS, st.integers(1, 4), st.integers(0, 3))
def test_more_places_never_wait_longer(arrivals, places, more):
    few, many, at = Server(places), Server(places + more), 0.0
    for gap, work in arrivals:
        at += gap
        assert many.serve(at, work) <= few.serve(at, work)
    assert many.waited <= few.waited + 1e-9


def test_a_fast_end_serves_several_slow_ones_at_once():
    fast, slow = Access(10.0, 0.0), [Access(1.0, 0.0) for _ in range(3)]
    assert [carry(each, fast, 0.0, 10.0) for each in slow] == [10.0, 10.0, 10.0]
    assert [carry(each, Access(1.0, 0.0), 10.0, 10.0) for each in slow] == [20.0, 20.0, 20.0]
    one = Access(1.0, 0.0)
    assert [carry(Access(10.0, 0.0), one, 0.0, 10.0) for _ in range(3)] == [10.0, 20.0, 30.0]


@settings(deadline=None)
@given(ARRIVALS)
def test_a_link_carries_one_stream_after_the_other(sizes):
    source, target, at, before = Access(2.0, 0.1), Access(1.0, 0.2), 0.0, 0.0
    for gap, size in sizes:
        at += gap
        would = would_carry(source, target, at, size)
        end = carry(source, target, at, size)
        assert end == would
        assert end == pytest.approx(max(at, before) + size / 1.0 + 0.3)
        before = end - 0.3
    assert source.carried == pytest.approx(sum(size for _, size in sizes))


def test_events_come_in_the_order_of_their_moments_and_of_two_at_once_the_first_written():
    agenda, seen = Agenda(), []

    def note(at, what):
        seen.append((at, what))
        if what == "a":
            agenda.put(2.0, note, "new")

    for at, what in [(2.0, "c"), (1.0, "a"), (1.0, "b")]:
        agenda.put(at, note, what)
    agenda.run()
    assert seen == [(1.0, "a"), (1.0, "b"), (2.0, "c"), (2.0, "new")]
    assert (agenda.now, agenda.done, len(agenda)) == (2.0, 4, 0)


@settings(deadline=None)
@given(st.lists(st.floats(2e-6, 1e5), min_size=1, max_size=300), st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]))
def test_quantiles_are_right_to_half_a_percent(readings, share):
    tally = Tally()
    for reading in readings:
        tally.add(reading)
    ordered = sorted(readings)
    exact = ordered[max(0, -(-int(share * 1e6) * len(readings) // 1_000_000) - 1)]
    assert tally.quantile(share) == pytest.approx(exact, rel=0.005)
    assert tally.mean == pytest.approx(statistics.fmean(readings))
    assert tally.largest == ordered[-1]


def test_nothing_counted_is_nothing():
    assert (Tally().quantile(0.5), Tally().mean) == (0.0, 0.0)


@pytest.mark.parametrize("law", ["fixed", "exponential", "lognormal"])
def test_work_is_drawn_around_one(law):
    scene = one()
    work = [ask.work for ask in drawn(scene, 20_000, 1.0, law=law, seed=random.Random(1).randrange(99))]
    assert statistics.fmean(work) == pytest.approx(1.0, abs=0.03)
