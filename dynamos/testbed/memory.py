"""The ground of imagination: keeps the contract of grounds in memory, for tests and for rehearsals."""

from __future__ import annotations

from collections.abc import Callable

from dynamos.kit.errors import Conflict, NotFound
from dynamos.testbed.facts import Facts
from dynamos.testbed.items import WORLD, Item, Key, Overlay


class MemoryGround:
    """Items in a dict. `step` is called wherever a real ground could be interrupted; what it raises interrupts this
    one: some items are there in part then."""

    def __init__(self, step: Callable[[], None] = lambda: None) -> None:
        self.items: dict[Key, Item] = {}
        self.broken: dict[Key, str] = {}
        self._step = step

    def look(self, *, closely: bool = True) -> Facts:  # noqa: ARG002  memory is as close as it gets
        return Facts(dict(self.items), dict(self.broken))

    def make(self, *items: Item) -> None:
        for item in items:
            self._require(item)
            self._step()
            self._begin(item)
            self.items[item.key] = item
            self._step()
            self._end(item)

    def change(self, before: Item, after: Item) -> None:
        if before.key not in self.items:
            raise NotFound(f"there is no {before.key}")
        if not before.can_become(after):
            raise Conflict(f"{before.key} cannot be changed so")
        self._require(after)
        self._step()
        self._begin(after)
        self._step()
        self.items[after.key] = after
        self._end(after)

    def remove(self, item: Item) -> None:
        if item.key in self.items:
            self._begin(item)
            self._step()
        for key in self._with(item.key):
            self.items.pop(key, None)
            self.broken.pop(key, None)
            self._step()

    def lose(self, key: Key) -> None:
        """Lose an item and what is on it, as if by an accident."""
        for each in self._with(key):
            self.items.pop(each, None)
            self.broken.pop(each, None)

    def _begin(self, item: Item) -> None:
        self.broken[item.key] = "work on it was interrupted"

    def _end(self, item: Item) -> None:
        self.broken.pop(item.key, None)

    def _require(self, item: Item) -> None:
        needs = set(item.needs())
        if isinstance(item, Overlay):
            needs |= {key for seat in item.seats for key in seat.keys}
        if missing := sorted(needs - set(self.items)):
            raise NotFound(f"{item.key} needs {missing[0]}")

    def _with(self, key: Key) -> list[Key]:
        """Give the item, and before it what goes with it: everything with the world, containers with their node."""
        if key == WORLD:
            return [*(each for each in self.items if each != WORLD), WORLD]
        on_it = [each for each, item in self.items.items() if key in item.needs() and each.kind == "container"]
        return [*on_it, key] if key.kind == "node" else [key]
