"""Installing profiles of others: checked as a whole before anything is there, and only what describes or holds data."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from dynamos.deploy import installs, places, profiles
from dynamos.kit.errors import Conflict, JobFailed, Mistakes, NotFound, TimedOut

MARKET = "name: care\nparties: {hospital: {data: {d: {t: t.csv}}}, clinic: {}}\n"
PROFILE = """\
name: care
driver: namespaces
marketplace: care
sites: {east: {parties: [hospital]}, west: {parties: [clinic]}}
links: [{between: [east, west], delay: 3ms}]
"""


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DYNAMOS_PROFILES", str(tmp_path / "installed"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "installed"


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    folder = tmp_path / "origin"
    market = folder / "profiles" / "marketplaces" / "care"
    (market / "data" / "hospital").mkdir(parents=True)
    (market / "marketplace.yaml").write_text(MARKET)
    (market / "datasets.yaml").write_text("d: {tables: [t]}")
    (market / "data" / "hospital" / "t.csv").write_text("x\n1\n")
    (folder / "profiles" / "care.yaml").write_text(PROFILE)
    (folder / "profiles" / "far.yaml").write_text(
        "extends: care\nname: far\nlinks: [{between: [east, west], delay: 9ms}]\n"
    )
    return folder


def there(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


CONTENT = [
    "care.yaml", "far.yaml", "marketplaces/care/data/hospital/t.csv", "marketplaces/care/datasets.yaml",
    "marketplaces/care/marketplace.yaml",
]  # fmt: skip


def commit(folder: Path) -> str:
    git = [
        "git",
        "-C",
        str(folder),
        "-c",
        "user.name=t",
        "-c",
        "user.email=t@example.org",
        "-c",
        "commit.gpgsign=false",
    ]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "--quiet", "-m", "all"], check=True)
    return f"file://{folder}"


def test_a_folder_is_installed_and_its_profiles_are_found_by_name(target: Path, origin: Path) -> None:
    found = installs.install(str(origin))
    assert found == installs.Installed(("care", "far"), ("care",), target)
    assert there(target) == CONTENT
    assert {"care", "far", "laptop"} <= set(places.profile_names())
    checked = profiles.validate("far")
    assert str(checked.profile.links[0].delay) == "9ms"
    assert profiles.prepare(checked.profile)["hospital"] == target / "marketplaces" / "care" / "data" / "hospital"


def test_a_git_repository_is_installed_by_its_address(target: Path, origin: Path) -> None:
    assert installs.install(commit(origin)).profiles == ("care", "far")
    assert there(target) == CONTENT


def test_one_file_is_installed(target: Path, tmp_path: Path) -> None:
    path = tmp_path / "near.yaml"
    path.write_text("extends: three-sites\nname: near\nlinks: [{between: [tokyo, amsterdam], delay: 1ms}]\n")
    assert installs.install(str(path)).profiles == ("near",)
    assert there(target) == ["near.yaml"]
    assert profiles.load("near").links[2].delay == 0.001


def test_nothing_is_installed_where_one_of_them_is_wrong(target: Path, origin: Path) -> None:
    (origin / "profiles" / "far.yaml").write_text("extends: care\nname: far\ncontrol: north\nmarket: x\n")
    (origin / "profiles" / "third.yaml").write_text("extends: care\nname: fourth\n")
    with pytest.raises(Mistakes) as caught:
        installs.install(str(origin))
    assert [mistake.message for mistake in caught.value.mistakes] == [
        "unknown member 'market'", "there is no site 'north'", "the profile in it is called 'fourth'",
    ]  # fmt: skip
    assert [mistake.where.partition(" ")[0] for mistake in caught.value.mistakes] == [
        "far.yaml:4:1",
        "far.yaml:3:1",
        "third.yaml",
    ]
    assert there(target) == []


def test_only_files_that_describe_or_hold_data_are_taken(target: Path, origin: Path) -> None:
    market = origin / "profiles" / "marketplaces" / "care"
    (market / "run.sh").write_text("rm -rf /")
    (market / "secret.csv").symlink_to("/etc/passwd")
    (market / "data" / "all").symlink_to("/etc")
    (market / ".git").mkdir()
    (market / ".git" / "config.txt").write_text("x")
    (origin / "profiles" / "marketplaces" / "other").mkdir()
    (origin / "setup.py").write_text("x")
    (origin / "profiles" / "care.yaml").chmod(0o777)
    installs.install(str(origin))
    assert there(target) == CONTENT
    assert (target / "care.yaml").stat().st_mode & 0o111 == 0


def test_what_is_too_large_is_refused(target: Path, origin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installs, "MOST_FILES", 2)
    with pytest.raises(Exception, match="too large to install"):
        installs.install(str(origin))
    assert there(target) == []


def test_a_name_that_is_taken_stays_with_who_has_it(target: Path, origin: Path) -> None:
    installs.install(str(origin))
    (origin / "profiles" / "care.yaml").write_text(PROFILE.replace("3ms", "4ms"))
    with pytest.raises(Conflict, match="installed already"):
        installs.install(str(origin))
    assert profiles.load("care").links[0].delay == 0.003
    installs.install(str(origin), force=True)
    assert profiles.load("care").links[0].delay == 0.004
    assert there(target) == CONTENT
    laptop = origin.parent / "laptop.yaml"
    laptop.write_text("extends: three-sites\nname: laptop\n")
    with pytest.raises(Conflict, match="comes with DYNAMOS"):
        installs.install(str(laptop), force=True)


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("nowhere", NotFound, "there is no file or folder 'nowhere'"),
        (".", NotFound, "there are no profiles in '.'"),
        ("file:///nowhere/at/all.git", JobFailed, "git cannot fetch file:///nowhere/at/all.git"),
        ("-oProxyCommand=x", NotFound, "there is no file or folder"),
        ("ext::sh -c touch% x", NotFound, "there is no file or folder"),
    ],
)
def test_where_there_is_nothing_to_install_it_says_so(target, tmp_path, source, error, message) -> None:
    with pytest.raises(error) as caught:
        installs.install(source)
    assert message in str(caught.value)
    assert not (tmp_path / "x").exists()


def test_a_repository_that_does_not_answer_has_a_bound(
    target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = tmp_path / "git"
    slow.write_text("#!/bin/sh\nsleep 60 & wait\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(TimedOut, match="did not fetch"):
        installs.install("https://localhost/slow.git", within=0.1)
    assert there(target) == [] if target.exists() else True
