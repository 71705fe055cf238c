"""The data of marketplaces: generated where a marketplace names a generator, else taken from its folder.

Every party gets a folder of its own with nothing of anybody else in it. Folders are 0755 and files 0644: the sandbox
reads them as another user, through a mount that shows a service its own party's folder only.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dynamos.deploy import generators, marketplaces, places
from dynamos.deploy.generators.inputs import flights_from_new_york, nothing
from dynamos.kit.digests import digest
from dynamos.kit.errors import BadInput, Broken, DynamosError, Full, Mistakes, TimedOut, Unavailable, revive
from dynamos.kit.words import suggest

STAMP = ".stamp.json"
DEFAULT = Path(".dynamos/data")
PROVIDERS = ("alpha", "beta", "gamma")
"""The data providers of the marketplace `bench`."""
LONGEST = 300.0


@dataclass(frozen=True, slots=True)
class Generator:
    """A program in dynamos.deploy.generators, and the files that it reads."""

    program: str
    inputs: Callable[[], dict[str, Path]] = nothing

    def digest(self) -> str:
        """Give a digest that changes with the program and with what it reads."""
        program = (Path(str(generators.__file__)).parent / self.program).read_text("utf-8")
        read = {name: [path.stat().st_size, path.stat().st_mtime_ns] for name, path in self.inputs().items()}
        return digest({"program": program, "inputs": read})


GENERATORS = {
    "aviation": Generator("aviation.py", flights_from_new_york),
    "wage-gap": Generator("wage_gap.py"),
    "bench": Generator("bench.py"),
}


def prepare(marketplace: str | Path, target: Path | None = None, *, checked: bool = True) -> dict[str, Path]:
    """Make the data of a marketplace in `target` (default `.dynamos/data/<name>`), and give each party's folder.

    Does nothing where the data are there already, made by the same program from the same input. What is half made is
    never seen: the data appear at once or not at all. Raises Mistakes for a broken marketplace and, if `checked`, for
    data that are missing; Full without room.
    """
    folder = places.marketplace_folder(marketplace)
    reading = marketplaces.read(folder)
    parties = tuple(reading.marketplace.parties)
    if reading.generator:
        target = (target or DEFAULT / reading.marketplace.name).resolve()
        generate(reading.generator, target)
        folders = {party: target / party for party in parties}
        for path in folders.values():
            path.mkdir(exist_ok=True)
    else:
        folders = {party: folder / "data" / party for party in parties}
    mistakes = marketplaces.missing_data(reading.marketplace, folders, reading.where) if checked else []
    if mistakes:
        raise Mistakes(mistakes, subject=f"marketplace {folder.name}")
    return folders


def generate(name: str, target: Path) -> None:
    """Run a generator unless `target` holds what it would make. Two processes at once: one works, the other waits."""
    generator = GENERATORS.get(name)
    if generator is None:
        hint = suggest(name, GENERATORS) or f"known: {', '.join(GENERATORS)}"
        raise BadInput(f"there is no generator {name!r}", where="marketplace.yaml ($.generator)", hint=hint)
    with _storing(target):
        _make(name, generator.digest(), target)


def bench_data(target: Path, rows: Sequence[int], providers: Sequence[str] = PROVIDERS) -> dict[str, Path]:
    """Make tables of six columns with the given numbers of rows at each provider, and give the providers' folders.

    The table of 30,000 rows is called rows_30k, in rows_30k.parquet; other sizes are called rows_<number>.
    """
    from dynamos.deploy.generators import bench  # noqa: PLC0415  it loads DuckDB

    with _storing(target):
        for party in providers:
            (target / party).mkdir(parents=True, exist_ok=True)
        bench.write_tables(target, rows, providers)
    return {party: target / party for party in providers}


def _make(name: str, wanted: str, target: Path) -> None:
    """Put what the generator makes at `target`, stamped, in one step."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with _lock(target.parent / f".{target.name}.lock"):
        if _stamped(target) == wanted:
            return
        for left in target.parent.glob(f".{target.name}.making-*"):
            shutil.rmtree(left, ignore_errors=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}.making-", dir=target.parent))
        try:
            _run(name, fresh)
            _permit(fresh)
            (fresh / STAMP).write_text(json.dumps({"digest": wanted}), "utf-8")
            _exchange(fresh, target)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)


def _run(name: str, folder: Path) -> None:
    """Run the generator in a process of its own, and raise here what goes wrong there."""
    command = [sys.executable, "-m", "dynamos.deploy.generators", name, str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=LONGEST, check=False)
    except subprocess.TimeoutExpired:
        raise TimedOut(f"the generator {name!r} did not end within {LONGEST:g} s") from None
    if done.returncode == 0:
        return
    try:
        error = revive(json.loads(done.stdout))
    except ValueError:
        error = Broken(f"the generator {name!r} failed: {done.stderr.decode(errors='replace')[-500:]}")
    raise error


def _stamped(target: Path) -> str:
    """Give the digest of what made the data at `target`, an empty text where nothing did."""
    try:
        return str(json.loads((target / STAMP).read_text("utf-8"))["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _exchange(fresh: Path, target: Path) -> None:
    """Put `fresh` where `target` is; what was there takes its place."""
    if target.exists():
        if not (target / STAMP).exists() and any(target.iterdir()):
            hint = "name another folder, or remove what is there"
            raise BadInput(f"{str(target)!r} holds something that was not generated", hint=hint)
        old = fresh.with_name(f"{fresh.name}.old")
        target.rename(old)
        fresh.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    else:
        fresh.rename(target)


def _permit(folder: Path) -> None:
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold a lock that the kernel gives back when the process ends, however it ends."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def _storing(target: Path) -> Iterator[None]:
    """Turn what the file system and its writers raise into errors of ours."""
    try:
        yield
    except OSError as error:
        if isinstance(error, DynamosError):
            raise
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Full(f"no room for the data in {str(target)!r}", hint="free some, or name another folder") from None
        reason = (error.strerror or str(error)).lower()
        raise Unavailable(f"the data cannot be written to {str(target)!r}: {reason}") from None
