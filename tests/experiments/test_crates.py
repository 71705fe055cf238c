"""A run folder is a valid RO-Crate that says what is in it, how it was made, and names nobody."""

import hashlib
import json
import warnings

import pytest
from rocrate.rocrate import ROCrate

from dynamos.experiments import crates, environments, tables
from dynamos.kit.errors import Unavailable
from support.crate_checks import context, issues
from support.runs import fill, make


def described(folder, *, full=True):
    run, prepared = make(folder)
    facts = {
        "python": {"version": "3.11.7"}, "packages": {"dynamos": "0.1.0", "duckdb": "2.0"},
        "programs": {"iproute2": "6.1"}, "source": {"commit": "abc", "changed": False},
    }  # fmt: skip
    with environments.session(run, prepared, venue="local", told=print, found=lambda _: facts):
        if full:
            fill(run)
    tables.write(run, prepared.experiment)
    (run.folder / "logs" / "bed-1").mkdir()
    (run.folder / "logs" / "bed-1" / "a b.log").write_text("said")
    crates.write(run, prepared.experiment)
    return run, prepared


@pytest.fixture(scope="module")
def crated(tmp_path_factory):
    return described(tmp_path_factory.mktemp("crate"))


@pytest.fixture(scope="module")
def crate(crated):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return ROCrate(crated[0].folder)


@pytest.mark.parametrize("profile", ["ro-crate-1.1", "process-run-crate-0.5"])
def test_the_validator_of_its_community_finds_nothing_against_it(crated, tmp_path, profile):
    assert issues(crated[0].folder, tmp_path, profile=profile) == []


def test_the_validator_would_find_what_is_wrong(crated, tmp_path):
    told = json.loads((crated[0].folder / crates.METADATA).read_text())
    root = next(each for each in told["@graph"] if each["@id"] == "./")
    del root["datePublished"]
    (tmp_path / "crate").mkdir()
    (tmp_path / "crate" / crates.METADATA).write_text(json.dumps(told))
    found = issues(tmp_path / "crate", tmp_path)
    assert [issue for issue in found if "datePublished" in issue]
    assert [issue for issue in found if "trials.csv" in issue]


def test_every_file_is_in_it_with_its_size_and_digest(crated, crate):
    folder = crated[0].folder
    there = {path.as_posix() for path in crates.contents(folder)} - {crates.METADATA}
    files = {each["name"]: each for each in crate.get_entities() if "File" in each.type}
    assert set(files) == there
    assert "logs/bed-1/a b.log" in files
    for name, entity in files.items():
        content = (folder / name).read_bytes()
        assert entity["sha256"] == hashlib.sha256(content).hexdigest()
        assert entity["contentSize"] == str(len(content))
        assert entity["description"]
        assert entity["encodingFormat"] != "application/octet-stream"


def test_it_says_how_the_run_was_made(crated, crate):
    run, _ = crated
    action = crate.get("#run")
    assert action["instrument"].id == "script.py"
    assert set(action["instrument"].type) == {"File", "SoftwareSourceCode"}
    assert {"trials.csv", "trials.parquet"} <= {each.id for each in action["result"]}
    objects = {each.id for each in action["object"]}
    assert {"run.json", "#setting-size", "#setting-seed"} <= objects
    assert any(each.startswith("profiles/") for each in objects)
    assert action["actionStatus"] == "http://schema.org/CompletedActionStatus"
    assert run.records()[0].began.isoformat() == action["startTime"] <= action["endTime"]
    engine = action["instrument"]["softwareRequirements"]
    assert (engine["softwareVersion"], engine["version"]) == ("0.1.0", "abc")
    assert {each["name"]: each["softwareVersion"] for each in engine["softwareRequirements"]} == {
        "duckdb": "2.0", "iproute2": "6.1",
    }  # fmt: skip


def test_measures_have_their_units_and_claims_what_became_of_them(crate):
    root = crate.root_dataset
    assert root["description"] == "Is a larger one slower?"
    measures = {each["name"]: each for each in root["variableMeasured"]}
    assert (measures["took"]["unitText"], measures["took"]["description"]) == ("ms", "until it was there")
    assert crate.get("#setting-size")["unitText"] == "B"
    assert crate.get("#claim-1")["description"] == "holds"


def test_a_run_that_is_not_whole_says_so(tmp_path):
    run, _ = described(tmp_path, full=False)
    assert issues(run.folder, tmp_path) == []
    assert ROCrate(run.folder).get("#run")["actionStatus"] == "http://schema.org/ActiveActionStatus"


def test_nothing_is_moved_or_changed_and_written_again_it_is_the_same(crated):
    run, prepared = crated
    before = {path: (run.folder / path).read_bytes() for path in crates.contents(run.folder)}
    crates.write(run, prepared.experiment)
    assert {path: (run.folder / path).read_bytes() for path in crates.contents(run.folder)} == before


def test_every_term_is_one_of_the_context_or_our_own(crated):
    told = json.loads((crated[0].folder / crates.METADATA).read_text())
    known = set(context()) | set(told["@context"][1]) | {"@id", "@type"}
    assert not {key for each in told["@graph"] for key in each} - known


def test_without_its_library_it_says_what_to_install(crated, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "rocrate.rocrate", None)
    with pytest.raises(Unavailable, match="rocrate"):
        crates.write(*(crated[0], crated[1].experiment))
