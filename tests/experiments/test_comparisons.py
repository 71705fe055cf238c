"""Two runs side by side: what differed is told first, and a change is one only beyond noise."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from dynamos.cli.main import build
from dynamos.experiments.comparisons import Side, compare, write
from dynamos.kit.errors import BadInput, Mistakes
from support.synthetic_runs import SCRIPT, make_run, reading

FEW = {"repetitions": 8, "picks": {"rows": ("100",), "cold": ("no",)}}


def slower(trial, dice):
    told = dict(reading(trial, dice))
    return told | {"total": told["total"] * (2 if trial.cell["driver"] == "ipsec" else 1), "exact": False}


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    base = tmp_path_factory.mktemp("compared")
    return Side(*make_run(base / "a", **FEW)), Side(*make_run(base / "b", read=slower, **{**FEW, "seed": 8}))


def test_only_what_changed_exceeds_noise(sides):
    found = compare(*sides)
    totals = {pair.cell["driver"]: pair for pair in found.pairs if pair.measure.name == "total"}
    assert {driver: pair.differs for driver, pair in totals.items()} == {
        "none": False, "wireguard": False, "ipsec": True,
    }  # fmt: skip
    assert totals["ipsec"].contrast.ratio.value == pytest.approx(2, rel=0.1)
    assert [pair.differs for pair in found.pairs if pair.measure.name == "exact"] == [True] * 3
    assert not any(pair.differs for pair in found.pairs if pair.measure.name == "outcome")


def test_a_run_beside_itself_has_no_change(sides):
    found = compare(sides[0], sides[0])
    assert found.exceeding == ()
    assert found.differences == ()


def test_what_else_differed_is_told(sides):
    assert {each.what: (each.before, each.after) for each in compare(*sides).differences} == {"seed": ("7", "8")}


def test_cells_of_one_run_only_are_told(sides, tmp_path):
    other = Side(
        *make_run(tmp_path, **{**FEW, "picks": {"rows": ("100", "1000"), "driver": ("none",), "cold": ("no",)}})
    )
    found = compare(sides[0], other)
    assert [cell["driver"] for cell in found.only_before] == ["wireguard", "ipsec"]
    assert [cell["rows"] for cell in found.only_after] == [1000]


def test_other_experiments_and_other_units_are_refused(sides, tmp_path):
    other = Side(*make_run(tmp_path / "a", text=SCRIPT.replace('"tunnels"', '"bridges"'), **FEW))
    with pytest.raises(BadInput, match="different experiments: tunnels and bridges"):
        compare(sides[0], other)
    renamed = Side(*make_run(tmp_path / "b", text=SCRIPT.replace('"total", "s"', '"total", "ms"'), **FEW))
    with pytest.raises(Mistakes, match="'total' is in s in one run, in ms in the other"):
        compare(sides[0], renamed)


def test_the_page_and_the_command_tell_the_same(sides, tmp_path):
    page = write(compare(*sides), tmp_path / "page.html").read_text(encoding="utf-8")
    assert "slower" in page
    assert "<script" not in page
    folders = [str(side.run.folder) for side in sides]
    told = CliRunner().invoke(build(), ["experiment", "compare", *folders, "--format", "json"])
    found = json.loads(told.stdout)
    assert found["exceeding"] == 4
    assert found["differences"] == [{"what": "seed", "before": "7", "after": "8"}]
    shown = CliRunner().invoke(build(), ["experiment", "compare", *folders])
    assert shown.exit_code == 0
    assert "4 of 12 changes exceed noise" in shown.stdout
    path = tmp_path / "own.html"
    CliRunner().invoke(build(), ["experiment", "compare", *folders, "--format", "html", "--out", str(path)])
    assert path.read_text(encoding="utf-8") == page
