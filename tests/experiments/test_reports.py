"""The page of a run: what it says, to whom it is kind, and what it must never tell."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from dynamos.experiments.finishing import finish
from dynamos.experiments.runs import Run
from dynamos.experiments.scripts import load
from support.browsers import needs_chromium, render
from support.synthetic_runs import Status, make_run

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Outline(HTMLParser):
    """Checks that elements close as they opened, and keeps ids, links and what is loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.stack, self.ids, self.links, self.loaded = [], [], [], []

    def handle_starttag(self, tag, attrs):
        told = dict(attrs)
        self.ids += [told["id"]] if "id" in told else []
        self.links += [told["href"]] if tag == "a" else []
        self.loaded += [told[name] for name in ("src", "srcset") if name in told]
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.stack.pop()

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag


def ended(trial):
    if trial.cell["driver"] == "wireguard" and trial.cell["rows"] == 1000:
        return Status.SKIPPED, "wireguard-go is not installed in /usr/local/secret/bin"
    return (Status.FAILED, "united <i>did not</i> answer") if trial.number % 9 == 0 else (Status.DONE, "")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    run, experiment = make_run(
        tmp_path_factory.mktemp("report"), ends=ended, quick=True, repetitions=5, picks={"rows": ("100", "1000")}
    )
    proofs = {
        "testbed": "three-sites",
        "links": {
            "effort": "quick",
            "pairs": [
                {
                    "source": "amsterdam", "destination": "tokyo", "deviations": [{"text": "rate is off"}],
                    "declared": {"delay": 0.115, "jitter": 0.0003, "loss": 0.0, "rate": 2e8, "mtu": 1500},
                    "measured": {"delay": 0.1151, "jitter": 0.00031, "loss": 0.0, "rate": 1e8, "mtu": 1500},
                }
            ],
        },
        "isolation": {
            "holds": False, "tries": 2, "leaks": 1, "blocked": 0,
            "cells": [
                {"phase": "during", "source": "delta", "target": "united", "verdict": "leak", "observed": True},
                {"phase": "during", "source": "united", "target": "delta", "verdict": "ok", "observed": False},
            ],
        },
    }  # fmt: skip
    (run.folder / "proofs" / "three-sites-1.json").write_text(json.dumps(proofs), encoding="utf-8")
    (run.folder / "proofs" / "torn.json").write_text("{", encoding="utf-8")
    path = finish(run, experiment)
    return path, path.read_text(encoding="utf-8")


def words(text):
    """What a reader sees, without marks."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)))


def test_it_is_whole_and_needs_nothing_beside_it(page):
    path, text = page
    outline = Outline()
    outline.feed(text)
    assert not outline.stack
    assert len(outline.ids) == len(set(outline.ids))
    assert all(source.startswith("data:") for source in outline.loaded)
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    assert "<script" not in text
    assert path.stat().st_size < 3_000_000
    for link in outline.links:
        if link.startswith("#"):
            assert link[1:] in outline.ids
        else:
            assert (path.parent / link).exists(), link


def test_it_says_what_was_asked_and_what_came_of_it(page):
    said = words(page[1])
    assert "What does a tunnel cost, &lt;b&gt;beside&lt;/b&gt; none?" in said
    for told in (
        "held Every sum is right", "not held A tunnel costs nothing", "cannot be told The moon does not matter",
        "no difference beyond noise", "skipped 10", "united &lt;i&gt;did not&lt;/i&gt; answer", "No loss on the links.",
        "none (baseline)", "--seed 7 --quick --repeat 5 --set rows=100,1000", "Others found this before us",
        "1 leaks, 0 blocked", "rate is off", "The proofs cannot be read", "1 of 1 deviate",
    ):  # fmt: skip
        assert told in said, told


def test_markup_of_others_stays_text(page):
    text = page[1]
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "<i>did not" not in text
    assert "<td>A &amp; B</td>" in text  # Markdown is Markdown


def test_it_tells_no_place_on_this_machine(page):
    path, text = page
    for place in (str(path.parent), str(Path.home()) + "/", "/usr/local/secret", str(Path.cwd())):
        assert place not in text, place


def test_its_plots_are_there_as_files_for_papers(page):
    path, text = page
    found = sorted(each.name for each in (path.parent / "plots").iterdir())
    assert found == [f"{name}.{form}" for name in ("measure-total", "stages") for form in ("pdf", "png", "svg")]
    assert 'id="measure-total-' in text
    assert "currentColor" in text


def test_the_same_records_give_the_same_page(page):
    path, before = page
    run = Run.open(path.parent)
    plots = {each.name: each.read_bytes() for each in (path.parent / "plots").iterdir()}
    finish(run, load(run.script))
    assert path.read_text(encoding="utf-8") == before
    assert {each.name: each.read_bytes() for each in (path.parent / "plots").iterdir()} == plots


@pytest.mark.parametrize("ends", [Status.FAILED, Status.SKIPPED])
def test_a_run_without_any_reading_has_a_page_that_says_so(tmp_path, ends):
    run, experiment = make_run(tmp_path, ends=lambda _: (ends, "nothing works"), quick=True)
    said = words(finish(run, experiment).read_text(encoding="utf-8"))
    assert "No trial came to its end" in said
    assert "nothing works" in said
    assert "cannot be told A tunnel costs nothing" in said


def test_an_unfinished_run_is_told_as_such(tmp_path):
    run, experiment = make_run(tmp_path, quick=True, picks={"rows": ("100",)})
    for path in sorted((run.folder / "trials").glob("t*.json"))[3:]:
        path.unlink()
    said = words(finish(run, experiment).read_text(encoding="utf-8"))
    assert "This run is not finished" in said
    assert "not run yet" in said


ONE = """
from dynamos.experiments import Experiment, Measure
experiment = Experiment("one", "Is it there?", factors=[], needs="nothing",
    measures=[Measure("count", "count"), Measure("odd", "s")])
@experiment.trial
def trial(bed):
    return {}
"""


def test_no_factor_one_cell_and_a_measure_that_nobody_read(tmp_path):
    run, experiment = make_run(tmp_path, text=ONE, read=lambda *_: {"count": 0, "odd": None}, traced=False)
    said = words(finish(run, experiment).read_text(encoding="utf-8"))
    assert "the same every time" in said
    assert "Nothing was read" in said
    assert "The script makes no claim" in said


@needs_chromium
@pytest.mark.e2e
@pytest.mark.parametrize("width", [390, 820, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_it_looks_right_in_a_browser(page, tmp_path, width, dark):
    found = render(page[0], tmp_path, width=width, dark=dark)
    assert found.room == width
    assert found.wide <= width
    assert found.console == ()
    assert found.unseen == 0
    assert found.axis == found.ink
    light = sum(map(int, re.findall(r"\d+", found.page)[:3])) > 3 * 128
    assert light != dark
