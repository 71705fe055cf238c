"""Fabrics: what joins the sites of a world, as a ground needs it."""

from __future__ import annotations

from typing import Protocol

from dynamos.kit.errors import Broken
from dynamos.testbed import routers
from dynamos.testbed.boxes import Box
from dynamos.testbed.facts import Facts
from dynamos.testbed.items import Item, Link, Node, Router, Routes
from dynamos.testbed.wans import Wan
from dynamos.testbed.worlds import World


class Fabric(Protocol):
    """Routers, links between them, their routes, and the cables of nodes. All calls are idempotent, as of a ground."""

    def look(self) -> Facts:
        """Tell which routers, links and routes there are, as they are."""
        ...

    def make(self, *items: Item) -> None: ...

    def change(self, before: Item, after: Item) -> None: ...

    def remove(self, item: Item) -> None: ...

    def plug(self, box: Box, node: Node) -> None:
        """Join a node to its site's router, with its address, and its way to everything by the router's."""
        ...

    def plugged(self, box: Box, node: Node) -> bool:
        """Tell whether the node is joined to its site's router as it should be."""
        ...


class WanFabric:
    """The WAN of a world as a fabric."""

    def __init__(self, world: World) -> None:
        self._world = world

    def look(self) -> Facts:
        wan = Wan.find(self._world)
        return wan.look() if wan else Facts()

    def make(self, *items: Item) -> None:
        wan = Wan.create(self._world)
        for item in items:
            if not isinstance(item, Router | Link | Routes):
                raise Broken(f"{item.key} is not of a WAN")
        wan.put_router(*(item for item in items if isinstance(item, Router)))
        wan.put_link(*(item for item in items if isinstance(item, Link)))
        wan.put_routes(*(item for item in items if isinstance(item, Routes)))

    def change(self, _: Item, after: Item) -> None:
        self.make(after)

    def remove(self, item: Item) -> None:
        wan = Wan.find(self._world)
        match item:
            case _ if wan is None:
                return
            case Router():
                wan.remove_router(item.name)
            case Link():
                wan.remove_link(item.name)
            case Routes():
                wan.remove_routes(item.name)

    def plug(self, box: Box, node: Node) -> None:
        Wan.create(self._world).attach(box, node.site, node.address, node.gateway, mtu=node.mtu)

    def plugged(self, box: Box, node: Node) -> bool:
        told = box.run(["ip", "-o", "addr", "show", "dev", routers.NODE_DEVICE, "up"], check=False).text
        return f" {node.address} " in told
