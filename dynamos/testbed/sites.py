"""The ground of a testbed with real networks: a world, and the WAN in it that joins its sites."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dynamos.kit.errors import Broken
from dynamos.testbed import items
from dynamos.testbed.boxes import Box
from dynamos.testbed.facts import Facts
from dynamos.testbed.items import Item, Key, Link, Router, Routes
from dynamos.testbed.namespaced import NamespacesGround
from dynamos.testbed.wans import Wan
from dynamos.testbed.worlds import World

FOLDER = "world"
"""Where a testbed's world has its files, in the testbed's folder."""


def ground(folder: Path) -> NamespacesGround:
    """Give the ground of the testbed whose folder it is."""
    return NamespacesGround(folder / FOLDER, WanOfWorld)


class WanOfWorld:
    """The WAN of a world as a ground knows it. It is made with the first of its items."""

    def __init__(self, world: World) -> None:
        self._world = world

    def look(self, known: Mapping[Key, Item]) -> Facts:
        wan = Wan.find(self._world)
        told = wan.look() if wan else Facts()
        there = {key: item for key, item in told.items.items() if key in known}
        return Facts(there, {key: why for key, why in told.broken.items() if key in known})

    def make(self, *made: Item) -> None:
        wan = Wan.create(self._world)
        for item in made:
            _put(wan, item)

    def change(self, _: Item, after: Item) -> None:
        _put(Wan.create(self._world), after)

    def remove(self, item: Item) -> None:
        wan = Wan.find(self._world)
        if wan is None:
            return
        match item:
            case Router():
                wan.remove_router(item.name)
            case Link():
                wan.remove_link(item.name)
            case Routes():
                wan.remove_routes(item.name)

    def plug(self, node: Box, item: items.Node) -> None:
        Wan.create(self._world).attach(node, item.site, item.address, item.gateway)

    def plugged(self, node: Box, item: items.Node) -> bool:
        told = node.run(["ip", "-o", "addr", "show", "dev", "eth0"], check=False).text
        return f" {item.address} " in told


def _put(wan: Wan, item: Item) -> None:
    match item:
        case Router():
            wan.put_router(item)
        case Link():
            wan.put_link(item)
        case Routes():
            wan.put_routes(item)
        case _:
            raise Broken(f"{item.key} is not of a WAN")
