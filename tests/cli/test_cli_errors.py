import pytest

from dynamos.cli import targets
from dynamos.kit import errors
from dynamos.kit.errors import BadInput, DynamosError, Mistake, Mistakes, Refused
from support.commands import dynamos


def fails(monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(targets, "folder_of", fail)


@pytest.mark.parametrize("kind", sorted(DynamosError.__subclasses__(), key=lambda kind: kind.exit))
def test_every_kind_of_error_has_its_own_exit_code_and_a_clear_message(capsys, monkeypatch, kind):
    if kind.__module__ != errors.__name__:
        pytest.skip("a kind of another room")
    fails(monkeypatch, kind("it is so", where="here", hint="do that"))
    said = dynamos(capsys, "logs")
    assert said.code == kind.exit
    assert said.out == ""
    assert said.err == f"error [{kind.code}] here: it is so\nhint do that\n"


def test_a_traceback_is_shown_only_when_asked_for(capsys, monkeypatch):
    fails(monkeypatch, BadInput("it is so"))
    assert "Traceback" not in dynamos(capsys, "logs").err
    assert "Traceback" in dynamos(capsys, "logs", "--debug").err
    monkeypatch.setenv("DYNAMOS_DEBUG", "1")
    assert "Traceback" in dynamos(capsys, "logs").err


def test_a_defect_of_ours_is_told_as_one_without_a_traceback(capsys, monkeypatch):
    fails(monkeypatch, ZeroDivisionError("oops"))
    said = dynamos(capsys, "logs")
    assert said.code == 70
    assert said.err.startswith("error [broken] ZeroDivisionError: oops\nhint this is a defect of ours")


def test_ctrl_c_is_130(capsys, monkeypatch):
    fails(monkeypatch, KeyboardInterrupt())
    said = dynamos(capsys, "logs")
    assert said.code == 130
    assert "Traceback" not in said.err


def test_wrong_usage_is_2_and_names_what_is_near(capsys):
    said = dynamos(capsys, "stauts")
    assert said.code == 2
    assert "status" in said.err


def test_all_mistakes_of_a_file_are_shown(capsys, monkeypatch):
    fails(monkeypatch, Mistakes([Mistake("f:1", "first", "hint one"), Mistake("f:2", "second")], subject="f"))
    said = dynamos(capsys, "logs")
    assert said.code == 2
    assert "  f:1: first (hint one)\n  f:2: second\n" in said.err


def test_reasons_of_a_refusal_are_shown_with_clause_fact_remedy_and_place(capsys, monkeypatch):
    reason = {
        "party": "united", "message": "no such column", "clause": "relations['ann']", "fact": "column 'x'",
        "remedy": "use y", "position": [1, 8],
    }  # fmt: skip
    fails(monkeypatch, Refused("nobody permits it", reasons=[reason]))
    said = dynamos(capsys, "logs")
    assert said.code == 4
    for words in ("united: no such column", "relations['ann']", "column 'x'", "use y", "line 1, column 8"):
        assert words in said.err


def test_the_end_of_a_units_log_is_shown(capsys, monkeypatch):
    fails(monkeypatch, errors.Unavailable("united ended", log=["last words"]))
    assert "  | last words" in dynamos(capsys, "logs").err


@pytest.mark.parametrize("words", [("status",), ("down",), ("logs",), ("token", "ann"), ("jobs", "list"), ("trace",)])
def test_without_a_testbed_each_verb_says_how_to_start_one(capsys, tmp_path, monkeypatch, words):
    monkeypatch.setenv("DYNAMOS_STATE", str(tmp_path))
    said = dynamos(capsys, *words)
    assert said.code == 5
    assert "dynamos up PROFILE" in said.err
