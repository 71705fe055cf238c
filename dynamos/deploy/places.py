"""Places of profiles and marketplaces: by name among those that come with DYNAMOS, or by path."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import dynamos
from dynamos.kit.errors import NotFound
from dynamos.kit.words import suggest


def profile_file(name: str | Path) -> Path:
    """Find the file of a profile by path or name. Raises NotFound that names near ones."""
    path = Path(name)
    if path.is_file():
        return path
    if len(path.parts) == 1:
        for root in _roots():
            if (found := root / f"{path.stem}.yaml").is_file():
                return found
    known = profile_names()
    raise NotFound(f"there is no profile {str(name)!r}", hint=_hint(str(name), known))


def profile_names() -> list[str]:
    """Give the names of the profiles that are here or come with DYNAMOS, sorted."""
    return sorted({one.stem for root in _roots() for one in root.glob("*.yaml")})


def marketplace_folder(name: str | Path, *, beside: Path | None = None) -> Path:
    """Find the folder of a marketplace by path or name; paths are relative to the folder `beside`.

    Raises NotFound that names near ones.
    """
    path = (beside or Path()) / name
    if path.is_dir():
        return path.resolve()
    if len(Path(name).parts) == 1:
        for root in _roots():
            if (found := root / "marketplaces" / name).is_dir():
                return found.resolve()
    known = [one.name for root in _roots() for one in (root / "marketplaces").glob("*") if one.is_dir()]
    raise NotFound(f"there is no marketplace {str(name)!r}", hint=_hint(str(name), known))


def _roots() -> list[Path]:
    """Where profiles are: here, and in the checkout that this program is from."""
    here, ours = Path("profiles"), Path(dynamos.__file__).resolve().parent.parent / "profiles"
    return [root for root in (here, ours) if root.is_dir()]


def _hint(name: str, known: Iterable[str]) -> str:
    names = sorted(set(known))
    return suggest(name, names) or (f"known: {', '.join(names)}; or give a path" if names else "give a path")
