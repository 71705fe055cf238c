"""Policies of a testbed's networks: who may reach whom, as the wanted state and the scopes that are there say. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from dynamos.model.overheads import TRAITS
from dynamos.testbed.items import Overlay

Protocol = Literal["tcp", "udp", "icmp"]

_CONNECTIONS = 4
"""The layer at which an overlay carries connections, and no packets."""


@dataclass(frozen=True, slots=True)
class Edge:
    """Who may talk to whom: a container to one in the same overlay, or to the address of a place. Port 0 is any, and
    takes every protocol in."""

    source: str
    target: str
    port: int = 0

    def permits(self, protocol: Protocol, port: int) -> bool:
        return self.port == 0 or (protocol == "tcp" and port == self.port)


@dataclass(frozen=True, slots=True)
class Flow:
    """A try: from whom, to whom (by its name), at which address, and how. ICMP has port 0."""

    source: str
    target: str
    address: str
    protocol: Protocol
    port: int

    def __str__(self) -> str:
        how = "icmp" if self.protocol == "icmp" else f"{self.protocol} {self.port}"
        return f"{self.source} to {self.target} at {self.address}, {how}"


@dataclass(frozen=True, slots=True)
class Expectation:
    """What policy says of a try, and why."""

    flow: Flow
    allowed: bool
    why: str


@dataclass(frozen=True, slots=True)
class Situation:
    """What a testbed's networks are meant to be at a moment.

    `containers` give the node that each is on; `live` are the overlays that are there, `gone` those that were there or
    will be: nothing answers at their addresses. `places` are addresses of the sites (nodes, routers) by name. `edges`
    of an overlay are all that is permitted in it, but for probes (see `testbed.edges`); one that is absent is open to
    its members. `control` is what containers may reach outside of their overlays. `outsiders` are further hosts on the
    underlay.
    """

    containers: Mapping[str, str]
    live: tuple[Overlay, ...] = ()
    gone: tuple[Overlay, ...] = ()
    places: Mapping[str, str] = field(default_factory=dict)
    edges: Mapping[str, tuple[Edge, ...]] = field(default_factory=dict)
    control: tuple[Edge, ...] = ()
    outsiders: tuple[str, ...] = ()

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes that have containers, each once."""
        return tuple(dict.fromkeys(self.containers.values()))


def expectations(situation: Situation, *, exchange: int, other: int) -> tuple[Expectation, ...]:
    """Give every try of the matrix with what policy says of it: every container to every other one in every overlay, by
    the port of the exchange and another one, by TCP, UDP and ICMP; containers to the sites' addresses; and nodes and
    outsiders, who are on the underlay, to addresses of overlays."""
    found: dict[Flow, Expectation] = {}
    for each in (
        *_between(situation, exchange, other),
        *_outside(situation, exchange, other),
        *_underlay(situation, exchange, other),
    ):
        known = found.get(each.flow)
        if known is None or (each.allowed and not known.allowed):
            found[each.flow] = each
    return tuple(found.values())


def _ways(exchange: int, other: int) -> tuple[tuple[Protocol, int], ...]:
    return ("tcp", exchange), ("tcp", other), ("udp", exchange), ("udp", other), ("icmp", 0)


def _between(situation: Situation, exchange: int, other: int) -> Iterator[Expectation]:
    for overlay in (*situation.live, *situation.gone):
        for seat in overlay.seats:
            for source in situation.containers:
                if source == seat.container:
                    continue
                for protocol, port in _ways(exchange, other):
                    flow = Flow(source, seat.container, seat.address, protocol, port)
                    yield Expectation(flow, *_verdict(situation, overlay, flow))


def _verdict(situation: Situation, overlay: Overlay, flow: Flow) -> tuple[bool, str]:
    """Tell whether a container may reach another one in an overlay, and why."""
    if overlay not in situation.live:
        return False, f"{overlay.name} is not there"
    seats = {seat.container for seat in overlay.seats}
    if flow.source not in seats:
        return False, f"{flow.source} is not in {overlay.name}"
    if TRAITS[overlay.driver].layer == _CONNECTIONS and flow.protocol != "tcp":
        return False, f"{overlay.driver} carries connections only"
    edges = situation.edges.get(overlay.name)
    if edges is None or flow.protocol == "icmp":
        return True, f"both are in {overlay.name}"
    own = [edge for edge in edges if (edge.source, edge.target) == (flow.source, flow.target)]
    if any(edge.permits(flow.protocol, flow.port) for edge in own):
        return True, f"an edge of {overlay.name}"
    what = "is for this" if own else f"leads from {flow.source} to {flow.target}"
    return False, f"no edge of {overlay.name} {what}"


def _outside(situation: Situation, exchange: int, other: int) -> Iterator[Expectation]:
    """Give the tries of containers at what is no container."""
    ways = ("tcp", 22), ("tcp", exchange), ("udp", other), ("icmp", 0)
    for source in situation.containers:
        permitted = {edge.target: edge for edge in situation.control if edge.source == source}
        for place, address in situation.places.items():
            edge = permitted.get(place)
            tries = {*ways, *([("tcp", edge.port)] if edge and edge.port else [])}
            for protocol, port in sorted(tries):
                flow = Flow(source, place, address, protocol, port)  # type: ignore[arg-type]
                if edge and edge.permits(flow.protocol, port):
                    yield Expectation(flow, allowed=True, why=f"the contract lets {source} reach {place}")
                else:
                    yield Expectation(flow, allowed=False, why=f"{place} is in no overlay of {source}")


def _underlay(situation: Situation, exchange: int, other: int) -> Iterator[Expectation]:
    for overlay in (*situation.live, *situation.gone):
        for seat in overlay.seats:
            for node in (*situation.nodes, *situation.outsiders):
                for protocol, port in (("tcp", exchange), ("udp", other), ("icmp", 0)):
                    flow = Flow(node, seat.container, seat.address, protocol, port)  # type: ignore[arg-type]
                    yield Expectation(flow, allowed=False, why=f"the underlay is not in {overlay.name}")
