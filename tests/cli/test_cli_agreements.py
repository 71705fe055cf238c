import json

import pytest

from support.commands import FakeApi, dynamos

BASE = "/api/v1/policyEnforcer/agreements"
UNITED = {
    "name": "united",
    "archetypes": ["computeToData"],
    "relations": {
        "ann": {"requestTypes": ["sqlDataRequest"], "dataSets": ["operations"]},
        "sam": {"tables": {"flights": ["origin", "dest"]}},
    },
}


@pytest.fixture
def api(monkeypatch):
    return FakeApi(
        {
            f"GET {BASE}": [UNITED],
            f"GET {BASE}/united": (200, UNITED, {"etag": '"7"'}),
            f"PUT {BASE}/united": b"OK",
        }
    ).install(monkeypatch)


def test_agreements_are_listed_and_shown(capsys, api):
    assert "united" in dynamos(capsys, "agreement", "list").out
    shown = dynamos(capsys, "agreement", "show", "united").out
    assert "flights(origin, dest)" in shown
    assert json.loads(dynamos(capsys, "agreement", "show", "united", "--format", "json").out) == UNITED


def test_revoke_takes_one_relation_out_and_only_if_nobody_changed_it_meanwhile(capsys, api):
    said = dynamos(capsys, "agreement", "revoke", "united", "ann")
    assert said.code == 0, said.err
    put = api.asked[-1]
    assert (put.method, put.headers["if-match"]) == ("PUT", '"7"')
    assert api.body() == {**UNITED, "relations": {"sam": UNITED["relations"]["sam"]}}


def test_revoking_what_is_not_there_changes_nothing_and_names_what_is_near(capsys, api):
    said = dynamos(capsys, "agreement", "revoke", "united", "anne")
    assert said.code == 5
    assert "did you mean 'ann'?" in said.err
    assert [each.method for each in api.asked] == ["GET"]


def test_set_reads_yaml_and_puts_the_name_in(capsys, api, tmp_path):
    file = tmp_path / "united.yaml"
    file.write_text("archetypes: [computeToData]\nrelations: {}\n")
    assert dynamos(capsys, "agreement", "set", "united", file).code == 0
    assert api.body() == {"name": "united", "archetypes": ["computeToData"], "relations": {}}


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "just words"])
def test_what_is_no_agreement_is_not_sent(capsys, api, tmp_path, text):
    file = tmp_path / "united.yaml"
    file.write_text(text)
    assert dynamos(capsys, "agreement", "set", "united", file).code == 2
    assert not api.asked


TOLD = {
    "party": "united",
    "summary": {"running": {"stopped": 1}, "past": {"allowed": 2, "untouched": 1}},
    "running": [
        {"job": "j1", "user": "ann", "requestType": "sqlDataRequest", "effect": "stopped", "before": ["computeToData"],
         "after": [], "reasons": [{"message": "no more"}]},
    ],
    "past": [
        {"job": f"p{n}", "user": "sam", "requestType": "sqlDataRequest", "effect": effect, "before": [],
         "after": ["computeToData"], "reasons": []}
        for n, effect in enumerate(("allowed", "allowed", "untouched"))
    ],
    "untold": 4,
}  # fmt: skip


def test_simulate_tells_what_would_become_of_what_and_puts_nothing(capsys, monkeypatch, tmp_path):
    api = FakeApi({f"POST {BASE}/united/simulate": TOLD}).install(monkeypatch)
    file = tmp_path / "united.yaml"
    file.write_text("archetypes: [computeToData]\n")
    said = dynamos(capsys, "agreement", "simulate", "united", file, "--past", "50")
    assert said.code == 0, said.err
    assert [each.method for each in api.asked] == ["POST"]
    assert api.body() == {"name": "united", "archetypes": ["computeToData"]}
    for text in ("j1", "stopped", "no more", "allowed", "4 older requests"):
        assert text in said.out
    assert "untouched" not in said.out
    asked = dynamos(capsys, "agreement", "simulate", "united", file, "--format", "json")
    assert json.loads(asked.out) == TOLD
