"""Where there can be no cluster of the tests' own, it is said why, and nothing is begun."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cluster import groups, needs
from cluster.clusters import Cluster
from cluster.imports import repository
from cluster.layouts import REPOSITORY
from cluster.specs import profile_of
from cluster.waiting import until
from dynamos.kit.errors import Cancelled, TimedOut, Unavailable


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has all but what a test takes away."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(groups, "missing", list)
    monkeypatch.setattr(needs, "_there", lambda _: True)


def told(programs: Path) -> str:
    return str(needs.missing(programs))


@pytest.mark.usefixtures("root")
def test_each_thing_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "not built: kube-apiserver, " in told(tmp_path)
    for name in needs.NAMES:
        (tmp_path / name).touch(mode=0o755)
    assert needs.missing(tmp_path) is None
    monkeypatch.setattr(needs, "_there", lambda sign: sign != "runc")
    assert "missing packages: runc" in told(tmp_path)
    monkeypatch.setattr(groups, "missing", lambda: ["memory"])
    assert "version 1 for memory" in told(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "needs root" in told(tmp_path)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "needs Linux" in told(tmp_path)


@pytest.mark.usefixtures("root")
def test_nothing_is_begun_where_something_is_missing(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="not built"):
        Cluster.up(tmp_path / "state", profile_of(), programs=tmp_path)
    assert not (tmp_path / "state").exists()


def test_the_command_says_that_there_is_no_cluster(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "tests.cluster", "--folder", str(tmp_path), "status"]
    done = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr == f"{tmp_path}: there is no cluster (python -m tests.cluster up)\n"


@pytest.mark.parametrize("text", ["", "{}", '{"profile": {}, "programs": "", "life": {}}', "[]"])
def test_odd_facts_are_no_cluster(tmp_path: Path, text: str) -> None:
    (tmp_path / "cluster.json").write_text(text)
    assert Cluster.find(tmp_path) is None


def test_a_wait_names_its_condition_and_ends_when_it_is_in_vain() -> None:
    with pytest.raises(TimedOut, match="the moon is full did not happen within 0 s; last seen: nothing"):
        until("the moon is full", lambda: False, within=0)
    over = threading.Event()
    over.set()
    with pytest.raises(Cancelled, match="the moon is full"):
        until("the moon is full", lambda: False, within=60, over=over.is_set)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dynamos.local/bus:1", "dynamos.local/bus"),
        ("localhost:5000/bus", "localhost:5000/bus"),
        ("localhost:5000/bus:1@sha256:ab", "localhost:5000/bus"),
        ("bus", "bus"),
    ],
)
def test_the_repository_of_an_image(name: str, expected: str) -> None:
    assert repository(name) == expected
