"""The pages say what is true: links lead somewhere, commands exist, codes agree with the code."""

import re
from pathlib import Path

import pytest
import typer

from dynamos.cli.main import INTERRUPTED, build
from dynamos.cli.pages import BEGIN, END, commands, page
from dynamos.kit import errors
from dynamos.kit.errors import DynamosError

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(#[^)\s]+)?\)")
HEADING = re.compile(r"^#+ +(.*?) *$", re.MULTILINE)
WORDS = re.compile(r"(?:^|`|\$ |\()dynamos ((?:[a-z]+)(?: [a-z]+)?)", re.MULTILINE)


def names(path):
    return str(path.relative_to(ROOT))


def anchors(text):
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in HEADING.findall(text)}


@pytest.mark.parametrize("path", PAGES, ids=names)
def test_every_link_leads_to_a_file_and_a_heading_that_is_there(path):
    for target, anchor in LINK.findall(path.read_text()):
        if "://" in target:
            continue
        found = (path.parent / target).resolve()
        assert found.exists(), f"{names(path)} links to {target}"
        if anchor:
            assert anchor[1:] in anchors(found.read_text()), f"{names(path)} links to {target}{anchor}"


def test_every_page_is_in_the_index():
    index = ROOT / "docs" / "index.md"
    listed = {(index.parent / target).resolve() for target, _ in LINK.findall(index.read_text())}
    missing = [names(path) for path in PAGES if path not in listed and path != index]
    assert not missing


@pytest.mark.parametrize("path", PAGES, ids=names)
def test_every_command_that_a_page_names_is_one(path):
    known = {words for words, _ in commands()} | {words.split()[0] for words, _ in commands()}
    for words in WORDS.findall(path.read_text()):
        first = words.split()[0]
        assert words in known or first in known, f"{names(path)} names `dynamos {words}`"


def test_the_reference_of_commands_is_what_the_command_says():
    text = (ROOT / "docs" / "reference" / "cli.md").read_text()
    made = text.partition(BEGIN)[2].partition(END)[0].strip()
    assert made == page().strip(), "renew it: python -m dynamos.cli.pages docs/reference/cli.md"


def test_the_reference_of_commands_names_every_exit_code_and_variable():
    text = (ROOT / "docs" / "reference" / "cli.md").read_text()
    table = dict(re.findall(r"^\| (\d+) \| (?:`([a-z-]+)`)? ?\|", text, re.MULTILINE))
    kinds = {kind for kind in DynamosError.__subclasses__() if kind.__module__ == errors.__name__}
    codes = {str(kind.exit): kind.code for kind in kinds}
    assert table == {**codes, "0": "", str(INTERRUPTED): ""}
    root = typer.main.get_command(build())
    used = {p.envvar for c in root.commands.values() for p in c.params if getattr(p, "envvar", None)}
    assert used
    assert not [name for name in used if f"`{name}`" not in text]


def test_the_readme_names_targets_that_there_are():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"\bmake ([a-z]+)", (ROOT / "README.md").read_text()):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_picture_of_the_readme_is_of_the_demo_as_it_is():
    text = re.sub(r"<[^>]+>|&#160;", " ", (ROOT / "docs" / "images" / "demo.svg").read_text())
    text = " ".join(text.split())
    for words in (
        "computeToData",
        "dataThroughTtp",
        "refused",
        "in its file",
        "plain DuckDB",
        "equal",
        "sql-aggregate",
    ):
        assert words in text


def test_the_glossary_is_in_order_and_says_each_word_once():
    rows = re.findall(r"^\| ([^|]+) \| ", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE)[2:]
    assert rows == sorted(set(rows), key=str.lower)
