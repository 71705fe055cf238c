"""A run says what it was made with, and, when it goes on, what is different now. It names nobody and no place."""

import json
import re

import pytest

from dynamos.deploy import profiles
from dynamos.experiments import environments, machines, software
from support.runs import fill, make

NOW = {"kernel": {"release": "6.1"}, "packages": {"dynamos": "0.1.0", "duckdb": "2.0"}}


def begin(run, prepared, found=NOW):
    told = []
    with environments.session(run, prepared, venue="local", told=told.append, found=lambda _: found):
        pass
    return told


def test_it_is_written_when_a_run_begins_and_told_of_when_it_ends(tmp_path):
    run, prepared = make(tmp_path)
    with environments.session(run, prepared, venue="local", told=pytest.fail, found=lambda _: NOW):
        begun = environments.read(run)
        assert begun["sessions"][0]["began"]
        assert "ended" not in begun["sessions"][0]
        fill(run)
    ended = environments.read(run)
    assert ended["sessions"][0]["ended"] >= ended["sessions"][0]["began"]
    assert (ended["plan"], ended["seed"], ended["kernel"]) == (run.plan.digest, 7, NOW["kernel"])
    assert ended["policy"] == ["r1"]


def test_what_changed_is_told_and_kept_and_the_first_stays(tmp_path):
    run, prepared = make(tmp_path)
    assert begin(run, prepared) == []
    told = begin(run, prepared, {"kernel": {"release": "6.2"}, "packages": {"dynamos": "0.1.0", "scipy": "1"}})
    assert told == [
        "changed since the run began: kernel.release was 6.1, is 6.2",
        "changed since the run began: packages.duckdb was 2.0, is absent",
        "changed since the run began: packages.scipy was absent, is 1",
    ]
    kept = environments.read(run)
    assert kept["kernel"] == NOW["kernel"]
    assert [len(session["changed"]) for session in kept["sessions"]] == [0, 3]


def test_a_session_that_ends_badly_is_written_too(tmp_path):
    run, prepared = make(tmp_path)
    with (
        pytest.raises(KeyboardInterrupt),
        environments.session(run, prepared, venue="local", told=pytest.fail, found=lambda _: NOW),
    ):
        raise KeyboardInterrupt
    assert environments.read(run)["sessions"][0]["ended"]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_one_that_cannot_be_read_is_written_anew(tmp_path, content):
    run, prepared = make(tmp_path)
    (run.folder / environments.ENVIRONMENT).write_text(content)
    assert begin(run, prepared) == []
    assert len(environments.read(run)["sessions"]) == 1


def test_it_says_what_matters_to_figures():
    found = environments.facts([profiles.load("laptop")])
    assert found["machine"]["cores"] >= found["machine"]["usable_cores"] >= 1
    assert found["machine"]["memory_bytes"] > 2**20
    assert found["kernel"]["clock_seconds"] > 0
    assert {"dynamos", "duckdb", "pyarrow", "pydantic"} <= set(found["packages"])
    assert "ansible-core" not in found["packages"]
    assert re.search(r"\d+\.\d+", found["programs"]["nats-server"])
    assert len(machines.load()) == 3


def test_it_names_the_programs_of_the_networks_and_of_their_overlay():
    found = software.programs([profiles.load("three-sites")])
    if "iproute2" not in found:
        pytest.skip("no iproute2 package here")
    assert found["iproute2"]
    needed = software._of_networks(profiles.load("three-sites"))
    assert {"ip", "nft"} <= set(needed)
    assert set(found) <= {*needed.values(), "nats-server", *(name.rpartition("/")[2] for name in needed)}


def test_it_names_nobody_no_machine_and_no_place(tmp_path, monkeypatch):
    monkeypatch.setenv("USER", "somebody-odd")
    run, prepared = make(tmp_path)
    with environments.session(run, prepared, venue="local", told=pytest.fail):
        pass
    text = (run.folder / environments.ENVIRONMENT).read_text()
    assert not re.search(r'"/\w', text)
    hidden = ["somebody-odd", str(tmp_path), str(environments.Path.home()), __import__("socket").gethostname()]
    assert not [word for word in hidden if len(word) > 4 and word in text]
    assert json.loads(text)["sessions"][0]["venue"] == "local"
