"""A load step at one of two third parties, in a whole DYNAMOS: requests move to the other at once, stay there, and come
back when it is over; every decision can be explained and decided again."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import pytest

from support.thirds import FIRST, SECOND, thirds

NOTICE_SECONDS = 2.0
CAPACITY = 4
BUSY = 5
SETTINGS = {"partyCapacity": CAPACITY, "concurrentJobs": 32}


def place(it, **members):
    answer = it.run(**members)
    assert answer.status_code == 200, answer.text
    (found,) = set(answer.json()["plan"]["compute"].values())
    return found


def dynamos(it, *words):
    said = ("--state", str(it.state.root.parent), "--testbed", it.state.root.name)
    done = subprocess.run(
        [sys.executable, "-m", "dynamos.cli.main", *words, *said], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("planner", [pytest.param("load-threshold", marks=pytest.mark.e2e), "cost-model"])
def test_requests_leave_a_party_under_load_and_come_back_without_oscillation(planner):
    with (
        tempfile.TemporaryDirectory(prefix="dynamos-steps-") as folder,
        thirds(Path(folder), planner=planner, **SETTINGS) as it,
    ):
        for _ in range(8):
            place(it)
        usual = place(it)
        other = SECOND if usual == FIRST else FIRST
        began = time.monotonic()
        for number in range(BUSY):
            it.start("slow", f"slow-{number}", computeProvider=usual)
        places = []
        while any(it.job(f"slow-{number}")["state"] in ("submitted", "running") for number in range(BUSY)):
            places.append((time.monotonic() - began, place(it)))
        moved = next(at for at, where in places if where == other)
        assert moved <= NOTICE_SECONDS, places
        after = [where for at, where in places if at >= moved]
        assert set(after) == {other}, places
        changes = _changes([usual, *(where for _, where in places), *_rest(it)])
        assert changes <= 2
        if planner == "load-threshold":
            it.wait("requests are back", lambda: place(it) == usual, within=20)

        told = json.loads(dynamos(it, "adapt", "replay", "--format", "json"))
        assert told["same"] > len(places)
        assert (told["different"], told["notCompared"]) == ([], {})
        listed = json.loads(dynamos(it, "adapt", "log", "--format", "json", "--limit", "500"))
        step = next(
            each["job"] for each in reversed(listed)
            if each["judgement"]["option"]["compute"] == {"north": other} and each["situation"]["symptoms"]
        )  # fmt: skip
        screen = dynamos(it, "adapt", "explain", step).splitlines()
        assert len(screen) <= 40
        assert max(map(len, screen)) <= 100
        assert any(line.startswith(f"  symptom overload of {usual}") for line in screen)
        saved = Path(folder) / "log.jsonl"
        dynamos(it, "adapt", "log", "--save", str(saved))
        assert "decisions: weights picks" in dynamos(it, "adapt", "replay", str(saved), "--planner", "weights")


def _rest(it):
    return [place(it) for _ in range(5)]


def _changes(places):
    return sum(here != there for here, there in pairwise(places))


def test_streams_over_a_slow_way_are_compressed_and_arrive_as_they_were():
    slow = {"slowLink": "900gbit", "fairLink": "901gbit", "raiseAfter": 1, "compress": "zstd"}
    with (
        tempfile.TemporaryDirectory(prefix="dynamos-steps-") as folder,
        thirds(Path(folder), planner="weights", plannerOptions=slow, **SETTINGS) as it,
    ):
        answers = [it.run().json() for _ in range(2)]
        assert [bool(each["plan"]["compression"]) for each in answers] == [False, True]
        sent = [
            transfer["compression"]
            for each in answers
            for transfer in it.job(each["id"])["parts"]["north"]["transfers"]
        ]
        assert sent == ["none", "zstd"]
        rows = [each["results"][0]["rows"] for each in answers]
        assert rows[0] == rows[1] > 0

        log = "/api/v1/adaptation"
        with it.client() as own, it.client("bob@example.org") as other:
            it.wait("the log has both", lambda: len(own.get(f"{log}/decisions").json()) == 2)
            newest = own.get(f"{log}/decisions", params={"limit": 1}).json()
            assert [each["job"] for each in newest] == [answers[1]["id"]]
            assert other.get(f"{log}/decisions").json() == []
            assert other.get(f"{log}/decisions", params={"job": answers[0]["id"]}).status_code == 404
            assert own.get(f"{log}/records").status_code == 403
