"""`adapt simulate`: planners side by side over a marketplace that does not exist."""

from __future__ import annotations

import json

import pytest

from dynamos.adaptation.simulator.scenes import AT_DATA
from support.commands import dynamos
from support.recordings import run_folder

SMALL = ("adapt", "simulate", "--parties", 10, "--requests", 60, "--rate", 5)


def test_planners_are_set_side_by_side_with_the_error_of_the_costs(capsys):
    said = dynamos(capsys, *SMALL, "--planner", "weights,cost-model")
    assert said.code == 0, said.err
    head, answered = said.out.splitlines()[:2]
    assert head.split() == ["weights", "cost-model"]
    assert answered.split() == ["answered", "60", "60"]
    assert "48 others took" in said.out
    assert "95 % interval" in said.out


def test_json_has_every_figure_and_the_same_seed_gives_the_same(capsys):
    one, again, other = (
        json.loads(dynamos(capsys, *SMALL, "--format", "json", "--seed", seed).out) for seed in (1, 1, 2)
    )
    assert one == again
    assert one["outcomes"] != other["outcomes"]
    (outcome,) = one["outcomes"]
    assert outcome["planner"] == "weights"
    assert outcome["requests"] == {"arrived": 60, "completed": 60, "refused": 0, "busy": 0, "failed": 0}
    assert set(outcome["perSecond"]) >= {"decisions", "messages", "writes", "heartbeats"}
    assert one["calibration"]["low"] <= one["calibration"]["error"] <= one["calibration"]["high"]


def test_costs_are_taken_from_a_run(capsys, tmp_path):
    cells = [{"archetype": AT_DATA, "rows": rows, "providers": 1} for rows in (10, 20, 30) * 7]
    run_folder(tmp_path, cells=cells)
    said = dynamos(capsys, *SMALL, "--format", "json", "--calibrate", tmp_path)
    assert said.code == 0, said.err
    told = json.loads(said.out)["calibration"]
    assert (told["fitted"], told["predicted"]) == (10, 10)
    assert told["error"] < 6


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("--planner", "wieghts"), 2, "weights"),
        (("--planner", " , "), 2, "no planner is named"),
        (("--parties", 1), 2, "--parties"),
        (("--rate", 0), 2, "rate"),
        (("--calibrate", "nowhere"), 5, "nowhere"),
    ],
)
def test_mistakes_are_told_in_words(capsys, tmp_path, words, code, told):
    said = dynamos(capsys, *SMALL, *words, "--runs", tmp_path)
    assert said.code == code
    assert told in said.err + said.out
    assert "Traceback" not in said.err
