"""Facts: what a testbed consists of now, as somebody has just seen it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dynamos.testbed.items import Item, Key


@dataclass(frozen=True, slots=True)
class Facts:
    """What is there. `items` are as they are, which may differ from what was made; an overlay's seats are those whose
    members know of each other. `broken` tells of some of them what is wrong: work on them was interrupted, or something
    of theirs has gone. Where the world is not there, nothing is.
    """

    items: Mapping[Key, Item] = field(default_factory=dict)
    broken: Mapping[Key, str] = field(default_factory=dict)
