"""The contract of a ground: what carries actions out, and tells what there is."""

from __future__ import annotations

from typing import Protocol

from dynamos.testbed.facts import Facts
from dynamos.testbed.items import Item


class Ground(Protocol):
    """Makes, changes and removes items. Every call is idempotent, and may be repeated after an interruption anywhere:
    what was interrupted is told by `look` as broken, or as not there."""

    def look(self, *, closely: bool = True) -> Facts:
        """Tell what there is, by looking at the things themselves; if not `closely`, only by what is written of them,
        where whatever keeps them is there at all."""
        ...

    def make(self, *items: Item) -> None:
        """Make items of one kind, perhaps at once. What they need is there. Raises Unavailable with a hint where this
        machine cannot."""
        ...

    def change(self, before: Item, after: Item) -> None:
        """Change an item while it is in use; `before.can_become(after)` holds. Of an overlay, members that are only in
        `before` leave, as far as they are still there, and then all of `after` are joined."""
        ...

    def remove(self, item: Item) -> None:
        """Remove an item and whatever of it is left. Does nothing where there is nothing."""
        ...
