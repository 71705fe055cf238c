"""Cells beside their baseline, and factors with all else equal, over readings whose answer is known."""

from __future__ import annotations

import random

import pytest

from dynamos.experiments.analyses import analyse, baseline_of, by_cell
from dynamos.experiments.anatomy import dissect
from dynamos.experiments.outcomes import Outcomes
from dynamos.experiments.statistics import Verdict
from support.synthetic_runs import make_run


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    run, experiment = make_run(tmp_path_factory.mktemp("run"))
    return Outcomes.of(run.records()), experiment


def analysis_of(made, measure="total"):
    outcomes, experiment = made
    found = next(each for each in experiment.measures if each.name == measure)
    return analyse(outcomes, experiment.factors, found, experiment.baseline, seed=3)


def test_cells_stand_in_the_order_of_levels(made):
    rows = analysis_of(made).rows
    assert len(rows) == 24
    assert [dict(rows[at].cell) for at in (0, 1, 23)] == [
        {"driver": "none", "rows": 100, "cold": True},
        {"driver": "none", "rows": 100, "cold": False},
        {"driver": "ipsec", "rows": 100000, "cold": False},
    ]
    assert all(row.summary.n == 5 for row in rows)


def test_every_cell_is_compared_with_its_own_baseline(made):
    for row in analysis_of(made).rows:
        if row.baseline:
            assert row.contrast is None
        else:
            assert row.against == {**row.cell, "driver": "none"}
            expected = {"wireguard": 1.0, "ipsec": 1.5}[row.cell["driver"]]
            assert abs(row.contrast.ratio.value - expected) < 0.1


def test_factors_do_what_was_put_in_and_no_more(made):
    effects = {(e.factor.name, e.level): e.contrast for e in analysis_of(made).effects}
    assert effects["driver", "wireguard"].verdict is Verdict.NOISE
    assert effects["driver", "ipsec"].verdict is Verdict.MORE
    assert abs(effects["driver", "ipsec"].ratio.value - 1.5) < 0.05
    assert effects["cold", False].verdict is Verdict.LESS
    assert effects["driver", "ipsec"].pairs == 40


def test_the_order_of_trials_changes_nothing(made):
    outcomes, experiment = made
    records = list(outcomes.records)
    random.Random(2).shuffle(records)
    again = analyse(Outcomes(tuple(records)), experiment.factors, experiment.measures[0], experiment.baseline, seed=3)
    before = analysis_of(made)
    assert [(row.cell, row.summary, row.contrast) for row in again.rows] == [
        (row.cell, row.summary, row.contrast) for row in before.rows
    ]
    assert again.effects == before.effects


def test_words_and_truths_are_counted(made):
    assert analysis_of(made, "exact").rows[0].counts == {"yes": 5}
    assert analysis_of(made, "outcome").rows[0].counts == {"answered": 5}


def test_a_factor_that_is_absent_is_no_reason_not_to_compare():
    cells = [{"driver": "none"}, {"driver": "ipsec", "cipher": "aes"}]
    assert baseline_of(cells[1], cells, {"driver": "none"}) == cells[0]
    assert baseline_of(cells[0], cells, {"driver": "none"}) is None
    several = [{"driver": "none", "mtu": 1}, {"driver": "none", "mtu": 2}]
    assert baseline_of({"driver": "ipsec"}, several, {"driver": "none"}) is None


def test_levels_are_compared_over_what_only_one_of_them_has(tmp_path):
    text = """
from dynamos.experiments import Experiment, Factor, Measure
experiment = Experiment("c", "?", needs="nothing", measures=[Measure("total", "s")], factors=[
    Factor("driver", ["none", "ipsec"]), Factor("cipher", ["aes", "chacha"], when={"driver": "ipsec"})])
@experiment.trial
def trial(bed, driver, cipher):
    return {}
"""
    run, experiment = make_run(
        tmp_path, text=text, read=lambda t, _: {"total": t.repetition * (3.0 if t.cell["driver"] == "ipsec" else 1.0)},
        repetitions=6, traced=False,
    )  # fmt: skip
    found = analyse(Outcomes.of(run.records()), experiment.factors, experiment.measures[0], {})
    effect = found.effects[0].contrast
    assert (effect.pairs, effect.ratio.value, effect.delta) == (6, 3, 1)


def test_shares_of_a_request_add_up_to_the_whole(made):
    outcomes, experiment = made
    cell, some = by_cell(outcomes, experiment.factors)[0]
    found = dissect(some)
    seconds = some.values("total")
    assert cell["rows"] == 100
    assert found.requests == 5
    assert abs(found.total - sum(seconds) / 5) < 1e-9
    assert abs(found.seconds["party: sql-query"] / found.total - 0.5) < 1e-9
    assert abs(found.seconds["orchestrator: submit"] / found.total - 0.125) < 1e-9


def test_without_a_trace_there_is_no_anatomy(tmp_path):
    run, _ = make_run(tmp_path, traced=False, quick=True, picks={"rows": ("100",)})
    assert dissect(run.records()) is None
