"""Designs: the same seed gives the same order, every block is whole, and what is dear to change is changed least."""

from collections import Counter
from itertools import groupby

import pytest

from dynamos.experiments.designs import Plan, cells, chosen, is_baseline, plan
from dynamos.experiments.factors import Factor, doubling
from dynamos.kit.errors import Mistakes

ROWS, NETWORK = Factor("rows", [1, 2, 3]), Factor("network", ["none", "vxlan"], changes="testbed")
RULES = Factor("rules", ["few", "many"], changes="marketplace")


def shape(made):
    return [(trial.repetition, tuple(trial.cell.items())) for trial in made.trials if not trial.warmup]


def test_the_same_seed_gives_the_same_plan_and_another_seed_another_order():
    one, same, other = (plan("x", [ROWS, NETWORK], repetitions=4, seed=seed) for seed in (7, 7, 8))
    assert one == same
    assert one.digest == same.digest != other.digest
    assert shape(one) != shape(other)
    assert Counter(shape(one)) == Counter(shape(other))


def test_a_plan_comes_back_whole_from_what_is_written_of_it():
    made = plan("x", [ROWS, NETWORK], repetitions=2, seed=1, baseline={"rows": 1}, settings={"script": "abc"})
    assert Plan.of(made.as_dict()) == made


def test_every_repetition_is_a_block_with_every_cell_once():
    made = plan("x", [ROWS, NETWORK, RULES], repetitions=3, seed=1)
    for repetition, block in groupby(shape(made), key=lambda each: each[0]):
        assert Counter(cell for _, cell in block) == Counter(
            tuple(cell.items()) for cell in cells([ROWS, NETWORK, RULES])
        )
        assert repetition in (1, 2, 3)


@pytest.mark.parametrize("seed", range(5))
def test_the_dearest_level_is_changed_least_whatever_the_order_of_declaration(seed):
    made = [trial for trial in plan("x", [ROWS, RULES, NETWORK], repetitions=2, seed=seed).trials if not trial.warmup]
    networks = [key for key, _ in groupby(trial.cell["network"] for trial in made)]
    assert 2 <= len(networks) <= 4  # two for each block, one fewer where a block begins as the last one ended
    pairs = [
        key for key, _ in groupby((trial.repetition, trial.cell["network"], trial.cell["rules"]) for trial in made)
    ]
    assert len(pairs) == len(set(pairs)) == 8


def test_trials_that_warm_up_come_wherever_the_testbed_is_new_and_nowhere_else():
    made = plan("x", [ROWS, NETWORK], repetitions=3, seed=3, warmups=2).trials
    before = None
    for network, some in groupby(made, key=lambda trial: trial.cell["network"]):
        warm = [trial.warmup for trial in some]
        assert warm[:3] == [True, True, False], (before, network)
        assert sum(warm) == 2
    assert not any(trial.warmup for trial in plan("x", [ROWS], repetitions=3, seed=3, warmups=0).trials)


def test_the_baseline_is_spread_evenly_among_the_others():
    mode = Factor("mode", ["plain", *"abcdefgh"])
    size = Factor("size", [1, 2, 3])
    made = [trial for trial in plan("x", [mode, size], repetitions=1, seed=5, baseline={"mode": "plain"}).trials
            if not trial.warmup]  # fmt: skip
    places = [at for at, trial in enumerate(made) if trial.baseline]
    assert len(places) == 3
    thirds = [range(9), range(9, 18), range(18, 27)]
    assert all(place in third for place, third in zip(places, thirds, strict=True))
    assert all(trial.baseline == is_baseline(trial.cell, {"mode": "plain"}) for trial in made)


def test_a_factor_is_absent_where_it_has_no_meaning():
    scope = Factor("scope", ["all", "each"], when={"network": "vxlan"})
    found = cells([NETWORK, scope])
    assert found == [{"network": "none"}, {"network": "vxlan", "scope": "all"}, {"network": "vxlan", "scope": "each"}]
    by_rule = Factor("scope", ["all", "each"], when=lambda cell: cell["network"] != "none")
    assert cells([NETWORK, by_rule]) == found


def test_nested_levels_go_with_their_outer_level_only():
    port = Factor("port", {"none": [1], "vxlan": [2, 3]}, within="network")
    assert cells([NETWORK, port]) == [
        {"network": "none", "port": 1}, {"network": "vxlan", "port": 2}, {"network": "vxlan", "port": 3},
    ]  # fmt: skip
    picked = chosen([NETWORK, port], {"port": ["3", "9"]}, quick=False)
    assert cells(picked) == [
        {"network": "none", "port": 9}, {"network": "vxlan", "port": 3}, {"network": "vxlan", "port": 9},
    ]  # fmt: skip


def test_every_unknown_factor_and_level_is_told_at_once_with_what_is_near():
    with pytest.raises(Mistakes) as caught:
        chosen([ROWS, NETWORK], {"row": ["1"], "network": ["vlan", "none", "x"], "rows": ["many"]}, quick=False)
    told = str(caught.value)
    assert len(caught.value.mistakes) == 4
    for words in ("no factor 'row'", "rows", "no level 'vlan'", "vxlan", "no level 'x'", "'many' is not a number"):
        assert words in told


def test_numbers_beyond_the_declared_ones_may_be_set_and_keep_their_kind():
    rows, share = chosen([ROWS, Factor("share", [0.5, 1])], {"rows": ["5000"], "share": ["0.25"]}, quick=False)
    assert cells([rows, share]) == [{"rows": 5000, "share": 0.25}]


def test_a_quick_run_has_the_quick_levels_unless_others_are_set():
    factor = Factor("rows", doubling(1000, 10_000), quick=[1000])
    assert factor.all == (1000, 2000, 4000, 8000, 10_000)
    assert cells(chosen([factor], {}, quick=True)) == [{"rows": 1000}]
    assert cells(chosen([factor], {"rows": ["2000"]}, quick=True)) == [{"rows": 2000}]


def test_yes_and_no_are_levels_as_people_write_them():
    factor = Factor("encrypts", [False, True])
    assert cells(chosen([factor], {"encrypts": ["yes"]}, quick=False)) == [{"encrypts": True}]
