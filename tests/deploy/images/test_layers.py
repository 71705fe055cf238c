"""Layers and archives: the same whoever writes them, whole or not there at all."""

import json
import os
import subprocess
import sys
import tarfile

import pytest

from dynamos.deploy.images import layers, manifests
from dynamos.deploy.images.archives import Archive
from dynamos.deploy.images.manifests import Runs
from dynamos.deploy.images.packing import pack
from dynamos.kit.errors import BadInput, Full, NotFound

FILES = {"b/two": b"2" * 70_000, "a/one": b"1", "a/z": b"", "ü": b"name"}


def grow(root, names, *, mtime, umask):
    before = os.umask(umask)
    try:
        for name in names:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(FILES[name])
            os.utime(path, (mtime, mtime))
        (root / "run").write_bytes(b"#!")
        (root / "run").chmod(0o700)
        (root / "link").symlink_to("a/one")
        os.utime(root / "a", (mtime, mtime))
    finally:
        os.umask(before)


def test_a_layer_does_not_depend_on_place_time_order_or_umask(tmp_path):
    grow(tmp_path / "here", FILES, mtime=1, umask=0o022)
    grow(tmp_path / "there" / "deeper", reversed(FILES), mtime=2_000_000_000, umask=0o077)
    one = layers.write(tmp_path / "here", tmp_path / "one.tar.gz")
    other = layers.write(tmp_path / "there" / "deeper", tmp_path / "other.tar.gz")
    assert (one.digest, one.diff_id, one.size) == (other.digest, other.diff_id, other.size)
    assert (tmp_path / "one.tar.gz").read_bytes() == (tmp_path / "other.tar.gz").read_bytes()
    (tmp_path / "here" / "a" / "one").write_bytes(b"!")
    assert layers.write(tmp_path / "here", tmp_path / "one.tar.gz").diff_id != other.diff_id


def test_a_layer_tells_nothing_of_this_machine(tmp_path):
    grow(tmp_path / "root", FILES, mtime=5, umask=0o077)
    (tmp_path / "root" / "tmp").mkdir()
    (tmp_path / "root" / "tmp").chmod(0o1777)
    (tmp_path / "root" / "suid").write_bytes(b"")
    (tmp_path / "root" / "suid").chmod(0o4755)
    layers.write(tmp_path / "root", tmp_path / "layer")
    with tarfile.open(tmp_path / "layer") as tar:
        members = {member.name: member for member in tar}
    assert {(each.uid, each.gid, each.uname, each.gname, each.mtime) for each in members.values()} == {
        (0, 0, "", "", 0)
    }
    modes = {name: oct(members[name].mode) for name in ("a", "a/one", "run", "tmp", "suid")}
    assert modes == {"a": "0o755", "a/one": "0o644", "run": "0o755", "tmp": "0o1777", "suid": "0o755"}
    assert members["link"].linkname == "a/one"
    assert list(members) == sorted(members, key=lambda name: name.split("/"))


def test_what_is_no_file_has_no_place_in_an_image(tmp_path):
    (tmp_path / "root").mkdir()
    os.mkfifo(tmp_path / "root" / "pipe")
    with pytest.raises(BadInput, match="only files") as caught:
        layers.write(tmp_path / "root", tmp_path / "layer")
    assert caught.value.where.endswith("pipe")


def packed(tmp_path, content=b"1"):
    (tmp_path / "root").mkdir(exist_ok=True)
    (tmp_path / "root" / "program").write_bytes(content)
    reference = pack(tmp_path / "root", tmp_path / "i.tar", name="i", version="2", runs=Runs(("/program",), ("x",)))
    return tmp_path / "i.tar", reference


def test_an_archive_says_what_containers_need(tmp_path):
    path, reference = packed(tmp_path)
    with Archive(path) as archive, tarfile.open(path) as tar:
        assert reference == f"dynamos.local/i:2@{archive.manifest_digest}"
        config = archive.config()
        assert json.load(tar.extractfile("oci-layout")) == {"imageLayoutVersion": "1.0.0"}
        index = json.load(tar.extractfile("index.json"))
    names = [each["annotations"]["io.containerd.image.name"] for each in index["manifests"]]
    assert names == ["dynamos.local/i:2", f"dynamos.local/i@{archive.manifest_digest}"]
    assert index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"] == "2"
    assert config["config"]["User"] == f"{manifests.NOBODY}:{manifests.NOBODY}"
    assert (config["config"]["Entrypoint"], config["config"]["Cmd"]) == (["/program"], ["x"])
    assert len(config["rootfs"]["diff_ids"]) == len(archive.manifest["layers"]) == 1


def test_archives_of_the_same_folder_are_the_same(tmp_path):
    first, reference = packed(tmp_path)
    content = first.read_bytes()
    os.utime(tmp_path / "root" / "program", (1, 1))
    assert packed(tmp_path) == (first, reference)
    assert first.read_bytes() == content


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_a_cut_archive_is_known_as_such(tmp_path, share):
    path, _ = packed(tmp_path, os.urandom(50_000))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(BadInput, match="not a whole image archive") as caught:
        Archive(path)
    assert "dynamos images build" in caught.value.hint


def test_there_is_no_archive(tmp_path):
    with pytest.raises(NotFound):
        Archive(tmp_path / "none.tar")
    with pytest.raises(NotFound, match="folder"):
        pack(tmp_path / "none", tmp_path / "i.tar", name="i", version="1", runs=Runs(("/x",)))


@pytest.mark.testbed
@pytest.mark.xdist_group("testbed")
@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk is mounted in a namespace: needs root")
def test_a_full_disk_leaves_the_archive_that_was_there(tmp_path):
    """A disk of one megabyte, in a mount namespace of the test's own."""
    code = """
import os, sys
from pathlib import Path
from dynamos.deploy.images.manifests import Runs
from dynamos.deploy.images.packing import pack
from dynamos.kit.errors import Full
disk, root = Path(sys.argv[1]), Path(sys.argv[2])
(root / "p").write_bytes(b"1")
pack(root, disk / "i.tar", name="i", version="1", runs=Runs(("/p",)))
before = (disk / "i.tar").read_bytes()
(root / "p").write_bytes(os.urandom(3_000_000))
try:
    pack(root, disk / "i.tar", name="i", version="1", runs=Runs(("/p",)))
except Full as error:
    print(error.code, sorted(os.listdir(disk)), (disk / "i.tar").read_bytes() == before)
"""
    (tmp_path / "disk").mkdir()
    (tmp_path / "root").mkdir()
    mount = f"mount -t tmpfs -o size=1m none {tmp_path}/disk && exec {sys.executable} - {tmp_path}/disk {tmp_path}/root"
    done = subprocess.run(["unshare", "-m", "sh", "-c", mount], input=code, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{Full.code} ['i.tar'] True"
