"""`dynamos service new`: what it makes works as it is made."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dynamos.kit.errors import BadInput, Conflict
from dynamos.model.services import Service
from dynamos.services.new import LANGUAGES, create

ROOT = Path(__file__).parents[2]


def check(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_new_python_service_passes_its_own_test(tmp_path: Path) -> None:
    made = create(tmp_path / "add-noise", "add-noise", "python", label="dataProvider")
    assert {file.name for file in made} == {
        "add_noise.py", "test_add_noise.py", "pyproject.toml", "services.yaml", "README.md",
    }  # fmt: skip
    done = check(tmp_path / "add-noise", "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


def test_a_new_python_service_is_found_by_its_entry_point(tmp_path: Path) -> None:
    create(tmp_path / "add-noise", "add-noise", label="dataProvider")
    info = tmp_path / "add-noise" / "dynamos_add_noise-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: dynamos-add-noise\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[dynamos.services]\nadd-noise = add_noise:add_noise\n")
    look = "from dynamos.services import catalogue as c; m = c.manifest('add-noise'); print(c.names()[-1], m.label)"
    done = check(tmp_path / "add-noise", "-c", look)
    assert done.stdout == "add-noise dataProvider\n", done.stderr


BUILDS = {"bash": [], "c": ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", "pass-on", "pass-on.c"]}


@pytest.mark.parametrize("language", BUILDS)
def test_a_new_program_in_another_language_keeps_the_contract(tmp_path: Path, language: str) -> None:
    tool = (BUILDS[language] or ["bash"])[0]
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    folder = tmp_path / "pass-on"
    create(folder, "pass-on", language)
    if BUILDS[language]:
        subprocess.run(BUILDS[language], cwd=folder, check=True)
    assert folder.joinpath("pass-on").stat().st_mode & stat.S_IXUSR
    done = check(folder, "test_pass_on.py")
    assert done.stdout == "pass-on keeps the contract\n", done.stderr


@pytest.mark.slow
def test_a_new_go_program_keeps_the_contract(tmp_path: Path) -> None:
    if shutil.which("go") is None:
        pytest.skip("go is not installed")
    folder = tmp_path / "pass-on"
    create(folder, "pass-on", "go")
    environment = {**os.environ, "GOFLAGS": "-mod=mod", "GOPROXY": "off", "GOCACHE": str(tmp_path / "cache")}
    subprocess.run(["go", "build", "-o", "pass-on", "."], cwd=folder, env=environment, check=True)
    assert check(folder, "test_pass_on.py").stdout == "pass-on keeps the contract\n"


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_goes_into_a_marketplace_is_a_service(tmp_path: Path, language: str) -> None:
    create(tmp_path / "s", "pass-on", language)
    [(name, members)] = yaml.safe_load((tmp_path / "s" / "services.yaml").read_text()).items()
    if language != "python":
        assert Service(name=name, **members).command == ("/opt/pass-on/pass-on",)
    assert "$" not in (tmp_path / "s" / "README.md").read_text()


@pytest.mark.parametrize(("name", "language", "hint"), [
    ("Add Noise", "python", "lower-case words"),
    ("../evil", "python", "lower-case words"),
    ("noise", "pyton", "did you mean 'python'?"),
    ("noise", "cobol", "begin from bash"),
])  # fmt: skip
def test_what_cannot_be_made_is_told(tmp_path: Path, name: str, language: str, hint: str) -> None:
    with pytest.raises(BadInput) as told:
        create(tmp_path / "s", name, language)
    assert hint in told.value.hint
    assert not (tmp_path / "s").exists()


def test_nothing_that_exists_is_written_over(tmp_path: Path) -> None:
    with pytest.raises(Conflict):
        create(tmp_path, "noise")
    assert list(tmp_path.iterdir()) == []
