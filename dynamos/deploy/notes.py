"""Notes: mistakes and warnings about a profile, each with its place in the file, or its JSON path without one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dynamos.deploy.cross_checks import near_or_known
from dynamos.kit.errors import Mistake
from dynamos.model.documents import Document, json_path

Path = tuple[str | int, ...]


class Notes:
    """What was found wrong or odd so far. `numbers` are those that items of lists have in the file, where they differ
    from the profile's: see `salvage.Salvaged`."""

    def __init__(self, document: Document | None = None, numbers: Mapping[Path, list[int]] | None = None) -> None:
        self.mistakes: list[Mistake] = []
        self.warnings: list[Mistake] = []
        self._document = document
        self._numbers = numbers or {}

    def wrong(self, path: Path, message: str, hint: str = "") -> None:
        """Note a mistake."""
        self.mistakes.append(Mistake(self._where(path), message, hint))

    def odd(self, path: Path, message: str, hint: str = "") -> None:
        """Note a warning: odd, and does no harm."""
        self.warnings.append(Mistake(self._where(path), message, hint))

    def known(self, path: Path, word: str, name: str, known: Iterable[str]) -> bool:
        """Tell whether there is such a thing, and note it if not."""
        names = list(known)
        if name in names:
            return True
        self.wrong(path, f"there is no {word} {name!r}", near_or_known(name, names))
        return False

    def said(self, path: Path) -> bool:
        """Tell whether the file says something there, be it right or wrong."""
        return self._document is not None and self._document.at(path) is not None

    def says(self, path: Path, value: object) -> bool:
        """Tell whether the file says just this there."""
        return self._document is not None and self._document.at(path) == value

    def _where(self, path: Path) -> str:
        for depth, step in enumerate(path):
            if isinstance(step, int) and path[:depth] in self._numbers:
                path = (*path[:depth], self._numbers[path[:depth]][step], *path[depth + 1 :])
        return self._document.where(path) if self._document else json_path(path)
