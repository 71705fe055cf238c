"""Which picture a measure gets, and that it is one."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from dynamos.experiments import plots
from dynamos.experiments.analyses import analyse
from dynamos.experiments.canvases import number
from dynamos.experiments.outcomes import Outcomes
from support.synthetic_runs import make_run

TRIAL = """
@experiment.trial
def trial(bed, **levels):
    return {}
"""
HEAD = "from dynamos.experiments import Experiment, Factor, Measure\n"


def drawn(tmp_path, factors, read, *, measure='Measure("total", "s")', baseline="{}"):
    text = (
        f"{HEAD}experiment = Experiment('drawn', 'What?', factors=[{factors}], measures=[{measure}],\n"
        f"    needs='nothing', baseline={baseline})\n{TRIAL}"
    )
    run, experiment = make_run(tmp_path, text=text, read=read, traced=False, repetitions=3)
    outcomes = Outcomes.of(run.records())
    analysis = analyse(outcomes, experiment.factors, experiment.measures[0], experiment.baseline)
    layout = plots.choose(analysis, experiment.factors)
    plot = plots.draw(analysis, experiment.factors, tmp_path)
    return layout, plot


def seconds(trial, dice):
    return {"total": float(trial.cell.get("rows", 1)) * dice.uniform(0.9, 1.1)}


def names(layout):
    told = [each.name if each else None for each in (layout.x, layout.rows)]
    return (*told, "+".join(each.name for each in layout.sides), *(each.name for each in layout.panels))


def test_numbers_go_along_the_axis_and_the_baselines_factor_beside_it(tmp_path):
    factors = 'Factor("rows", [1, 10, 100]), Factor("cold", [True, False]), Factor("driver", ["none", "a", "b"])'
    layout, plot = drawn(tmp_path, factors, seconds, baseline='{"driver": "none"}')
    assert names(layout) == ("rows", None, "driver", "cold")
    for word in ("driver", "none", "cold yes", "total (s)", "rows", "100"):
        assert f">{word}<" in plot.svg, word


def test_names_go_down_the_side(tmp_path):
    layout, plot = drawn(tmp_path, 'Factor("driver", ["none", "a", "b"]), Factor("sites", [1, 2])', seconds)
    assert {layout.rows.name, layout.sides[0].name} == {"driver", "sites"}
    assert layout.x is None
    assert "intervals" in plot.caption


def test_what_only_some_have_is_told_beside_those(tmp_path):
    factors = (
        'Factor("driver", ["none", "ipsec"]), Factor("sites", [1, 2]), '
        'Factor("cipher", ["aes", "chacha"], when={"driver": "ipsec"})'
    )
    layout, plot = drawn(tmp_path, factors, seconds, baseline='{"driver": "none"}')
    assert names(layout) == (None, "sites", "driver+cipher")
    for word in ("none", "ipsec, cipher aes", "ipsec, cipher chacha"):
        assert f">{word}<" in plot.svg, word


def test_one_factor_or_none_is_a_picture_too(tmp_path):
    assert names(drawn(tmp_path / "a", 'Factor("driver", ["none", "a"])', seconds)[0]) == (None, "driver", "")
    layout, plot = drawn(tmp_path / "b", "", seconds)
    assert names(layout) == (None, None, "")
    assert plot.svg.startswith("<svg")


def test_words_become_shares(tmp_path):
    _, plot = drawn(tmp_path, 'Factor("driver", ["none", "a"])', lambda *_: {"out": "blocked"},
                    measure='Measure("out", "word")')  # fmt: skip
    assert ">blocked<" in plot.svg


def test_more_than_fits_is_said_to_be_pooled(tmp_path):
    factors = ", ".join(f'Factor("f{at}", ["a", "b", "c", "d"])' for at in range(4))
    layout, plot = drawn(tmp_path, factors, seconds)
    assert len(layout.pooled) == 1
    assert f"Not told apart here: {layout.pooled[0].name}." in plot.caption


@pytest.mark.parametrize("value", [0.0, -3.0, 1e-7, 5e8])
def test_constants_zeros_and_extremes_are_drawn(tmp_path, value):
    _, plot = drawn(tmp_path, 'Factor("rows", [1, 2, 3])', lambda *_: {"total": value})
    ET.fromstring(plot.svg)


def test_a_picture_in_a_page_has_no_colour_of_text_and_no_common_ids(tmp_path):
    _, plot = drawn(tmp_path, 'Factor("rows", [1, 10, 100])', seconds)
    root = ET.fromstring(plot.svg)
    assert all(node.get("id", "measure-total-").startswith("measure-total-") for node in root.iter())
    assert "#1b1f24" not in plot.svg
    assert "fill: #ffffff" not in plot.svg
    assert root.get("width") is None


@pytest.mark.parametrize(("value", "said"), [(0.0123, "0.0123"), (1200, "1200"), (25000, "25 k"), (3e6, "3 M")])
def test_numbers_are_said_as_people_say_them(value, said):
    assert number(value) == said
