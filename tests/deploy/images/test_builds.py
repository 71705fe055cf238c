"""Builds: whole or not at all, one at a time, what is lacking is told, and the same sources give the same digest."""

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dynamos.deploy.images import builds, references, sboms, stores
from dynamos.deploy.images.archives import Archive
from dynamos.deploy.images.debs import Deb
from dynamos.deploy.images.golang import Module
from dynamos.deploy.images.manifests import Runs, image
from dynamos.deploy.images.references import Built, Images
from dynamos.deploy.images.sboms import Contents, Program
from dynamos.deploy.images.wheels import Wheel
from dynamos.kit.errors import BadInput, Full, JobFailed, NotFound, Unavailable
from support.commands import dynamos
from support.images import has_busybox, shell_image

ROOT = Path(__file__).parents[3]
needs_go = pytest.mark.skipif(shutil.which("go") is None, reason="no Go here")


def courier(folder, text="package main\n\nfunc main() { println(1) }\n"):
    sources = folder / builds.COURIER
    sources.mkdir(parents=True)
    (sources / "go.mod").write_text("module example.org/courier\n\ngo 1.22\n")
    (sources / "main.go").write_text(text)
    return folder


@needs_go
@pytest.mark.slow
def test_the_same_sources_give_the_same_image_in_another_folder_at_another_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one = builds.build(Path("a"), ["courier"], checkout=courier(tmp_path / "here"))["courier"]
    other = courier(tmp_path / "there" / "far")
    os.utime(other / builds.COURIER / "main.go", (1, 1))
    two = builds.build(tmp_path / "b", ["courier"], registry="r.example", checkout=other)["courier"]
    assert one == two
    assert (tmp_path / "a" / one.sbom).read_bytes() == (tmp_path / "b" / two.sbom).read_bytes()
    with Archive(tmp_path / "b" / two.archive) as archive:
        assert archive.config()["config"]["Entrypoint"] == ["/courier"]
    assert two.reference("r.example") == f"r.example/courier:{two.version}@{one.digest}"


@needs_go
@pytest.mark.slow
def test_an_image_that_cannot_be_built_leaves_the_one_that_was_there(tmp_path):
    before = builds.build(tmp_path / "a", ["courier"], checkout=courier(tmp_path / "good"))
    with pytest.raises(JobFailed, match="Go says"):
        builds.build(tmp_path / "a", ["courier"], checkout=courier(tmp_path / "bad", "package main\n"))
    assert references.read(tmp_path / "a") == before
    with Archive(tmp_path / "a" / "courier.tar") as archive:
        assert archive.manifest_digest == before["courier"].digest


def test_what_is_lacking_is_told_after_the_rest(tmp_path):
    with pytest.raises(NotFound, match="no sources of this Go program"):
        builds.build(tmp_path / "a", ["courier"], checkout=tmp_path)
    with pytest.raises(BadInput, match="no image 'agent'"):
        builds.build(tmp_path / "a", ["agent"], checkout=tmp_path)
    assert not (tmp_path / "a" / references.RECORD).exists()


def test_one_build_at_a_time_and_what_a_killed_one_left_is_removed(tmp_path):
    (tmp_path / ".build-killed" / "wheels").mkdir(parents=True)
    (tmp_path / ".dynamos.tar.half").write_bytes(b"half")
    with stores.building(tmp_path) as room:
        assert room.is_dir()
        assert {path.name for path in tmp_path.iterdir()} == {".lock", room.name}
        with pytest.raises(Unavailable, match="already"), stores.building(tmp_path):
            pass
    assert {path.name for path in tmp_path.iterdir()} == {".lock"}


def test_a_build_begins_only_where_there_is_room(tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "ROOM", 10**18)
    with pytest.raises(Full, match="images need 1000000000") as caught, stores.building(tmp_path):
        pass
    assert "--to" in caught.value.hint
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput), stores.building(tmp_path / "file" / "x"):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="kills a process group")
def test_a_build_that_is_killed_lets_the_next_one_in(tmp_path):
    code = f"""
import os, signal
from pathlib import Path
from dynamos.deploy.images import stores
with stores.building(Path({str(tmp_path)!r})) as room:
    (room / "big").write_bytes(b"0" * 1000)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == -9
    assert list(tmp_path.glob(".build-*"))
    with stores.building(tmp_path) as room:
        assert list(tmp_path.glob(".build-*")) == [room]


def test_a_layer_is_made_once_and_again_where_it_was_spoilt(tmp_path):
    made = []

    def make():
        made.append(1)
        (tmp_path / "root").mkdir(exist_ok=True)
        (tmp_path / "root" / "x").write_text("x")
        return tmp_path / "root"

    first = stores.layer(tmp_path, ["a"], "test", make)
    assert stores.layer(tmp_path, ["a"], "test", make) == first
    assert len(made) == 1
    first.path.write_bytes(first.path.read_bytes()[:-1])
    assert stores.layer(tmp_path, ["a"], "test", make) == first
    assert stores.layer(tmp_path, ["b"], "test", make).path != first.path
    assert len(made) == 3
    stores.sweep(tmp_path, [first])
    assert len(list((tmp_path / "layers").iterdir())) == 2


def test_a_bill_names_everything_with_its_version_and_hash():
    found = image("thing", "1", [], Runs(("/x",)), architecture="amd64")
    contents = Contents(
        [Deb(Path("x"), "libc6", "2.36-9+deb12u1", "amd64", "aa")],
        [Wheel(Path("x"), "pydantic_core", "2.0", "bb")],
        [Program("go1.26", (Module("x/own", ""), Module("a/b", "v1.0.0", "h1:cc=")))],
    )
    blob = sboms.bill(found, contents)
    told = json.loads(blob.content)
    assert (told["spdxVersion"], told["dataLicense"]) == ("SPDX-2.3", "CC0-1.0")
    packages = {each["externalRefs"][0]["referenceLocator"]: each for each in told["packages"]}
    assert packages["pkg:deb/debian/libc6@2.36-9%2Bdeb12u1?arch=amd64&distro=bookworm"]["checksums"] == [
        {"algorithm": "SHA256", "checksumValue": "aa"}
    ]
    assert packages["pkg:pypi/pydantic-core@2.0"]["versionInfo"] == "2.0"
    assert packages["pkg:golang/a/b@v1.0.0"]["comment"] == "go.sum h1:cc="
    assert "pkg:golang/stdlib@1.26" in packages
    names = [each["SPDXID"] for each in told["packages"]]
    assert len(names) == len(set(names)) == 6
    assert {each["relatedSpdxElement"] for each in told["relationships"]} == set(names)
    assert blob == sboms.bill(found, contents)
    assert contents.counts() == {"debian": 1, "python": 1, "go": 2}


def record(folder, *names):
    made = {
        name: Built(name, "1", f"sha256:{name}", f"{name}.tar", f"{name}.spdx.json", "amd64", 10, 20, {"go": 1})
        for name in names
    }
    references.write(folder, made)


def test_references_are_pinned_and_what_is_not_built_is_named(tmp_path):
    with pytest.raises(NotFound) as caught:
        references.images(tmp_path)
    assert caught.value.hint == f"dynamos images build --to {tmp_path}"
    record(tmp_path, "dynamos", "bus")
    with pytest.raises(NotFound, match="not built yet: courier"):
        references.images(tmp_path)
    record(tmp_path, *references.NAMES)
    assert references.images(tmp_path, "r.example/d") == Images(
        **{name: f"r.example/d/{name}:1@sha256:{name}" for name in references.NAMES}
    )
    assert references.images(tmp_path).bus == "dynamos.local/bus:1@sha256:bus"
    for text in ("{", "[]", '{"images": {"bus": {}}}', '{"images": 3}'):
        (tmp_path / references.RECORD).write_text(text)
        with pytest.raises(BadInput, match="broken"):
            references.read(tmp_path)


def test_the_command_line_lists_what_was_built(tmp_path, capsys):
    said = dynamos(capsys, "images", "list", "--from", tmp_path)
    assert (said.code, "dynamos images build" in said.err) == (NotFound.exit, True)
    record(tmp_path, *references.NAMES)
    said = dynamos(capsys, "images", "list", "--from", tmp_path, "--registry", "r.example", "--format", "json")
    assert json.loads(said.out)[0]["reference"] == "r.example/bus:1@sha256:bus"
    said = dynamos(capsys, "images", "push", "r.example", "--from", tmp_path, "--plain-http")
    assert (said.code, "only spoken to with TLS" in said.err) == (BadInput.exit, True)
    said = dynamos(capsys, "images", "build", "agent", "--to", tmp_path)
    assert (said.code, "dynamos, bus, courier" in said.err) == (BadInput.exit, True)


@pytest.mark.skipif(not has_busybox(), reason="no busybox-static here")
def test_a_folder_with_a_shell_is_an_image(tmp_path):
    archive, reference = shell_image(tmp_path)
    other, same = shell_image(tmp_path / "again")
    assert reference == same
    assert archive.read_bytes() == other.read_bytes()
    with Archive(archive) as found:
        assert reference.endswith(found.manifest_digest)


@pytest.mark.soak
@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("apt-get") is None, reason="no apt-get here")
def test_everything_built_twice_from_nothing_is_the_same(tmp_path):
    """Two whole builds, of a copy of the sources with other times, in other folders."""
    copy = tmp_path / "copy of the sources"
    copy.mkdir()
    for name in ("dynamos", "requirements"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, copy / name, ignore=ignored, copy_function=shutil.copyfile)
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copyfile(ROOT / name, copy / name)
    again = tmp_path / "again"
    shutil.copytree(copy, again, copy_function=shutil.copy2)
    for path in again.rglob("*"):
        os.utime(path, (1, 1))
    names = ["dynamos", "bus"]
    one = builds.build(tmp_path / "one", names, checkout=copy)
    assert one == builds.build(tmp_path / "two" / "deeper", names, checkout=again)
    with (tmp_path / "one" / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody holds it any more
    assert one["dynamos"].size < 180_000_000


def test_a_disk_that_gets_full_during_a_build_leaves_nothing_half_made(tmp_path):
    def build():
        with stores.building(tmp_path) as room:
            (room / "wheel").write_text("half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(room / "wheel"))

    with pytest.raises(Full, match="no room left") as caught:
        build()
    assert "--to" in caught.value.hint
    assert {path.name for path in tmp_path.iterdir()} == {".lock"}
