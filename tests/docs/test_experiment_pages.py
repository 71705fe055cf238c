"""The pages on experiments: what they print runs exactly so, and nothing that a script can use is left out."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dynamos.experiments import Experiment, Factor, Measure, Outcomes, columns, crates
from dynamos.experiments.answers import Answer, Result
from dynamos.experiments.beds import Bed
from dynamos.experiments.measures import UNITS
from dynamos.experiments.records import Record
from dynamos.experiments.scripts import load

DOCS = Path(__file__).parents[2] / "docs"
LANGUAGE, RUNS = DOCS / "reference" / "experiments.md", DOCS / "reference" / "runs.md"
TUTORIAL = DOCS / "how-to" / "write-an-experiment.md"
PAGES = [LANGUAGE, RUNS, TUTORIAL]
BLOCK = re.compile(r"(?:<!-- run: ([^>]+) -->\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHELL = "in a shell"


def blocks(path, *languages):
    """Give the code blocks of a page: what to do with each, and its text."""
    return [(what, text) for what, language, text in BLOCK.findall(path.read_text()) if language in languages]


def members(kind):
    """Give what a class offers: its fields and what it defines, without what begins with an underscore."""
    fields = [field.name for field in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []
    own = list(vars(kind))
    if kind is Bed:
        text = Path(sys.modules[Bed.__module__].__file__).read_text()
        own += re.findall(r"^        self\.([a-z]\w*)(?:: [^=]+)? = ", text, re.MULTILINE)
    return sorted({name for name in (*fields, *own) if not name.startswith("_")})


def section(title):
    return re.split(r"^## ", LANGUAGE.read_text().partition(f"\n## {title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


@pytest.mark.parametrize(
    ("title", "kind"),
    [("Experiment", Experiment), ("Factor", Factor), ("Measure", Measure), ("Bed", Bed), ("Answer", Answer),
     ("Answer", Result), ("Outcomes", Outcomes)],
)  # fmt: skip
def test_the_language_has_every_member(title, kind):
    text = re.sub(r"^```.*?^```$", "", section(title), flags=re.MULTILINE | re.DOTALL)
    known = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", text))))
    assert len(text) > 200
    assert not [name for name in members(kind) if name not in known]


def test_the_language_has_every_unit_with_its_kind():
    rows = re.findall(r"^\| ([a-z, ]+) \| (`.*`) \|$", section("Measure"), re.MULTILINE)
    told = {unit: kinds for kinds, units in rows for unit in re.findall(r"`([^`]+)`", units)}
    assert set(UNITS) == {unit for unit in told if unit in UNITS}
    assert not [unit for unit, kind in UNITS.items() if kind not in told[unit]]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_every_piece_of_python_is_python(path):
    found = blocks(path, "python")
    assert found
    for _, text in found:
        compile(text, str(path), "exec")


def test_the_examples_of_the_language_are_one_experiment(tmp_path):
    texts = [text for _, text in blocks(LANGUAGE, "python")]
    own = [text for text in texts if "driver" not in text and "EVENTS" not in text]
    (tmp_path / "queue.py").write_text("\n".join(own))
    experiment = load(tmp_path / "queue.py")
    assert (experiment.name, len(experiment.claims), len(experiment.setups["testbed"])) == ("queue", 1, 1)


def test_the_reference_of_runs_has_every_table_column_and_member_of_a_record(tmp_path):
    text = RUNS.read_text()
    known = set(re.findall(r"`([^`]+)`", text))
    bare = Experiment("bare", "?", factors=[], measures=[Measure("took", "s")])
    for name, of in columns.of(bare).items():
        assert name in known or f"{name}.csv" in known
        assert not [each.name for each in of if each.name not in known and each.name != "took"], name
    assert not [name for name in Record.model_fields if name not in known]
    assert crates.METADATA in known


@pytest.mark.e2e
@pytest.mark.system
def test_the_tutorial_runs_exactly_as_it_is_printed(tmp_path):
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    environment = {name: value for name, value in environment.items() if not name.startswith("DYNAMOS_")}
    said = []
    for what, text in blocks(TUTORIAL, "python", "sh"):
        if what == SHELL:
            done = subprocess.run(
                ["sh", "-ec", text], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120,
                check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr
            said.append(done.stdout)
        else:
            assert len(text.splitlines()) < 40
            (tmp_path / what).write_text(text)
    plan, ran, table = said
    assert "4 cells x 5 repetitions: 20 trials, and 1 to warm up" in plan
    assert re.search(r"holds +Every answer has all rows, each of them once \(8 answers counted\)", ran)
    assert "8 trials done, 0 failed, 0 skipped" in ran
    report = tmp_path / ran.splitlines()[-1].strip()
    assert report.name == "report.html"
    assert "What does it cost to ask two airlines instead of one?" in report.read_text()
    assert re.findall(r"│ +(\d) +│ (\w+) ", table) == [
        ("1", "computeToData"), ("1", "dataThroughTtp"), ("2", "computeToData"), ("2", "dataThroughTtp"),
    ]  # fmt: skip
    folder = report.parent
    assert json.loads((folder / "environment.json").read_text())["sessions"][0]["ended"]
    assert [path.name for path in folder.glob("logs/laptop-*/bus.jsonl")]
    told = (folder / crates.METADATA).read_text()
    assert "report.html" in told
    assert str(tmp_path) not in told + "".join(path.read_text() for path in folder.glob("logs/laptop-*/*"))
