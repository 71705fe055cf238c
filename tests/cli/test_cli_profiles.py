"""Verbs over profiles with networks: shown as tables and as a map, installed, described for editors."""

from __future__ import annotations

import json

from support.commands import dynamos


def test_a_profile_is_shown_as_tables(capsys):
    text = dynamos(capsys, "profile", "show", "lossy-edge").out
    assert "chicago → ship" in text
    assert "washington ↔ chicago" in text
    assert "none, scope marketplace, mtu 1280" in text
    matrix = text[text.index("delay, one way") :].splitlines()
    assert matrix[2].split() == ["chicago", "9ms", "·", "45ms"]


def test_a_profile_is_shown_as_a_map_and_as_json(capsys):
    assert dynamos(capsys, "profile", "show", "three-sites", "--format", "svg").out.startswith("<svg ")
    shown = json.loads(dynamos(capsys, "profile", "show", "three-sites", "--format", "json").out)
    assert [link["delay"] for link in shown["profile"]["links"]] == ["70ms", "52.5ms", "115ms"]


def test_what_is_installed_is_listed(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("DYNAMOS_PROFILES", str(tmp_path / "mine"))
    path = tmp_path / "near.yaml"
    path.write_text("extends: three-sites\nname: near\ndescription: Closer.\n")
    said = dynamos(capsys, "profile", "install", path)
    assert said.out == f"installed near in {tmp_path / 'mine'}\n"
    listed = json.loads(dynamos(capsys, "profile", "list", "--format", "json").out)
    assert {"name": "near", "marketplace": "aviation", "description": "Closer."} in listed
    assert dynamos(capsys, "profile", "install", path).code == 6


def test_the_schema_is_printed_for_editors(capsys):
    assert "timeline" in json.loads(dynamos(capsys, "profile", "schema").out)["properties"]
