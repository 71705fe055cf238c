"""Scripts: what is wrong with one is told at once, each mistake with its line, and nothing runs."""

import subprocess
import sys

import pytest

from dynamos.experiments.choices import Choices, prepare
from dynamos.experiments.scripts import load
from dynamos.kit.errors import BadInput, Mistakes, NotFound
from support.experiments import BODY, script


def line_of(path, words):
    return 1 + next(at for at, line in enumerate(path.read_text().splitlines()) if words in line)


def test_a_script_is_read_with_what_it_declares(tmp_path):
    found = load(script(tmp_path))
    assert (found.name, found.question, found.profile) == ("tiny", "Does it?", "laptop")
    assert found.script == tmp_path / "tiny.py"


def test_all_mistakes_of_a_declaration_are_told_at_once_with_their_lines(tmp_path):
    path = script(
        tmp_path,
        """
        @experiment.testbed
        def shaped(profile, rows):
            return profile

        @experiment.trial
        def trial(bed, row):
            return {}
        """,
        factors='[Factor("rows", []), Factor("rows", [1]), Factor("in", [1], quick=[2]), '
        'Factor("far", [1], when={"near": 1}), Factor("status", [1], changes="world")]',
        measures='[Measure("total", ""), Measure("size", "parsec"), Measure("rows", "s", better="big")]',
        baseline='{"rows": 5, "cols": 1}',
        bound='"long"',
        repetitions="0",
        needs='"market"',
        parallel="4",
    )
    with pytest.raises(Mistakes) as caught:
        load(path)
    told = str(caught.value)
    for words in (
        "'rows' has no level", "'in' is not a name of a factor", "factor 'rows' is declared twice",
        "2 in quick is no level",
        "'near', which is no factor",
        "changes 'world'", "measure 'total' has no unit", "unknown unit 'parsec'", "better='big'",
        "'rows' is both a factor and a measure", "'status' is a column", "rows=5 is no level",
        "'cols', which is no factor",
        "bound: ", "repetitions=0", "needs='market' (did you mean 'marketplace'", "would disturb each other",
        "trial() takes 'row', which is no factor", "trial() does not take the factor 'rows'",
        "shaped() takes 'rows', which is no factor of its kind",
    ):  # fmt: skip
        assert words in told, words
    declared, function = line_of(path, "experiment = Experiment("), line_of(path, "@experiment.trial")
    assert f"{path}:{declared}: the measure 'total' has no unit" in told
    assert f"{path}:{function}: trial() takes 'row'" in told


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("import os\nif True\n", 2, "not Python"),
        ("import os\n\nprint(1 / 0)\n", 3, "ZeroDivisionError"),
        ("import dynamoss\n", 1, "No module named 'dynamoss'"),
        ("import sys\nsys.exit('bye')\n", 2, "ends the program"),
    ],
)
def test_a_script_that_cannot_be_read_is_told_with_its_line(tmp_path, text, line, words):
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(BadInput, match=words) as caught:
        load(path)
    assert caught.value.where == f"{path}:{line}"


def test_a_script_declares_one_experiment_and_has_a_trial(tmp_path):
    path = tmp_path / "none.py"
    path.write_text("x = 1\n")
    with pytest.raises(BadInput, match="no experiment"):
        load(path)
    path = script(tmp_path, BODY + '\nother = Experiment("b", "?", [], [])\n')
    with pytest.raises(BadInput, match="2 experiments"):
        load(path)
    with pytest.raises(Mistakes, match="no trial function"):
        load(script(tmp_path, ""))
    with pytest.raises(NotFound):
        load(tmp_path / "absent.py")


def test_what_a_scripts_own_functions_raise_while_planning_is_told_with_the_line(tmp_path):
    path = script(tmp_path, factors='[Factor("rows", [1], when=lambda cell: cell["cols"] > 1)]')
    with pytest.raises(BadInput, match="KeyError: 'cols'") as caught:
        prepare(path, Choices())
    assert caught.value.where == f"{path}:{line_of(path, 'lambda')}"
    body = BODY + "\n@experiment.testbed\ndef shaped(profile):\n    return profile.sights\n"
    path = script(tmp_path, body, needs='"networks"')
    with pytest.raises(BadInput, match="AttributeError") as caught:
        prepare(path, Choices())
    assert caught.value.where == f"{path}:{line_of(path, 'profile.sights')}"
    path = script(tmp_path, body.replace("profile.sights", "None"), needs='"networks"')
    with pytest.raises(BadInput, match="gave no profile"):
        prepare(path, Choices())


def test_an_unknown_profile_is_told_with_those_that_there_are(tmp_path):
    with pytest.raises(NotFound, match="laptop"):
        prepare(script(tmp_path, needs='"networks"'), Choices(profile="lapdop"))


def test_a_script_that_runs_itself_when_it_is_read_does_not_run_for_ever(tmp_path):
    path = script(tmp_path, BODY + "\nexperiment.main()\n")
    with pytest.raises(BadInput, match="runs itself"):
        load(path)


def test_a_script_is_a_command(tmp_path):
    path = script(tmp_path, BODY + '\nif __name__ == "__main__":\n    experiment.main()\n')
    done = subprocess.run(
        [sys.executable, path, "--dry-run", "--set", "rows=7", "--repeat", "1"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert "rows=7" in done.stdout
    assert "1 cells x 1 repetitions: 1 trials, and 1 to warm up" in done.stdout
