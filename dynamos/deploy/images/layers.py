"""Layers: a folder as a compressed tar that is the same wherever, whenever and by whomever it is made."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dynamos.kit.errors import BadInput

MEDIA_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
COMPRESSION = 6
"""More makes the layers of wheels one percent smaller and takes three times as long."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer on disk: `digest` is of the compressed file, `diff_id` of the tar in it, both `sha256:…`. Bytes."""

    path: Path
    digest: str
    diff_id: str
    size: int
    unpacked: int
    made_by: str = ""

    def descriptor(self) -> dict[str, object]:
        """Give what a manifest says of it."""
        return {"mediaType": MEDIA_TYPE, "digest": self.digest, "size": self.size}


class Hashing(io.RawIOBase):
    """A file for writing that tells the digest and the number of all bytes that went through it."""

    def __init__(self, below: io.BufferedIOBase | io.RawIOBase | gzip.GzipFile) -> None:
        self._below, self._hash, self.count = below, hashlib.sha256(), 0

    @property
    def digest(self) -> str:
        """The digest of what was written until now."""
        return f"sha256:{self._hash.hexdigest()}"

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._hash.update(data)
        self.count += len(data)
        self._below.write(data)
        return len(data)


def write(root: Path, into: Path, *, made_by: str = "") -> Layer:
    """Write the folder `root` as a layer into the file `into`.

    Owners are 0, times are 0, names are sorted, modes are 755 or 644 (a sticky folder stays so): nothing of the
    machine is left in it. Raises BadInput for what has no place in an image: devices, sockets, FIFOs.
    """
    with into.open("wb") as file:
        outer = Hashing(file)
        with gzip.GzipFile(filename="", mode="wb", fileobj=outer, mtime=0, compresslevel=COMPRESSION) as packed:
            inner = Hashing(packed)
            with tarfile.open(fileobj=inner, mode="w|", format=tarfile.PAX_FORMAT) as tar:
                for path in _sorted(root):
                    _add(tar, path, root)
    return Layer(into, outer.digest, inner.digest, outer.count, inner.count, made_by)


def _sorted(folder: Path) -> Iterator[Path]:
    """Give all that is in a folder, folders before what is in them, sorted by name; links are not followed."""
    for entry in sorted(os.scandir(folder), key=lambda each: each.name):
        yield Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            yield from _sorted(Path(entry.path))


def _add(tar: tarfile.TarFile, path: Path, root: Path) -> None:
    told = path.lstat()
    member = tarfile.TarInfo(str(path.relative_to(root)))
    member.mtime, member.uid, member.gid = 0, 0, 0
    if stat.S_ISLNK(told.st_mode):
        member.type, member.linkname, member.mode = tarfile.SYMTYPE, str(path.readlink()), 0o777
        tar.addfile(member)
    elif stat.S_ISDIR(told.st_mode):
        member.type, member.mode = tarfile.DIRTYPE, 0o1777 if told.st_mode & stat.S_ISVTX else 0o755
        tar.addfile(member)
    elif stat.S_ISREG(told.st_mode):
        member.size, member.mode = told.st_size, 0o755 if told.st_mode & stat.S_IXUSR else 0o644
        with path.open("rb") as file:
            tar.addfile(member, file)
    else:
        raise BadInput("only files, folders and links can be in an image", where=str(path))
