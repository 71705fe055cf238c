"""Places of profiles and marketplaces: by name among those that come with DYNAMOS, or by path."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import dynamos
from dynamos.kit.errors import NotFound
from dynamos.kit.words import suggest

SUFFIX = ".yaml"
MARKETPLACES = "marketplaces"


def profile_file(name: str | Path, *, beside: Path | None = None) -> Path:
    """Find the file of a profile by path, relative to the folder `beside`; or by name, there or where profiles are.

    Raises NotFound that names near ones.
    """
    path = (beside or Path()) / Path(name).expanduser()
    if path.is_file():
        return path
    if len(Path(name).parts) == 1:
        for root in [*([beside] if beside else []), *roots()]:
            if (found := root / f"{path.stem if path.suffix == SUFFIX else path.name}{SUFFIX}").is_file():
                return found
    known = profile_names()
    raise NotFound(f"there is no profile {str(name)!r}", hint=_hint(str(name), known))


def profile_names() -> list[str]:
    """Give the names of the profiles that are here, installed or come with DYNAMOS, sorted."""
    return sorted({one.stem for root in roots() for one in root.glob(f"*{SUFFIX}")})


def marketplace_folder(name: str | Path, *, beside: Path | None = None) -> Path:
    """Find the folder of a marketplace by path, relative to the folder `beside`; or by name, in `marketplaces` there or
    where profiles are.

    Raises NotFound that names near ones.
    """
    path = (beside or Path()) / name
    if path.is_dir():
        return path.resolve()
    around = [*([beside] if beside else []), *roots()]
    if len(Path(name).parts) == 1:
        for root in around:
            if (found := root / MARKETPLACES / name).is_dir():
                return found.resolve()
    known = [one.name for root in around for one in (root / MARKETPLACES).glob("*") if one.is_dir()]
    raise NotFound(f"there is no marketplace {str(name)!r}", hint=_hint(str(name), known))


def installed() -> Path:
    """Where `dynamos profile install` puts profiles: DYNAMOS_PROFILES, or the user's own folder for data."""
    if own := os.environ.get("DYNAMOS_PROFILES"):
        return Path(own).expanduser()
    home = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(home).expanduser() / "dynamos" / "profiles"


def shipped() -> Path:
    """Where the profiles are that come with DYNAMOS: in the checkout that this program is from."""
    return Path(dynamos.__file__).resolve().parent.parent / "profiles"


def roots() -> list[Path]:
    """Where profiles are: here, those that come with DYNAMOS, and those that were installed."""
    return [root for root in (Path("profiles"), shipped(), installed()) if root.is_dir()]


def _hint(name: str, known: Iterable[str]) -> str:
    names = sorted(set(known))
    return suggest(name, names) or (f"known: {', '.join(names)}; or give a path" if names else "give a path")
