"""Items: the things that a testbed is made of, as values. Wanted state and facts are both sets of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple, Self

from pydantic import Field

from dynamos.model.networks import Direction, DriverName, Scope
from dynamos.model.values import Name, Value

Kind = Literal["world", "router", "link", "routes", "node", "container", "overlay"]
KINDS: tuple[Kind, ...] = ("world", "router", "link", "routes", "node", "container", "overlay")
"""In the order in which they are made: what stands later may need what stands before."""


class Key(NamedTuple):
    """Which item."""

    kind: Kind
    name: str

    def __str__(self) -> str:
        return self.name if self.name == self.kind else f"{self.kind} {self.name}"


WORLD = Key("world", "world")


class Item(Value):
    """One thing of a testbed. Equal items need no work."""

    kind: ClassVar[Kind]
    name: str

    @property
    def key(self) -> Key:
        return Key(self.kind, self.name)

    def needs(self) -> frozenset[Key]:
        """Give the items that it cannot be without: it is made again when one of them is."""
        return frozenset()

    def can_become(self, other: Self) -> bool:
        """Tell whether it can be changed into the other one while it is in use."""
        return self == other


class World(Item):
    """What everything else is in, where the driver has one."""

    kind = "world"
    name: str = WORLD.name
    testbed: Name


class Router(Item):
    """What joins a site to the links; it has the site's name. `address` is its own in the site's network."""

    kind = "router"
    address: str

    def needs(self) -> frozenset[Key]:
        return frozenset({WORLD})


class Link(Item):
    """What joins two routers, in the order of `sites`: `addresses` are those of its ends, `forward` is what packets
    from the first meet. `state` is what faults have made of it."""

    kind = "link"
    sites: tuple[str, str]
    addresses: tuple[str, str]
    mtu: int
    forward: Direction
    backward: Direction
    state: Literal["up", "cut", "silent"] = "up"

    def needs(self) -> frozenset[Key]:
        return frozenset(Key("router", site) for site in self.sites)

    def can_become(self, other: Self) -> bool:
        return (self.sites, self.addresses) == (other.sites, other.addresses)


class Hop(NamedTuple):
    """A route: where packets to `destination` go next, and over which link (none: to a node of the site)."""

    destination: str
    via: str
    link: str


class Routes(Item):
    """What a site's router knows of the networks of other sites. It has the site's name."""

    kind = "routes"
    hops: tuple[Hop, ...]

    def needs(self) -> frozenset[Key]:
        return frozenset({Key("router", self.name), *(Key("link", hop.link) for hop in self.hops if hop.link)})

    def can_become(self, other: Self) -> bool:
        return self.name == other.name


class Node(Item):
    """A machine at a site. `gateway` is its router's address, empty where the network is not ours; `mtu` is that of its
    way to the router; `containers` is the network of the containers on it; `names` are those that resolve on it beside
    its own, each with its address."""

    kind = "node"
    site: str
    address: str
    gateway: str
    mtu: int
    containers: str
    names: dict[str, str] = Field(default_factory=dict)

    def needs(self) -> frozenset[Key]:
        return frozenset({Key("router", self.site)}) if self.gateway else frozenset()

    def can_become(self, other: Self) -> bool:
        return self.knowing({}) == other.knowing({})

    def knowing(self, names: Mapping[str, str]) -> Node:
        """Give the node with these names to resolve."""
        return self.model_copy(update={"names": dict(names)})


class Container(Item):
    """What one party's programs run in; its name is the party's as hosts are called. It has no address but those of the
    overlays that it is in: `address` is the one for the underlay (driver `none`), with its prefix; `shared` the one for
    an overlay of the marketplace."""

    kind = "container"
    party: str
    site: str
    node: str
    address: str
    shared: str

    def needs(self) -> frozenset[Key]:
        return frozenset({Key("node", self.node)})


class Seat(Value):
    """A container's place in an overlay. `underlay` is its node's address on the WAN, `address` its own in the overlay,
    both without a prefix."""

    container: str
    node: str
    underlay: str
    address: str

    @property
    def keys(self) -> frozenset[Key]:
        return frozenset({Key("container", self.container), Key("node", self.node)})


class Overlay(Item):
    """A network that containers share. `number` is its own in the testbed, as a VNI."""

    kind = "overlay"
    driver: DriverName
    scope: Scope
    number: int
    subnet: str
    mtu: int
    options: dict[str, str] = Field(default_factory=dict)
    seats: tuple[Seat, ...]

    def can_become(self, other: Self) -> bool:
        return self.with_seats(()) == other.with_seats(())

    def with_seats(self, seats: tuple[Seat, ...]) -> Overlay:
        """Give the overlay with these members."""
        return self.model_copy(update={"seats": seats})


CLASSES: dict[Kind, type[Item]] = {each.kind: each for each in (World, Router, Link, Routes, Node, Container, Overlay)}
