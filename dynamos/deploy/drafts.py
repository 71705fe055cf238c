"""Drafts: a marketplace under construction from files, which knows where each of its things was written."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from dynamos.kit.errors import Mistake, Mistakes
from dynamos.model.agreements import Agreement
from dynamos.model.archetypes import Archetype
from dynamos.model.datasets import DataSet
from dynamos.model.documents import Document, read
from dynamos.model.marketplaces import Marketplace, Party
from dynamos.model.nodes import MAX_CHARACTERS
from dynamos.model.request_types import RequestType
from dynamos.model.services import Service
from dynamos.model.values import Value

V = TypeVar("V", bound=Value)
Origin = tuple[Document, tuple[str | int, ...]]


@dataclass(slots=True)
class Draft:
    """What the files of a marketplace say, with every mistake so far.

    `lenient` is true for upstream's launch files: there, a name that nothing describes is a warning.
    """

    folder: Path
    lenient: bool = False
    name: str = ""
    description: str = ""
    generator: str = ""
    users: dict[str, str] = field(default_factory=dict)
    parties: dict[str, Party] = field(default_factory=dict)
    agreements: dict[str, Agreement] = field(default_factory=dict)
    archetypes: dict[str, Archetype] = field(default_factory=dict)
    request_types: dict[str, RequestType] = field(default_factory=dict)
    services: dict[str, Service] = field(default_factory=dict)
    data_sets: dict[str, DataSet] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)
    warnings: list[Mistake] = field(default_factory=list)
    _origins: dict[tuple[str, str], Origin] = field(default_factory=dict)

    def open(self, file: str) -> Document | None:
        """Read a file of the folder. None where it is absent or unreadable; that it is unreadable is a mistake."""
        path = self.folder / file
        if not path.exists():
            return None
        try:
            return open_document(path, file)
        except Mistakes as wrong:
            self.mistakes.extend(wrong.mistakes)
            return None

    def keep(self, kind: str, name: str, document: Document, *path: str | int) -> None:
        """Remember where a thing was written."""
        self._origins[kind, name] = (document, path)

    def where(self, kind: str, name: str, *path: str | int) -> str:
        """Give the place of a thing, or of a member of it."""
        origin = self._origins.get((kind, name))
        return origin[0].where((*origin[1], *path)) if origin else f"{kind} {name}"

    def known(self, kind: str, name: str) -> bool:
        """Tell whether a file has the thing, be it right or wrong: what is wrong is not also missing."""
        return (kind, name) in self._origins or name in getattr(self, kind)

    def names(self, kind: str) -> list[str]:
        """Give the names of everything of a kind, be it right or wrong."""
        written = [name for of, name in self._origins if of == kind]
        return list(dict.fromkeys([*getattr(self, kind), *written]))

    def says(self, kind: str, name: str, member: str) -> bool:
        """Tell whether the files say this member of the thing; else it comes from what is installed."""
        origin = self._origins.get((kind, name))
        return origin is not None and origin[0].at((*origin[1], member)) is not None

    def dangling(self, where: str, message: str, hint: str) -> None:
        """Note a name that nothing describes."""
        (self.warnings if self.lenient else self.mistakes).append(Mistake(where, message, hint))

    def take(
        self, kind: str, document: Document, path: tuple[str | int, ...], model: type[V], **given: Any
    ) -> V | None:
        """Read one named thing into the draft. Notes its mistakes, also that it is there twice."""
        found, mistakes = document.check(model, path, **given)
        name = str(given.get("name") or (found.name if found and hasattr(found, "name") else ""))
        return self.put(kind, name, found, mistakes, (document, path))

    def put(self, kind: str, name: str, found: V | None, mistakes: list[Mistake], origin: Origin) -> V | None:
        """Place a thing that was read from `origin` into the draft."""
        document, path = origin
        self.mistakes.extend(mistakes)
        if found is not None and (found_name := getattr(found, "name", name)) != name:
            hint = "leave the name out, or write the same"
            message = f"the name {found_name!r} differs from {name!r}, under which it stands"
            self.mistakes.append(document.mistake((*path, "name"), message, hint))
            return None
        if (kind, name) in self._origins:
            first = self.where(kind, name)
            self.mistakes.append(document.mistake(path, f"{name!r} is here a second time", f"the first is at {first}"))
            return None
        self.keep(kind, name, document, *path)
        if found is not None:
            getattr(self, kind)[name] = found
        return found

    def finish(self) -> Marketplace:
        """Give the marketplace. Raises Mistakes where there are any."""
        if self.mistakes:
            raise Mistakes(list(dict.fromkeys(self.mistakes)), subject=f"marketplace {self.folder.name}")
        return Marketplace(
            name=self.name,
            description=self.description,
            users=self.users,
            parties=self.parties,
            agreements=self.agreements,
            archetypes=self.archetypes,
            request_types=self.request_types,
            services=self.services,
            data_sets=self.data_sets,
        )


def open_document(path: Path, shown: str) -> Document:
    """Read a YAML or JSON file; `shown` is its name in mistakes. Raises Mistakes where it cannot be read."""
    if path.exists() and not path.is_file():
        raise Mistakes([Mistake(shown, "this is not a file", "put a file there")], subject=shown)
    try:
        with path.open("rb") as file:
            text = file.read(MAX_CHARACTERS + 1)
    except OSError as error:
        reason = (error.strerror or "error").lower()
        raise Mistakes([Mistake(shown, f"the file cannot be read: {reason}")], subject=shown) from None
    return read(text, shown)
