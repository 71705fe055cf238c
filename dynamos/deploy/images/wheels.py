"""Wheels as sources of a layer: laid out as an installer would, without what a program that runs does not need."""

from __future__ import annotations

import configparser
import hashlib
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dynamos.kit.errors import BadInput

SITE = "usr/local/lib/python3.11/dist-packages"
PROGRAMS = "usr/local/bin"

_LEFT_OUT_SUFFIXES = (".a", ".c", ".cpp", ".h", ".hpp", ".lib", ".pxd", ".pxi", ".pyi", ".pyx", ".pyc")
_LEFT_OUT_FOLDERS = frozenset({"tests", "include", "sample_data", "__pycache__"})
"""Folders of packages whose code no program imports; numpy.testing and the like stay."""
_LEFT_OUT_FILES = frozenset({"RECORD", "INSTALLER"})
_LEFT_OUT_STEMS = ("_pyarrow_cpp_tests",)
_KEPT = ("numpy/_core/tests/_natype.py",)
"""Imported by a package all the same."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel that was fetched, with the hash that it was checked against."""

    path: Path
    name: str
    version: str
    sha256: str

    @property
    def purl(self) -> str:
        """Its package URL, by which scanners of weaknesses know it."""
        return f"pkg:pypi/{self.name.lower().replace('_', '-')}@{self.version}"


def read(path: Path) -> Wheel:
    """Tell what wheel a file is. Raises BadInput where its name or content is not a wheel's."""
    words = path.name.removesuffix(".whl").split("-")
    if len(words) not in (5, 6) or not zipfile.is_zipfile(path):
        raise BadInput("this is not a wheel", where=str(path))
    return Wheel(path, words[0], words[1], sha256(path))


def sha256(path: Path) -> str:
    """Give the hash of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unpack(wheel: Wheel, root: Path, *, programs: bool = False) -> None:
    """Lay a wheel out in `root`, and with `programs` make the commands that it names.

    Raises BadInput for a wheel that would write outside of its place, or that is broken.
    """
    try:
        with zipfile.ZipFile(wheel.path) as archive:
            for member in archive.infolist():
                place = _place(member.filename)
                if member.is_dir() or place is None:
                    continue
                path = root / place
                path.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as file, path.open("wb") as out:
                    shutil.copyfileobj(file, out)
                runs = place.startswith(PROGRAMS) or (member.external_attr >> 16) & 0o100
                path.chmod(0o755 if runs else 0o644)
            if programs:
                _programs(archive, root)
        _share(root)
    except zipfile.BadZipFile as error:
        raise BadInput(f"this wheel is broken: {error}", where=str(wheel.path)) from None


def extract(wheel: Wheel, name: str, path: Path, *, mode: int = 0o644) -> None:
    """Take one file, by the last part of its name, out of a wheel. Raises BadInput where it is not in it."""
    with zipfile.ZipFile(wheel.path) as archive:
        found = [each for each in archive.namelist() if PurePosixPath(each).name == name]
        if len(found) != 1:
            raise BadInput(f"the wheel has {len(found)} files called {name!r}, not one", where=wheel.path.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(found[0]) as file, path.open("wb") as out:
            shutil.copyfileobj(file, out)
    path.chmod(mode)


def _share(root: Path) -> None:
    """Replace copies of a library by links: a wheel has no links, so it brings one library under several names."""
    first: dict[tuple[Path, str], Path] = {}
    for path in sorted(root.rglob("*.so*")):
        if path.is_symlink() or not path.is_file():
            continue
        other = first.setdefault((path.parent, sha256(path)), path)
        if other is not path:
            path.unlink()
            path.symlink_to(other.name)


def _place(name: str) -> str | None:
    """Give where a member goes, or None for what is left out."""
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts:
        raise BadInput("the wheel has a path out of its place", where=name)
    parts = pure.parts
    if parts[0].endswith(".data") and len(parts) > 2:  # noqa: PLR2004  name.data/kind/…
        kind, rest = parts[1], "/".join(parts[2:])
        if kind == "scripts":
            return f"{PROGRAMS}/{rest}"
        return f"{SITE}/{rest}" if kind in ("purelib", "platlib") else None
    if name in _KEPT:
        return f"{SITE}/{name}"
    if parts[0].endswith(".dist-info"):
        return None if pure.name in _LEFT_OUT_FILES else f"{SITE}/{name}"
    if pure.suffix in _LEFT_OUT_SUFFIXES or _LEFT_OUT_FOLDERS.intersection(parts[:-1]):
        return None
    return None if pure.name.startswith(_LEFT_OUT_STEMS) else f"{SITE}/{name}"


def _programs(archive: zipfile.ZipFile, root: Path) -> None:
    named = next((each for each in archive.namelist() if each.endswith(".dist-info/entry_points.txt")), None)
    if named is None:
        return
    read = configparser.ConfigParser(delimiters=("=",))
    read.read_string(archive.read(named).decode())
    for name, target in read["console_scripts"].items() if read.has_section("console_scripts") else ():
        module, _, call = target.partition(":")
        path = root / PROGRAMS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/usr/bin/python3.11\nfrom {module} import {call}\n\n{call}()\n", encoding="utf-8")
        path.chmod(0o755)
