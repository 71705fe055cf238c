"""The page "Write a service": its examples run as they stand there."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from dynamos.model.services import Service
from dynamos.services.new import create
from dynamos.services.testing import run, stream_of

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "write-a-service.md").read_text(encoding="utf-8")
ROWS = pa.table({"n": [1, None]})


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_the_python_examples_run_one_after_the_other() -> None:
    names: dict[str, Any] = {}
    for block in blocks("python"):
        exec(block, names)
    assert names["keep_small"].manifest.description == "Keep the rows whose number is at most the limit."


@pytest.fixture
def program(tmp_path: Path) -> list[str]:
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    (tmp_path / "pass-on").write_text(blocks("bash")[0])
    (tmp_path / "pass-on").chmod(0o755)
    return [str(tmp_path / "pass-on")]


def test_the_program_in_another_language_passes_rows_on(program: list[str]) -> None:
    assert run(program, {"UVA.sql-query>UVA.pass-on": ROWS}).table() == ROWS


def test_it_passes_on_that_a_stream_broke_off(program: list[str]) -> None:
    ran = run(program, {"in": stream_of(ROWS)[:-8]})
    assert not ran.complete()


def test_it_tells_what_is_wrong(program: list[str]) -> None:
    assert run(program, {"a": ROWS, "b": ROWS}).error["message"] == "it reads one stream and writes one"


def test_it_is_what_a_new_service_begins_with(program: list[str], tmp_path: Path) -> None:
    def code(text: str) -> list[str]:
        lines = (line for line in text.splitlines() if line and not re.match(r"#( |$)", line))
        return [line.replace("it reads", "pass-on reads") for line in lines]

    create(tmp_path / "new", "pass-on", "bash")
    assert code(Path(program[0]).read_text()) == code((tmp_path / "new" / "pass-on").read_text())


def test_the_entry_for_a_marketplace_is_a_service() -> None:
    [(name, members)] = yaml.safe_load(blocks("yaml")[0]).items()
    assert Service(name=name, **members).inputs == "one"
