"""The ground of namespaces: makes a testbed's items in a world, and looks at what is there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dynamos.kit.errors import Mistake, NotFound, Unavailable
from dynamos.testbed import items as wanted
from dynamos.testbed.containers import Container
from dynamos.testbed.fabrics import Fabric, WanFabric
from dynamos.testbed.facts import Facts
from dynamos.testbed.items import WORLD, Item, Key, Overlay, Seat
from dynamos.testbed.journals import Journal
from dynamos.testbed.nodes import Node
from dynamos.testbed.overlays import networks
from dynamos.testbed.overlays.drivers import Driver, Member, Network
from dynamos.testbed.overlays.registry import driver
from dynamos.testbed.worlds import World

JOURNAL = "items"
_AT_ONCE, _LOOKERS = 8, 16


class NamespacesGround:
    """A world in a folder. `show` are folders of this machine that its nodes see, read-only; `fabric` gives what joins
    its sites. What is done is written into a journal, so that an interruption anywhere is noticed."""

    def __init__(
        self, folder: Path, *, show: Sequence[Path] = (), fabric: Callable[[World], Fabric] = WanFabric
    ) -> None:
        self._folder = folder
        self._fabric = fabric
        self._show = show
        self._journal = Journal(folder / JOURNAL)

    def look(self, *, closely: bool = True) -> Facts:
        world = World.find(self._folder)
        if world is None:
            return Facts()
        known, broken = self._journal.read()
        if WORLD not in known:
            known[WORLD], broken[WORLD] = wanted.World(testbed=world.name), "its making was interrupted"
        return self._examined(world, known, broken) if closely else Facts(known, broken)

    def _examined(self, world: World, known: Mapping[Key, Item], broken: dict[Key, str]) -> Facts:
        """Tell what of the known items is there, as it is."""
        fabric = self._fabric(world)
        told = fabric.look()
        found = {WORLD: known[WORLD], **told.items}
        nodes = {node.name: node for node in world.nodes()}
        containers = {box.name for node in nodes.values() for box in node.containers()}
        known_nodes = [item for item in known.values() if isinstance(item, wanted.Node) and item.name in nodes]
        with ThreadPoolExecutor(_LOOKERS, thread_name_prefix="look") as pool:
            plugged = pool.map(lambda item: fabric.plugged(nodes[item.name], item), known_nodes)
            names = pool.map(lambda item: nodes[item.name].names(), known_nodes)
        for node, is_plugged, knows in zip(known_nodes, plugged, names, strict=True):
            found[node.key] = node.knowing(knows)
            if not is_plugged:
                broken.setdefault(node.key, "it is not joined to its router")
        boxes = [item for item in known.values() if isinstance(item, wanted.Container) and item.name in containers]
        found |= {item.key: item for item in boxes}
        overlays = [item for item in known.values() if isinstance(item, Overlay)]
        found |= {item.key: item for item in _as_they_are(overlays, nodes, containers)}
        kept = {key: why for key, why in {**broken, **told.broken}.items() if key in found}
        return Facts(found, kept)

    def make(self, *items: Item) -> None:
        if isinstance(items[0], wanted.World):
            self._make_world(items[0])
            return
        for item in items:
            self._journal.begin(item)
        world = self._world()
        if items[0].kind in ("router", "link", "routes"):
            self._fabric(world).make(*items)
        else:
            with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="make") as pool:
                for made in [pool.submit(self._make, world, item) for item in items]:
                    made.result()
        for item in items:
            self._journal.done(item)

    def _make(self, world: World, item: Item) -> None:
        match item:
            case wanted.Node():
                box = world.node(item.name, item.site)
                self._fabric(world).plug(box, item)
                box.set_names(item.names)
            case wanted.Container():
                _node(world, item.node).container(item.name)
            case Overlay():
                self._join(world, item, ())

    def change(self, before: Item, after: Item) -> None:
        self._journal.begin(_union(before, after))
        world = self._world()
        if isinstance(before, Overlay) and isinstance(after, Overlay):
            stays = [seat for seat in after.seats if seat in before.seats]
            leaving = [seat for seat in before.seats if seat not in after.seats]
            rest = _members(world, stays)
            if leaving:
                networks.take_down(_network(after), _members(world, leaving), driver(after.driver), rest=rest)
            self._join(world, after, stays)
        elif isinstance(after, wanted.Node):
            _node(world, after.name).set_names(after.names)
        else:
            self._fabric(world).change(before, after)
        self._journal.done(after)

    def remove(self, item: Item) -> None:
        world = World.find(self._folder)
        if isinstance(item, wanted.World) or world is None:
            if world:
                world.kill()
            self._journal.clear()
            return
        self._journal.begin(item)
        match item:
            case wanted.Node():
                for node in (each for each in world.nodes() if each.name == item.name):
                    node.destroy()
            case wanted.Container():
                for box in (box for node in world.nodes() for box in node.containers() if box.name == item.name):
                    box.destroy()
            case Overlay():
                networks.take_down(_network(item), _members(world, item.seats), driver(item.driver))
            case _:
                self._fabric(world).remove(item)
        self._journal.forget(item.key)

    def _make_world(self, item: wanted.World) -> None:
        if World.find(self._folder) is None:
            self._journal.clear()
            World.create(self._folder, item.testbed, show=self._show)
        self._journal.done(item)

    def _world(self) -> World:
        world = World.find(self._folder)
        if world is None:
            raise NotFound("the world of this testbed is gone", where=str(self._folder), hint="dynamos reconcile")
        return world

    def _join(self, world: World, overlay: Overlay, present: Iterable[Seat]) -> None:
        """Bring the members that are not there yet into an overlay."""
        there = list(present)
        new = _members(world, [seat for seat in overlay.seats if seat not in there])
        if new:
            lacking(driver(overlay.driver), new)
            networks.bring(_network(overlay), new, driver(overlay.driver), present=_members(world, there))


def lacking(made: Driver, members: Iterable[Member]) -> None:
    """Raises Unavailable where a node lacks what an overlay's driver needs, before anything of it is made."""
    gateways = {member.gateway.name: member.gateway for member in members}
    lacks: list[Mistake] = [mistake for host in gateways.values() for mistake in made.missing(host)]
    if lacks:
        told = "; ".join(dict.fromkeys(mistake.message for mistake in lacks))
        raise Unavailable(f"the overlay {made.name!r} cannot be made here: {told}", hint=lacks[0].hint)


def _as_they_are(overlays: Iterable[Overlay], nodes: Mapping[str, Node], containers: set[str]) -> list[Overlay]:
    """Give overlays without the members that are there but of whose ends nothing is left: they join again."""

    def has_end(overlay: Overlay, seat: Seat) -> bool:
        if seat.node not in nodes or seat.container not in containers:
            return True  # whether it is there is told of its container
        member = _member(nodes[seat.node], seat)
        return bool(driver(overlay.driver).verify_gone(_network(overlay), member))

    with ThreadPoolExecutor(_LOOKERS, thread_name_prefix="look") as pool:
        asked = [(overlay, [pool.submit(has_end, overlay, seat) for seat in overlay.seats]) for overlay in overlays]
        return [
            overlay.with_seats(tuple(seat for seat, has in zip(overlay.seats, ends, strict=True) if has.result()))
            for overlay, ends in asked
        ]


def _union(before: Item, after: Item) -> Item:
    """Give what is written while one becomes the other: of an overlay, with everybody who is in either."""
    if isinstance(before, Overlay) and isinstance(after, Overlay):
        return after.with_seats((*after.seats, *(seat for seat in before.seats if seat not in after.seats)))
    return after


def _network(overlay: Overlay) -> Network:
    return Network(overlay.name, overlay.number, overlay.subnet, overlay.mtu, overlay.options)


def _members(world: World, seats: Iterable[Seat]) -> list[Member]:
    """Give the members in these seats whose nodes are there; their containers may have gone."""
    nodes = {node.name: node for node in world.nodes()}
    return [_member(nodes[seat.node], seat) for seat in seats if seat.node in nodes]


def _member(node: Node, seat: Seat) -> Member:
    box = Container(node.folder / "containers" / seat.container, seat.container, node.site, node.name)
    return Member(seat.container, box, node, seat.underlay, seat.address)


def _node(world: World, name: str) -> Node:
    found = next((node for node in world.nodes() if node.name == name), None)
    if found is None:
        raise NotFound(f"there is no node {name!r} in this world", hint="dynamos reconcile")
    return found
