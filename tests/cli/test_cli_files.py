"""Verbs over files: profiles, chains of marketplaces, services of one's own, logs."""

import json

import pytest

from dynamos.deploy.states import StateFolder
from support.commands import dynamos


def test_profiles_are_listed_shown_and_validated(capsys):
    assert {"laptop", "upstream"} <= {
        each["name"] for each in json.loads(dynamos(capsys, "profile", "list", "--format", "json").out)
    }
    assert "safety-board" in dynamos(capsys, "profile", "show", "laptop").out
    said = dynamos(capsys, "profile", "validate", "laptop")
    assert said.code == 0
    assert said.out.startswith("laptop is right")


def test_a_wrong_profile_is_told_with_place_and_hint(capsys, tmp_path):
    file = tmp_path / "p.yaml"
    file.write_text("name: p\nmarketplace: aviation\nsettings: {apiprot: 1}\n")
    said = dynamos(capsys, "profile", "validate", file)
    assert said.code == 2
    assert "p.yaml:3:12" in said.err
    assert "did you mean 'apiPort'?" in said.err


@pytest.mark.parametrize(("form", "begins"), [("mermaid", "flowchart LR"), ("graphviz", "digraph")])
def test_a_marketplaces_chain_is_drawn_from_its_files(capsys, form, begins):
    out = dynamos(capsys, "chain", "--marketplace", "aviation", "--type", "sqlDataRequest", "--format", form).out
    assert out.startswith(begins)
    assert "sql-algorithm" in out


def test_a_chain_of_an_unknown_request_type_names_what_is_near(capsys):
    said = dynamos(capsys, "chain", "--marketplace", "aviation", "--type", "sqlDataReqest")
    assert said.code == 5
    assert "sqlDataRequest" in said.err


def test_services_are_listed(capsys):
    names = {each["name"] for each in json.loads(dynamos(capsys, "service", "list", "--format", "json").out)}
    assert {"sql-query", "sql-algorithm"} <= names


@pytest.mark.parametrize("language", ["python", "bash", "c", "go"])
def test_a_new_service_is_a_folder_with_its_program_test_and_entry(capsys, tmp_path, language):
    said = dynamos(capsys, "service", "new", "add-noise", "--into", tmp_path, "--language", language)
    assert said.code == 0, said.err
    names = {path.name for path in (tmp_path / "add-noise").iterdir()}
    assert {"README.md", "services.yaml", "test_add_noise.py"} <= names


@pytest.mark.parametrize("name", ["Add", "../x", "a" * 41, "a--b", "1a"])
def test_a_name_that_cannot_be_a_services_makes_nothing(capsys, tmp_path, name):
    assert dynamos(capsys, "service", "new", name, "--into", tmp_path).code == 2
    assert not list(tmp_path.iterdir())


def test_a_service_does_not_overwrite_what_is_there(capsys, tmp_path):
    (tmp_path / "add-noise").mkdir()
    assert dynamos(capsys, "service", "new", "add-noise", "--into", tmp_path).code == 6


def test_logs_read_as_people_do_and_raw_as_they_are(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("DYNAMOS_STATE", str(tmp_path))
    folder = StateFolder(tmp_path / "laptop")
    folder.make()
    folder.lock.touch()
    line = json.dumps(
        {
            "time": "2026-01-01T10:00:00.123+00:00",
            "level": "info",
            "logger": "x",
            "message": "unit.ready",
            "unit": "api",
        }
    )
    folder.log.write_text(f"plain words\n{line}\n")
    assert dynamos(capsys, "logs").out == "plain words\n10:00:00.123 info    unit.ready  unit=api\n"
    assert dynamos(capsys, "logs", "-n", "1", "--raw").out == f"{line}\n"
    said = dynamos(capsys, "logs", "supervisr")
    assert said.code == 5
    assert "did you mean 'supervisor'?" in said.err


def test_several_testbeds_need_a_name(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("DYNAMOS_STATE", str(tmp_path))
    for name in ("one", "two"):
        folder = StateFolder(tmp_path / name)
        folder.make()
        folder.lock.touch()
        folder.log.write_text(f"of {name}\n")
    said = dynamos(capsys, "logs")
    assert said.code == 2
    assert "one, two" in said.err
    assert dynamos(capsys, "logs", "--testbed", "two").out == "of two\n"
    assert dynamos(capsys, "logs", "--testbed", "twoo").code == 5
