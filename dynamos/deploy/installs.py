"""Installs: profiles of others, with the marketplaces that they are for, from a file, a folder or a git repository.

All of them are checked as they will be installed, before any is; and only files that describe or hold data are taken:
no links, no programs.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dynamos.deploy import places, profiles
from dynamos.kit.errors import BadInput, Conflict, JobFailed, Mistake, Mistakes, NotFound, TimedOut, Unavailable
from dynamos.model.documents import read

CLONE_SECONDS = 60.0
MOST_FILES, MOST_BYTES = 2_000, 256 * 2**20
TAKEN = {".yaml", ".json", ".md", ".txt", ".csv", ".tsv", ".parquet", ".duckdb", ".sqlite", ".db"}

_ADDRESS = re.compile(r"(https?|ssh|git|file)://\S+|[\w.-]+@[\w.-]+:\S+")
_GIT = (
    "git", "-c", "core.hooksPath=/dev/null", "-c", "core.symlinks=false", "-c", "protocol.ext.allow=never",
    "clone", "--quiet", "--depth=1", "--single-branch", "--no-tags", "--no-recurse-submodules",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Installed:
    """What came in: the names of profiles and marketplaces, and where they are now."""

    profiles: tuple[str, ...]
    marketplaces: tuple[str, ...]
    folder: Path


def install(source: str, *, force: bool = False, within: float = CLONE_SECONDS) -> Installed:
    """Install the profiles of a file, of a folder, or of a git repository by its address (in the folder itself, or in
    its `profiles`), each with its marketplace. `force` lets them take the place of installed ones.

    Raises Mistakes where one of them is wrong, Conflict where the name of one is taken, and NotFound, JobFailed or
    TimedOut where there is nothing to install. Nothing is installed then.
    """
    with _fetched(source, within) as origin:
        files = _profiles_in(origin)
        if not files:
            raise NotFound(f"there are no profiles in {source!r}", hint="they are in *.yaml there, or in profiles/")
        target = places.installed()
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".install-", dir=target) as room:
            staged = Path(room)
            markets = _stage(files, staged)
            names = _checked(files, staged)
            _free(names, markets, target, force=force)
            for name in markets:
                _move(staged / places.MARKETPLACES / name, target / places.MARKETPLACES / name)
            for file in files:
                _move(staged / file.name, target / file.name)
    return Installed(tuple(names), tuple(markets), target)


@contextmanager
def _fetched(source: str, within: float) -> Iterator[Path]:
    if not _ADDRESS.fullmatch(source):
        path = Path(source).expanduser()
        if not path.exists():
            raise NotFound(f"there is no file or folder {source!r}", hint="or give the address of a git repository")
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="dynamos-") as room:
        _clone(source, Path(room) / "repository", within)
        yield Path(room) / "repository"


def _clone(address: str, target: Path, within: float) -> None:
    """Clone a repository without running anything of it, and without asking anything."""
    environment = {
        **os.environ,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",
        "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
    }
    try:
        process = subprocess.Popen(
            [*_GIT, "--", address, str(target)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            env=environment, start_new_session=True, text=True,
        )  # fmt: skip
    except FileNotFoundError:
        raise Unavailable("git is not installed", hint="install git, or give a folder") from None
    try:
        _, told = process.communicate(timeout=within)
    except subprocess.TimeoutExpired:
        raise TimedOut(f"git did not fetch {address} within {within:g} s") from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    if process.returncode != 0:
        lines = told.strip().splitlines()
        raise JobFailed(f"git cannot fetch {address}: {lines[-1] if lines else 'it does not say why'}")


def _profiles_in(origin: Path) -> list[Path]:
    if origin.is_file():
        return [origin]
    for folder in (origin / "profiles", origin):
        found = [each for each in sorted(folder.glob(f"*{places.SUFFIX}")) if each.is_file() and not each.is_symlink()]
        if found:
            return found
    return []


def _stage(files: list[Path], staged: Path) -> list[str]:
    """Copy profiles and the marketplaces beside them, and give the marketplaces' names."""
    for file in files:
        shutil.copyfile(file, staged / file.name)
    around = files[0].parent
    found: dict[str, Path] = {}
    for name in filter(None, map(_market_of, files)):
        folders = (around / places.MARKETPLACES / name, around / name)
        if folder := next((each for each in folders if each.is_dir() and not each.is_symlink()), None):
            found[name] = folder
    for name, folder in sorted(found.items()):
        _copy(folder, staged / places.MARKETPLACES / name)
    return sorted(found)


def _market_of(file: Path) -> str:
    """Give the name of the marketplace that a profile names, empty where it names none or a path elsewhere."""
    try:
        said = read(file.read_bytes(), file.name).at(("marketplace",))
    except Mistakes:
        return ""
    path = Path(said) if isinstance(said, str) else Path()
    parts = path.parts[1:] if path.parts[:1] == (places.MARKETPLACES,) else path.parts
    return parts[0] if len(parts) == 1 and parts[0] not in ("..", "/") else ""


def _copy(source: Path, target: Path) -> None:
    """Copy a folder's files that describe or hold data. Raises BadInput where they are too many or too large."""
    count = size = 0
    for folder, folders, names in os.walk(source):
        folders[:] = [each for each in folders if not (Path(folder) / each).is_symlink() and not each.startswith(".")]
        for name in names:
            file = Path(folder) / name
            if file.is_symlink() or not file.is_file() or file.suffix.lower() not in TAKEN:
                continue
            count, size = count + 1, size + file.stat().st_size
            if count > MOST_FILES or size > MOST_BYTES:
                hint = f"at most {MOST_FILES} files of {MOST_BYTES // 2**20} MiB together"
                raise BadInput(f"the marketplace {source.name!r} is too large to install", hint=hint)
            into = target / file.relative_to(source)
            into.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, into)
    target.mkdir(parents=True, exist_ok=True)


def _checked(files: list[Path], staged: Path) -> list[str]:
    """Give the profiles' names. Raises Mistakes with those of all files."""
    names, mistakes = [], []
    for file in files:
        path = staged / file.name
        try:
            name = profiles.validate(path).profile.name
        except Mistakes as wrong:
            mistakes += [_shown(each, staged) for each in wrong.mistakes]
            continue
        if name != file.stem:
            hint = f"call the file {name}{places.SUFFIX}"
            mistakes.append(Mistake(file.name, f"the profile in it is called {name!r}", hint))
        names.append(name)
    if mistakes:
        raise Mistakes(mistakes, subject=", ".join(file.name for file in files))
    return names


def _shown(mistake: Mistake, staged: Path) -> Mistake:
    """Give the mistake with the file as its origin calls it."""
    return Mistake(mistake.where.removeprefix(f"{staged}/"), mistake.message.replace(f"{staged}/", ""), mistake.hint)


def _free(names: list[str], markets: list[str], target: Path, *, force: bool) -> None:
    """Raises Conflict where a name is taken."""
    shipped = places.shipped()
    for name in names:
        if (shipped / f"{name}{places.SUFFIX}").exists():
            raise Conflict(f"a profile {name!r} comes with DYNAMOS", hint="give yours another name")
        if not force and (target / f"{name}{places.SUFFIX}").exists():
            raise Conflict(f"a profile {name!r} is installed already", hint="--force lets this one take its place")
    for name in markets:
        if (shipped / places.MARKETPLACES / name).exists():
            raise Conflict(f"a marketplace {name!r} comes with DYNAMOS", hint="give yours another name")
        if not force and (target / places.MARKETPLACES / name).exists():
            raise Conflict(f"a marketplace {name!r} is installed already", hint="--force lets this one take its place")


def _move(source: Path, target: Path) -> None:
    """Put a file or folder in its place, whatever was there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir():
        old = Path(tempfile.mkdtemp(prefix=".old-", dir=target.parent))
        target.rename(old / target.name)
        source.rename(target)
        shutil.rmtree(old)
    else:
        source.replace(target)
