"""The folder that images are built into: who builds, what is half made, and layers that need not be made again."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from dynamos.deploy.images import layers
from dynamos.deploy.images.layers import Layer
from dynamos.deploy.states import explained
from dynamos.kit.errors import Full, Unavailable

ROOM = 1_500_000_000
"""Bytes that a build needs for a while; a quarter of it stays."""
HINT = "free some space, or choose another place with --to"
_PREFIX = ".build-"
_MAKERS = ("bytecode", "debs", "layers", "recipes", "wheels")


@contextmanager
def building(folder: Path) -> Iterator[Path]:
    """Hold the folder for one build, and give a room in it that is gone afterwards.

    Removes what a build that was killed left. Raises Unavailable where somebody else builds here, Full where there is
    too little room to begin.
    """
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unavailable("images are being built here already", where=str(folder)) from None
        for left in folder.glob(f"{_PREFIX}*"):
            shutil.rmtree(left, ignore_errors=True)
        for half in folder.glob(".*.half"):
            half.unlink(missing_ok=True)
        _check_room(folder)
        with explained(folder), tempfile.TemporaryDirectory(prefix=_PREFIX, dir=folder) as room:
            yield Path(room)
    except Full as error:
        raise Full(error.message, where=error.where, hint=HINT) from None
    finally:
        os.close(descriptor)


def _check_room(folder: Path) -> None:
    if (free := shutil.disk_usage(folder).free) < ROOM:
        message = f"images need {ROOM / 1e9:.1f} GB while they are built; {free / 1e9:.1f} GB are free"
        raise Full(message, where=str(folder))


def layer(folder: Path, sources: Sequence[str], made_by: str, make: Callable[[], Path]) -> Layer:
    """Give the layer of these sources (names and hashes): one that was made before, else of the folder `make` makes."""
    key = _key((made_by, *sources))
    kept = folder / "layers"
    record, blob = kept / f"{key}.json", kept / f"{key}.tar.gz"
    if found := _kept(record, blob):
        return found
    kept.mkdir(exist_ok=True)
    half = folder / f".{key}.half"
    made = layers.write(make(), half, made_by=made_by)
    half.replace(blob)
    told = {name: value for name, value in asdict(made).items() if name != "path"}
    half.write_text(json.dumps(told), encoding="utf-8")
    half.replace(record)
    return replace(made, path=blob)


def sweep(folder: Path, used: Sequence[Layer]) -> None:
    """Remove layers that no image of this build has."""
    keys = {each.path.name.partition(".")[0] for each in used}
    for path in (folder / "layers").glob("*"):
        if path.name.partition(".")[0] not in keys:
            path.unlink(missing_ok=True)


def _kept(record: Path, blob: Path) -> Layer | None:
    """Give a layer that was made before, if it is whole."""
    try:
        found = Layer(blob, **json.loads(record.read_bytes()))
        with blob.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError, TypeError):
        return None
    return found if found.digest == f"sha256:{digest}" else None


def _key(sources: Sequence[str]) -> str:
    """Give the digest of what a layer is made from: its sources, and the code that makes it."""
    total = hashlib.sha256()
    for name in _MAKERS:
        total.update(Path(__file__).with_name(f"{name}.py").read_bytes())
    for source in sources:
        total.update(f"\0{source}".encode())
    return total.hexdigest()[:32]
