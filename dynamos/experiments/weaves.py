"""Weaves: overlays of a trial's own, laid between containers of a testbed that is up, and taken away again.

So one testbed serves every driver and scope, and what a trial has laid is gone before the next. The testbed itself is
one with driver `none` and scope `request`: nobody is in a network, and containers are routed if they get an address.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from dynamos.kit.errors import Unavailable
from dynamos.model.networks import Group, Overlay
from dynamos.model.profiles import Profile
from dynamos.testbed import items
from dynamos.testbed.containers import Container
from dynamos.testbed.edges import PORT, TABLE, Rules, Ways
from dynamos.testbed.nodes import Node
from dynamos.testbed.overlays import networks
from dynamos.testbed.overlays.drivers import Member, Network
from dynamos.testbed.overlays.registry import driver
from dynamos.testbed.proofs.isolation import isolation
from dynamos.testbed.proofs.matrices import Matrix
from dynamos.testbed.proofs.policies import Edge
from dynamos.testbed.proofs.programs import together
from dynamos.testbed.proofs.subjects import Subject
from dynamos.testbed.scopes import job_overlay
from dynamos.testbed.wanted import wanted

BARE = Overlay(driver="none", scope="request")
"""The overlay of a testbed on which trials lay their own."""


Edges = Iterable[tuple[str, str]]
"""Who sends to whom, by party."""


@dataclass(slots=True)
class Weave:
    """An overlay that is there: its members by party, and how many seconds the steps took: until the `containers` were
    there, until keys and ends were made (`prepare`), until all had joined, until each had reached each other."""

    overlay: items.Overlay
    members: Mapping[str, Member]
    containers: float
    prepare: float
    join: float
    reach: float
    removal: float = 0.0
    """How long it took to take it away, and to see that nothing is left; once that is done."""
    _rules: dict[str, Rules] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def setup(self) -> float:
        """Until every pair had reached each other, containers aside."""
        return self.prepare + self.join + self.reach

    def address(self, party: str) -> str:
        return self.members[party].address

    def host(self, party: str) -> Container:
        host = self.members[party].container
        assert isinstance(host, Container)
        return host

    def close_ways(self) -> None:
        """Let nothing through between the members but probes, as DYNAMOS does until a part is granted."""
        self._rules = {party: Rules(self.host(party)) for party in self.members}
        together(Rules.lay, self._rules.values())

    def open_ways(self, job: str, edges: Edges) -> None:
        """Open the ways that a job's edges need, at both of their ends, once they were closed."""
        with self._lock:
            for party in dict.fromkeys(party for edge in edges for party in edge):
                senders = frozenset(self.address(source) for source, target in edges if target == party)
                receivers = frozenset(self.address(target) for source, target in edges if source == party)
                self._rules[party].open(job, Ways(senders, receivers))


def bare(profile: Profile, *, delays: bool = True) -> Profile:
    """Give a profile without networks of its containers; without `delays`, its links are as in one hall."""
    links = profile.links if delays else tuple(type(link)(between=link.between, mtu=link.mtu) for link in profile.links)
    return profile.model_copy(update={"overlay": BARE, "groups": {}, "links": links})


def groups_of(parties: Mapping[str, Sequence[str]]) -> dict[str, Group]:
    """Give the groups of a profile, from the names of their parties."""
    return {name: Group(parties=tuple(some)) for name, some in parties.items()}


def lacking(subject: Subject, name: str) -> str:
    """Tell what this machine lacks for a driver; empty where it has everything."""
    return "; ".join(dict.fromkeys(lack.message for lack in driver(name).missing(subject.world.nodes()[0])))


def of_request(subject: Subject, name: str, parties: Sequence[str], *, slot: int = 0) -> items.Overlay:
    """Give the overlay that a request of these parties has for itself, with fresh containers."""
    profile = _shaped(subject, name, "request", {})
    return job_overlay(profile, wanted(profile), slot, tuple(parties))


def standing(
    subject: Subject, name: str, groups: Mapping[str, Sequence[str]] | None = None
) -> dict[str, items.Overlay]:
    """Give the overlays that stay, by name: one for each of the groups, or, without groups, the marketplace's."""
    profile = _shaped(subject, name, "group" if groups else "marketplace", groups or {})
    return wanted(profile).of(items.Overlay)


@contextmanager
def laid(subject: Subject, overlay: items.Overlay, *, mtu: int = 0, within: float = 60.0) -> Iterator[Weave]:
    """Have an overlay be there during the block, with the containers that it needs; `mtu` other than the one that fits.

    Raises Unavailable where this machine lacks what its driver needs, TimedOut where members do not reach each other.
    """
    if lacks := lacking(subject, overlay.driver):
        raise Unavailable(f"the overlay {overlay.driver!r} cannot be made here: {lacks}", where=overlay.name)
    nodes = {node.name: node for node in subject.world.nodes()}
    known = {each.name for each in subject.wanted.of(items.Container).values()}
    network = Network(overlay.name, overlay.number, overlay.subnet, mtu or overlay.mtu, overlay.options)
    made = driver(overlay.driver)
    began = time.perf_counter()
    boxes: list[Container] = []
    try:
        boxes = together(lambda seat: nodes[seat.node].container(seat.container), overlay.seats)
        containers = time.perf_counter() - began
        members = [_member(nodes[seat.node], box, seat) for seat, box in zip(overlay.seats, boxes, strict=True)]
        took = networks.bring(network, members, made, within=within)
        named = dict(zip(_parties(subject, overlay), members, strict=True))
        weave = Weave(overlay, named, containers, took.prepare, took.join, took.reach)
        try:
            yield weave
        finally:
            began = time.perf_counter()
            networks.take_down(network, members, made)
    finally:
        together(Container.destroy, [box for box in boxes if box.name not in known])
        together(_without_rules, [box for box in boxes if box.name in known])
    weave.removal = time.perf_counter() - began


def proved(
    subject: Subject, weaves: Sequence[Weave], edges: Mapping[str, Edges], *, patience: float | None = None
) -> Matrix:
    """Try who reaches whom while these overlays are there, with the ways of `edges` (by overlay) open in them. What is
    not tried: sites' own addresses, which no overlay is about."""
    live = [weave.overlay for weave in weaves]
    open_ways = {
        weave.overlay.name: tuple(
            Edge(weave.members[source].container.name, weave.members[target].container.name, PORT)
            for source, target in edges.get(weave.overlay.name, ())
        )
        for weave in weaves
    }
    situation = replace(subject.situation(live, (), open_ways), places={}, outsiders=())
    return isolation(situation, subject.hosts(), patience=patience or subject.patience)


def _without_rules(box: Container) -> None:
    box.run(["nft", "delete", "table", "inet", TABLE], check=False)


def _shaped(subject: Subject, name: str, scope: str, groups: Mapping[str, Sequence[str]]) -> Profile:
    overlay = Overlay.model_validate({"driver": name, "scope": scope})
    return subject.profile.model_copy(update={"overlay": overlay, "groups": groups_of(groups)})


def _member(node: Node, box: Container, seat: items.Seat) -> Member:
    return Member(seat.container, box, node, seat.underlay, seat.address)


def _parties(subject: Subject, overlay: items.Overlay) -> list[str]:
    """Give the party of each seat, in their order: a fresh container is called after its party's own."""
    found = {each.name: each.party for each in subject.wanted.of(items.Container).values()}
    return [found.get(seat.container) or found[seat.container.split("-", 2)[2]] for seat in overlay.seats]
