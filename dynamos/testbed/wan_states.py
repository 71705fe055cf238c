"""What is written down about a WAN, so that any process can find it and change it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from pydantic import Field, ValidationError

from dynamos.kit.errors import Broken, NotFound
from dynamos.kit.words import suggest
from dynamos.model.values import Value
from dynamos.testbed.cables import Cable, Kind
from dynamos.testbed.items import Link, Router, Routes

_FILE = "wan.json"


class Laid(Value):
    """A link that is there: what was asked for (`declared`), what it is now (`present`), and how it is laid. It is not
    `whole` while somebody works on it."""

    declared: Link
    present: Link
    slot: int
    kind: Kind
    whole: bool = True

    @property
    def cable(self) -> Cable:
        return Cable(self.present, self.slot, self.kind)


class WanState(Value):
    """Routers and routes by site, links by name, and the sites that have no power."""

    kernel: bool
    routers: dict[str, Router] = Field(default_factory=dict)
    links: dict[str, Laid] = Field(default_factory=dict)
    routes: dict[str, Routes] = Field(default_factory=dict)
    dark: tuple[str, ...] = ()

    def link(self, name: str) -> Laid:
        """Give the link of that name, or of the two sites in the other order. Raises NotFound."""
        for known in self.links.values():
            sites = known.present.sites
            if name in (known.present.name, "-".join(sites), "-".join(reversed(sites))):
                return known
        names = sorted(self.links)
        hint = suggest(name, names) or f"links: {', '.join(names) or 'none'}"
        raise NotFound(f"there is no link {name!r}", hint=hint)

    def with_links(self, links: Iterable[Laid]) -> WanState:
        """Give the state with these links in place of those of their names."""
        return self.model_copy(update={"links": {**self.links, **{laid.present.name: laid for laid in links}}})

    def without_link(self, name: str) -> WanState:
        """Give the state without the link of that name."""
        return self.model_copy(update={"links": {known: laid for known, laid in self.links.items() if known != name}})

    def free_slot(self, *, taken: Iterable[int] = ()) -> int:
        """Give the smallest slot that neither a link has, nor is taken."""
        used = {laid.slot for laid in self.links.values()} | set(taken)
        return next(slot for slot in range(len(used) + 1) if slot not in used)

    def on_guest(self, number: int) -> list[Cable]:
        """Give the cables that a guest carries."""
        cables = (laid.cable for laid in self.links.values() if laid.kind == "guest")
        return [cable for cable in cables if cable.guest == number]


def load(folder: Path) -> WanState | None:
    """Give what is written; None where nothing is. Raises Broken where nobody can read it."""
    try:
        return WanState.model_validate_json((folder / _FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise Broken(f"what is written about the WAN cannot be read: {error}", where=str(folder / _FILE)) from None


def save(folder: Path, state: WanState) -> None:
    """Write it, so that nobody sees half of it."""
    near = folder / f".{_FILE}.{os.getpid()}"
    near.write_text(state.model_dump_json(by_alias=True), encoding="utf-8")
    near.rename(folder / _FILE)
