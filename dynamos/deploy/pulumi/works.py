"""Works: a testbed's items made, seen and removed one at a time, as an engine asks for them.

What an item is and how it comes about is the testbed's library's; both ways to a testbed lead to the same state.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from dynamos.deploy.states import StateFolder
from dynamos.testbed.facts import Facts
from dynamos.testbed.items import Item, Key
from dynamos.testbed.namespaced import NamespacesGround
from dynamos.testbed.ssh import SshAccess
from dynamos.testbed.worlds import World

_FRESH_SECONDS = 1.0


class Seen(NamedTuple):
    """An item as it is, and what is wrong with it, which is empty where nothing is."""

    item: Item
    broken: str


@dataclass
class _Looks:
    """What was last seen of a testbed: an engine asks for all its items at once, and one look answers."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    at: float = 0.0
    facts: Facts = field(default_factory=Facts)


_LOOKS: dict[Path, _Looks] = {}


class Works:
    """The testbed whose state folder this is, of the driver `namespaces`."""

    def __init__(self, folder: Path) -> None:
        self._world = StateFolder(folder).world
        self._ground = NamespacesGround(self._world)
        self._looks = _LOOKS.setdefault(folder, _Looks())

    def put(self, item: Item) -> None:
        """Make the item be there as it is said, whatever there is of it: what an interruption left is removed first."""
        with self._changing():
            there = self._there(item)
            if there and (there.broken or not there.item.can_become(item)):
                self._ground.remove(there.item)
                there = None
            if there is None:
                self._ground.make(item)
            elif there.item != item:
                self._ground.change(there.item, item)

    def see(self, key: Key) -> Seen | None:
        """Give the item as it is; None where it is not there."""
        with self._looks.lock:
            if time.monotonic() - self._looks.at > _FRESH_SECONDS:
                self._looks.facts = self._ground.look()
                self._looks.at = time.monotonic()
            return _seen(self._looks.facts, key)

    def drop(self, item: Item) -> None:
        """Remove the item and whatever of it is left. Does nothing where there is nothing."""
        with self._changing():
            self._ground.remove(item)

    @property
    def alive(self) -> bool:
        """Whether its world is there."""
        return World.find(self._world) is not None

    def open_ssh(self) -> Path:
        """Let ssh into every node that is there, and give the client's configuration. Does nothing to others."""
        world = World.find(self._world)
        return SshAccess(self._world).offer(world.nodes() if world else ())

    def close_ssh(self) -> None:
        """Remove the files by which ssh gets in. The keys of the nodes go with the nodes."""
        access = SshAccess(self._world)
        for file in (access.config, access.known_hosts, access.identity, access.identity.with_suffix(".pub")):
            file.unlink(missing_ok=True)

    def _there(self, item: Item) -> Seen | None:
        """Give what there is of an item. Only where something is written of it, it has to be looked at."""
        noted = _seen(self._ground.look(closely=False), item.key)
        if noted is None or noted.broken:
            return noted
        return _seen(self._ground.look(), item.key)

    def _changing(self) -> _Forgetting:
        return _Forgetting(self._looks)


class _Forgetting:
    """Makes what was seen before a change be seen anew after it."""

    def __init__(self, looks: _Looks) -> None:
        self._looks = looks

    def __enter__(self) -> None:
        self._looks.at = 0.0

    def __exit__(self, *_: object) -> None:
        self._looks.at = 0.0


def _seen(facts: Facts, key: Key) -> Seen | None:
    item = facts.items.get(key)
    return Seen(item, facts.broken.get(key, "")) if item else None
