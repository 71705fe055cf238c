"""Exports: a run as one file that others can read and repeat: a zip or tar.gz of its folder, described as a crate.

The same folder gives the same bytes: files in their order, times those of the run, no owner.
"""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from dynamos.deploy.states import explained
from dynamos.experiments import crates
from dynamos.experiments.runs import SCRIPT, Run
from dynamos.kit.errors import BadInput, Conflict

_OLDEST = 1980
"""The first year that a zip can say."""


def export(run: Run, target: Path) -> Path:
    """Write the run folder as it is into a file, and give it.

    A zip has the run's files at its top, as a zipped RO-Crate does; a tar.gz has them in a folder of the run's name.
    Raises BadInput where the file's name ends in neither, Conflict where it is there already, Full where there is no
    room; nothing is left of it then.
    """
    write = next((write for suffix, write in _KINDS.items() if target.name.endswith(suffix)), None)
    if write is None:
        raise BadInput(f"{target.name!r} is no kind of export", where=str(target), hint=f"end it in {_ENDINGS}")
    if target.resolve().is_relative_to(run.folder.resolve()):
        raise BadInput("the export would lie in the run itself", where=str(target), hint="put it elsewhere")
    if target.exists():
        raise Conflict("there is such a file already", where=str(target), hint="take another name, or remove it")
    with explained(target), _whole(target) as file:
        write(run, file)
    return target


def _zip(run: Run, file: BinaryIO) -> None:
    moment = max(run.created, datetime(_OLDEST, 1, 1, tzinfo=run.created.tzinfo)).timetuple()[:6]
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for path in crates.contents(run.folder):
            entry = zipfile.ZipInfo(path.as_posix(), moment)
            entry.compress_type, entry.create_system = zipfile.ZIP_DEFLATED, 3
            entry.external_attr = (0o100000 | _mode(path)) << 16
            archive.writestr(entry, (run.folder / path).read_bytes())


def _tar(run: Run, file: BinaryIO) -> None:
    top, moment = f"{run.plan.experiment}-{run.folder.name}", int(run.created.timestamp())
    with (
        gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=moment) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path in crates.contents(run.folder):
            content = (run.folder / path).read_bytes()
            entry = tarfile.TarInfo(f"{top}/{path.as_posix()}")
            entry.size, entry.mode, entry.mtime = len(content), _mode(path), moment
            archive.addfile(entry, io.BytesIO(content))


_KINDS: Mapping[str, Callable[[Run, BinaryIO], None]] = {".zip": _zip, ".tar.gz": _tar, ".tgz": _tar}
_ENDINGS = "`.zip` or `.tar.gz`"


def _mode(path: Path) -> int:
    return 0o755 if path.as_posix() == SCRIPT else 0o644


@contextmanager
def _whole(target: Path) -> Iterator[BinaryIO]:
    """Give a file to write to that is at its place once it is whole."""
    half = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with half.open("xb") as file:
            yield file
        half.replace(target)
    except BaseException:
        half.unlink(missing_ok=True)
        raise
