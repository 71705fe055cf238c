"""What images are made from: packages, wheels, Go programs; what is left out, and what is refused."""

import os
import shutil
import subprocess
import zipfile

import pytest

from dynamos.deploy import bundles
from dynamos.deploy.images import debs, golang, recipes, wheels
from dynamos.kit.errors import BadInput, JobFailed, NotFound

needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="no dpkg-deb here")
needs_apt = pytest.mark.skipif(shutil.which("apt-get") is None, reason="no apt-get here")
needs_go = pytest.mark.skipif(shutil.which("go") is None, reason="no Go here")


def deb(folder, files):
    root = folder / "tree"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN" / "control").write_text(
        "Package: thing\nVersion: 1:2.0+b1\nArchitecture: all\nMaintainer: me <me@example.org>\nDescription: x\n"
    )
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    (root / "lib/link").symlink_to("/lib/thing.so")
    subprocess.run(["dpkg-deb", "--build", root, folder / "thing.deb"], check=True, capture_output=True)
    return folder / "thing.deb"


@needs_dpkg
def test_a_package_is_unpacked_into_a_merged_usr_without_its_documents(tmp_path):
    files = {"lib/thing.so": "so", "usr/share/doc/thing/copyright": "free", "usr/share/man/man1/x": "m", "etc/x": "c"}
    found = debs._read(deb(tmp_path, files))
    assert (found.name, found.version, found.architecture) == ("thing", "1:2.0+b1", "all")
    assert found.purl == "pkg:deb/debian/thing@1%3A2.0%2Bb1?arch=all&distro=bookworm"
    root = tmp_path / "root"
    debs.unpack(found, root, recipes.wanted)
    debs.merge(root)
    there = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    assert there == {"usr/lib/thing.so", "usr/lib/link", "usr/share/doc/thing/copyright"} - {"usr/lib/link"}
    assert (root / "usr/lib/link").is_symlink()
    assert (root / "lib").readlink().name == "lib"


def test_a_package_cannot_write_outside_of_the_root():
    with pytest.raises(BadInput, match="out of its root"):
        debs._merged("./usr/../../etc/passwd")


def test_without_apt_it_says_where_images_can_be_built(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotFound, match="apt-get is not installed") as caught:
        debs.fetch(["libc6"], tmp_path)
    assert "being root is not needed" in caught.value.hint


@needs_apt
def test_a_machine_that_knows_no_debian_is_told_to_name_its_sources(tmp_path, monkeypatch):
    monkeypatch.setattr(debs, "_run", lambda *_: "")
    with pytest.raises(NotFound, match="no mirror") as caught:
        debs.fetch(["libc6"], tmp_path)
    assert "--sources" in caught.value.hint
    with pytest.raises(NotFound, match="no such file of apt sources"):
        debs.fetch(["libc6"], tmp_path, tmp_path / "none.list")


@needs_apt
@needs_dpkg
def test_packages_that_nobody_signed_are_refused(tmp_path):
    repository = tmp_path / "repository"
    repository.mkdir()
    shutil.move(deb(tmp_path, {"lib/thing.so": "so"}), repository)
    (repository / "Packages").write_text("")
    (tmp_path / "own.list").write_text(f"deb file:{repository} ./\n")
    (tmp_path / "room").mkdir()
    with pytest.raises(JobFailed, match="cannot be had"):
        debs.fetch(["thing"], tmp_path / "room", tmp_path / "own.list")


def wheel(folder, files, name="thing-1.0-py3-none-any.whl"):
    info = {"thing-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n"}
    info["thing-1.0.dist-info/WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    info["thing-1.0.dist-info/RECORD"] = ""
    with zipfile.ZipFile(folder / name, "w") as archive:
        for path, content in {**files, **info}.items():
            archive.writestr(path, content)
    return folder / name


def test_a_wheel_is_laid_out_without_what_no_program_needs(tmp_path):
    files = {
        "thing/__init__.py": "", "thing/tests/test_x.py": "", "thing/x.pyx": "", "thing/include/x.h": "",
        "thing/a.so": "same", "thing/a.so.1": "same", "thing/b.so": "other", "thing-1.0.data/scripts/tool": "#!",
        "thing-1.0.data/purelib/more.py": "", "thing-1.0.data/headers/x.h": "",
        "thing-1.0.dist-info/entry_points.txt": "[console_scripts]\ngo = thing.main:run\n",
        "thing-1.0.dist-info/licenses/LICENSE": "free",
    }  # fmt: skip
    found = wheels.read(wheel(tmp_path, files))
    assert (found.name, found.version, found.purl) == ("thing", "1.0", "pkg:pypi/thing@1.0")
    root = tmp_path / "root"
    wheels.unpack(found, root, programs=True)
    there = {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}
    site = {"thing/__init__.py", "thing/a.so", "thing/a.so.1", "thing/b.so", "more.py", "thing-1.0.dist-info/METADATA",
            "thing-1.0.dist-info/WHEEL", "thing-1.0.dist-info/entry_points.txt",
            "thing-1.0.dist-info/licenses/LICENSE"}  # fmt: skip
    assert there == {f"{wheels.SITE}/{each}" for each in site} | {"usr/local/bin/tool", "usr/local/bin/go"}
    assert (root / wheels.SITE / "thing/a.so.1").readlink().name == "a.so"
    assert "from thing.main import run" in (root / "usr/local/bin/go").read_text()
    assert os.access(root / "usr/local/bin/tool", os.X_OK)


@pytest.mark.parametrize("path", ["../out.py", "/etc/passwd", "thing-1.0.data/scripts/../../../out"])
def test_a_wheel_cannot_write_outside_of_its_place(tmp_path, path):
    found = wheels.read(wheel(tmp_path, {path: "x"}))
    with pytest.raises(BadInput, match="out of its place"):
        wheels.unpack(found, tmp_path / "root")
    assert not (tmp_path / "out").exists()


def test_a_broken_wheel_is_refused(tmp_path):
    path = wheel(tmp_path, {"thing/__init__.py": "x" * 1000})
    content = bytearray(path.read_bytes())
    content[60:70] = b"\0" * 10
    path.write_bytes(content)
    with pytest.raises(BadInput, match="broken"):
        wheels.unpack(wheels.read(path), tmp_path / "root")
    (tmp_path / "thing-1.0-py3-none-any.whl").write_bytes(b"no zip")
    with pytest.raises(BadInput, match="not a wheel"):
        wheels.read(path)


def test_a_wheel_with_another_hash_than_the_locked_one_is_refused(tmp_path, monkeypatch):
    pytest.importorskip("pip")
    wheel(tmp_path, {"thing/__init__.py": ""})
    (tmp_path / "run.txt").write_text(f"thing==1.0 --hash=sha256:{'0' * 64}\n")
    (tmp_path / "into").mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(JobFailed, match="DO NOT MATCH THE HASHES"):
        bundles.fetch(tmp_path / "run.txt", tmp_path / "into", python="3.11", machine="x86_64")


def program(folder, text="package main\n\nfunc main() {}\n"):
    folder.mkdir(parents=True)
    (folder / "go.mod").write_text("module example.org/thing\n\ngo 1.22\n")
    (folder / "main.go").write_text(text)
    return folder


@needs_go
@pytest.mark.slow
def test_a_go_program_is_the_same_wherever_it_is_built_and_tells_its_modules(tmp_path):
    one = program(tmp_path / "one")
    other = program(tmp_path / "far" / "away")
    os.utime(other / "main.go", (1, 1))
    for sources in (one, other):
        golang.build(sources, sources / "out", "amd64")
    assert (one / "out").read_bytes() == (other / "out").read_bytes()
    version, modules = golang.modules(one / "out")
    told = subprocess.run(["go", "version", "-m", one / "out"], capture_output=True, text=True, check=True).stdout
    assert version in told
    assert [(each.path, each.version) for each in modules] == [("example.org/thing", "")]


@needs_go
@pytest.mark.slow
def test_what_is_wrong_with_a_go_program_is_told(tmp_path):
    with pytest.raises(JobFailed, match="undefined: nothing"):
        golang.build(program(tmp_path / "bad", "package main\n\nfunc main() { nothing() }\n"), tmp_path / "x", "amd64")


def test_without_go_or_without_sources(tmp_path, monkeypatch):
    with pytest.raises(NotFound, match="no sources"):
        golang.build(tmp_path, tmp_path / "x", "amd64")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotFound, match="Go is not installed"):
        golang.build(program(tmp_path / "p"), tmp_path / "x", "amd64")
    (tmp_path / "text").write_text("no program")
    with pytest.raises(BadInput, match="not a program of Go"):
        golang.modules(tmp_path / "text")


def test_modules_are_read_as_the_linker_writes_them(tmp_path):
    """A file with the header, the version and the list as a linker lays them out; a replaced module counts once."""
    lines = "path\tx/y\nmod\tx/y\t(devel)\t\ndep\ta/b\tv1.0.0\th1:AA=\ndep\tc/d\tv2.0.0\n=>\te/f\tv3.0.0\th1:BB=\n"
    text = b"A" * 16 + lines.encode() + b"B" * 16
    size = bytes([len(text) & 0x7F | 0x80, len(text) >> 7])
    head = b"\xff Go buildinf:" + bytes([8, 2]) + b"\0" * 16
    (tmp_path / "program").write_bytes(b"ELF" + head + b"\x06go1.27" + size + text)
    version, modules = golang.modules(tmp_path / "program")
    assert version == "go1.27"
    assert [each.purl for each in modules] == ["pkg:golang/x/y", "pkg:golang/a/b@v1.0.0", "pkg:golang/e/f@v3.0.0"]
    assert modules[1].sum == "h1:AA="
