"""An export is one file, the same for the same run, that is a valid crate and gives the same plan elsewhere."""

import os
import shutil
import tarfile
import zipfile

import pytest

from dynamos.experiments import crates, exports, tables
from dynamos.experiments.choices import again
from dynamos.experiments.runs import Run
from dynamos.kit.errors import BadInput, Conflict, Full
from support.commands import dynamos
from support.crate_checks import issues
from support.runs import SCRIPT, fill, make

MARKET = SCRIPT.replace('needs="nothing",', 'profile="mine",')


@pytest.fixture
def run(tmp_path):
    made, prepared = make(tmp_path)
    fill(made)
    tables.write(made, prepared.experiment)
    crates.write(made, prepared.experiment)
    return made


def unpacked(path, into):
    """Unpack an export into a folder, and give where the run is."""
    into.mkdir()
    if path.suffix == ".zip":
        shutil.unpack_archive(path, into)
        return into
    shutil.unpack_archive(path, into, filter="data")
    return next(into.iterdir())


@pytest.mark.parametrize("name", ["run.zip", "run.tar.gz", "run.tgz"])
def test_it_has_every_file_of_the_run_and_no_other(run, tmp_path, name):
    path = exports.export(run, tmp_path / name)
    if name.endswith("zip"):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    else:
        with tarfile.open(path) as archive:
            names = archive.getnames()
    top = "" if name.endswith("zip") else f"quickness-{run.folder.name}/"
    assert names == [f"{top}{each.as_posix()}" for each in crates.contents(run.folder)]
    assert not [each for each in names if "lock" in each]


@pytest.mark.parametrize("name", ["run.zip", "run.tar.gz"])
def test_the_same_run_gives_the_same_bytes_whoever_holds_it(run, tmp_path, name):
    first = exports.export(run, tmp_path / f"first-{name}")
    copy = tmp_path / "elsewhere" / run.folder.name
    shutil.copytree(run.folder, copy)
    for path in copy.rglob("*"):
        os.utime(path, (0, 0))
        path.chmod(0o700)
    second = exports.export(Run.open(copy), tmp_path / f"second-{name}")
    assert first.read_bytes() == second.read_bytes()


def test_what_is_unpacked_is_a_valid_crate(run, tmp_path):
    assert issues(unpacked(exports.export(run, tmp_path / "run.zip"), tmp_path / "there"), tmp_path) == []


@pytest.mark.parametrize("name", ["run.zip", "run.tar.gz"])
def test_what_is_unpacked_elsewhere_gives_the_same_plan(run, tmp_path, name, monkeypatch, capsys):
    path = exports.export(run, tmp_path / name)
    folder = unpacked(path, tmp_path / "there")
    shutil.rmtree(run.folder)
    monkeypatch.chdir(tmp_path / "there")
    done = dynamos(capsys, "experiment", "run", folder, "--dry-run", "--runs", tmp_path / "new")
    assert f"plan {run.plan.digest[:12]}" in done.out
    assert not (tmp_path / "new").exists()
    assert again(Run.open(folder)).plan == run.plan


def test_a_profile_of_ones_own_comes_along(tmp_path, monkeypatch):
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "mine.yaml").write_text("name: mine\nextends: laptop\nsettings: {deadline: 5s}\n")
    monkeypatch.chdir(tmp_path)
    run, prepared = make(tmp_path, script=MARKET)
    crates.write(run, prepared.experiment)
    folder = unpacked(exports.export(run, tmp_path / "run.tar.gz"), tmp_path / "there")
    shutil.rmtree(tmp_path / "profiles")
    monkeypatch.chdir(folder)
    assert again(Run.open(folder)).plan.digest == run.plan.digest


def test_the_command_describes_and_exports_the_latest_run(run, tmp_path, capsys):
    (run.folder / crates.METADATA).unlink()
    done = dynamos(capsys, "experiment", "export", "quickness", tmp_path / "out.zip", "--runs", tmp_path / "runs")
    assert done.out.strip() == str(tmp_path / "out.zip")
    assert (unpacked(tmp_path / "out.zip", tmp_path / "there") / crates.METADATA).is_file()


def test_another_ending_is_a_mistake(run, tmp_path):
    with pytest.raises(BadInput, match="no kind of export"):
        exports.export(run, tmp_path / "run.rar")


def test_it_does_not_write_over_a_file_nor_into_the_run(run, tmp_path):
    exports.export(run, tmp_path / "run.zip")
    with pytest.raises(Conflict):
        exports.export(run, tmp_path / "run.zip")
    with pytest.raises(BadInput, match="in the run itself"):
        exports.export(run, run.folder / "logs" / "run.zip")


def test_a_full_disk_leaves_nothing(run, tmp_path, monkeypatch):
    def full(run, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exports, "_KINDS", {".zip": full})
    (tmp_path / "there").mkdir()
    with pytest.raises(Full):
        exports.export(run, tmp_path / "there" / "run.zip")
    assert list((tmp_path / "there").iterdir()) == []
