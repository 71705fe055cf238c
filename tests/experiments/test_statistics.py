"""What readings come to, and when two lots of them differ by more than noise."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamos.experiments.statistics import (
    Verdict,
    aligned,
    contrast,
    corrected,
    holm,
    spread,
    summarise,
)

SECONDS = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=12)


def blocks(values, first=0):
    return dict(enumerate(values, first))


def test_a_summary_is_what_one_computes_by_hand():
    found = summarise([4.0, 1.0, 3.0, 2.0, 5.0])
    assert (found.n, found.median.value, found.lower, found.upper, found.least, found.most) == (5, 3, 2, 4, 1, 5)
    assert found.median.low <= 3 <= found.median.high
    assert found.note == ""


@pytest.mark.parametrize(
    ("values", "note", "interval"),
    [
        ([2.0], "one reading", (None, None)),
        ([2.0, 3.0], "2 readings: no interval", (None, None)),
        ([2.0] * 4, "the same every time", (2.0, 2.0)),
    ],
)
def test_few_and_equal_readings_are_said_to_be_so(values, note, interval):
    found = summarise(values)
    assert found.note == note
    assert (found.median.low, found.median.high) == interval


def test_nothing_read_comes_to_nothing():
    assert summarise([]) is None
    assert contrast({}, {1: 2.0}) is None


@settings(deadline=None, max_examples=25)  # a resampling each, on a machine that may be busy
@given(SECONDS, st.randoms())
def test_the_order_of_readings_changes_nothing(values, dice):
    again = list(values)
    dice.shuffle(again)
    assert summarise(again) == summarise(values)


@settings(deadline=None, max_examples=25)  # a resampling each, on a machine that may be busy
@given(st.lists(st.floats(0.01, 100), min_size=3, max_size=10), st.sampled_from([0.001, 1000.0, 8.0]))
def test_another_unit_scales_the_figures_and_leaves_the_ratio(values, factor):
    one, other = summarise(values), summarise([value * factor for value in values])
    assert other.median.value == pytest.approx(one.median.value * factor)
    assert other.median.low == pytest.approx(one.median.low * factor)
    base = blocks([value + 1 for value in values])
    before = contrast(blocks(values), base)
    scaled = contrast(blocks([v * factor for v in values]), blocks([v * factor for v in base.values()]))
    assert scaled.ratio.value == pytest.approx(before.ratio.value)
    assert scaled.delta == pytest.approx(before.delta)


def test_a_clear_difference_of_five_and_five_exceeds_noise():
    found = corrected([contrast(blocks([15, 16, 15.5, 14.9, 15.2]), blocks([10, 10.5, 9.9, 10.1, 9.8]))])[0]
    assert found.verdict is Verdict.MORE
    assert found.ratio.value == pytest.approx(1.52)
    assert found.ratio.low > 1.3
    assert (found.delta, found.apart) == (1, True)
    assert found.test == "Mann-Whitney"
    assert found.p == pytest.approx(2 / 252)


def test_the_same_distribution_is_no_difference_beyond_noise():
    dice = random.Random(1)
    one, other = ([dice.gauss(10, 1) for _ in range(20)] for _ in range(2))
    assert corrected([contrast(blocks(one), blocks(other))])[0].verdict is Verdict.NOISE


def test_blocks_that_suffice_are_compared_in_pairs():
    drift = [float(value) for value in range(1, 13)]
    found = corrected([contrast(blocks([value * 1.1 for value in drift]), blocks(drift))])[0]
    assert found.test == "Wilcoxon"
    assert found.verdict is Verdict.MORE  # though the drift is far larger than the difference
    apart = contrast(blocks([value * 1.1 for value in drift], first=100), blocks(drift))
    assert apart.test == "Mann-Whitney"
    assert corrected([apart])[0].verdict is Verdict.NOISE


def test_so_few_readings_in_so_large_a_table_cannot_tell():
    found = contrast(blocks([15, 16, 15.5]), blocks([10, 10.5, 9.9]))
    assert corrected([found])[0].verdict is Verdict.FEW  # the least p of three and three is 0.1
    five = contrast(blocks([15, 16, 15.5, 14.9, 15.2]), blocks([10, 10.5, 9.9, 10.1, 9.8]))
    assert corrected([five] * 3)[0].verdict is Verdict.MORE
    assert {each.verdict for each in corrected([five] * 30)} == {Verdict.FEW}
    assert all(each.apart for each in corrected([five] * 30))


@pytest.mark.parametrize(
    ("mine", "other"),
    [([1.0] * 5, [1.0] * 5), ([0.0] * 5, [0.0] * 5), ([1.0] * 5, [2.0] * 5), ([1.0, 1.0, 2.0] * 3, [1.0, 2.0, 2.0] * 3),
     ([-1.0, 0.0, 1.0], [2.0, 3.0, 1.0]), ([1.0], [2.0]), ([1.0, 2.0], [1.0, 2.0, 3.0])],
)  # fmt: skip
def test_ties_constants_zeros_and_few_never_crash(mine, other):
    for pooled in (False, True):
        found = corrected([contrast(blocks(mine), blocks(other), pooled=pooled)])[0]
        assert found.verdict in Verdict
        assert (found.ratio is None) == (min(*mine[: found.n], *other[: found.n]) <= 0)


def test_equal_constants_are_no_difference_and_other_constants_are_one():
    assert corrected([contrast(blocks([1.0] * 6), blocks([1.0] * 6))])[0].verdict is Verdict.NOISE
    assert corrected([contrast(blocks([2.0] * 6), blocks([1.0] * 6))])[0].verdict is Verdict.MORE


def test_pooled_readings_are_compared_within_their_blocks():
    base = {("small", at): 1.0 + at / 100 for at in range(6)} | {("large", at): 100.0 + at for at in range(6)}
    found = corrected([contrast({block: value * 1.2 for block, value in base.items()}, base, pooled=True)])[0]
    assert found.ratio.value == pytest.approx(1.2)
    assert found.ratio.high == pytest.approx(1.2)
    assert (found.pairs, found.delta, found.verdict) == (12, 1, Verdict.MORE)
    assert contrast({1: 1.0}, {2: 1.0}, pooled=True) is None


def test_holm_is_what_the_paper_says():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_never_lowers_a_p_and_keeps_their_order(values):
    found = holm(values)
    assert all(value <= after <= 1 for value, after in zip(values, found, strict=True))
    assert [each for _, each in sorted(zip(values, found, strict=True))] == sorted(found)


def test_a_spread_tells_whether_any_sample_differs():
    assert spread([[1, 2, 3, 4], [11, 12, 13, 14], [21, 22, 23, 24]]).p < 0.01
    assert spread([[1, 4, 5, 8], [2, 3, 6, 7]]).p > 0.5
    for too_little in ([], [[1.0, 2.0]], [[1.0], [1.0]], [[2.0] * 3, [2.0] * 3], [[], []]):
        assert spread(too_little).p is None


def test_aligned_readings_are_beside_their_own_group():
    assert aligned([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]]) == [[0.5, 1.0, 1.5], [0.5, 1.0, 1.5]]
    assert aligned([[-1.0, 0.0, 1.0], []]) == [[-1.0, 0.0, 1.0], []]
