"""Subjects of proofs: a testbed that is up, with its hosts, what its networks are meant to be, and where its links can
be listened to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from dynamos.kit.errors import Unavailable
from dynamos.model.profiles import Profile
from dynamos.model.sites import host_name
from dynamos.testbed.addresses import bare
from dynamos.testbed.efforts import Effort
from dynamos.testbed.hosts import Host
from dynamos.testbed.items import Container, Link, Node, Overlay, Router, Routes
from dynamos.testbed.measurements import Place
from dynamos.testbed.proofs.canaries import Canaries, canaries
from dynamos.testbed.proofs.captures import Spot
from dynamos.testbed.proofs.isolation import isolation
from dynamos.testbed.proofs.matrices import Matrix
from dynamos.testbed.proofs.policies import Edge, Situation
from dynamos.testbed.proofs.rehearsals import Act, Shape, acts, gathering, played, ring
from dynamos.testbed.verifications import Verification, verify
from dynamos.testbed.wans import Wan
from dynamos.testbed.wanted import Wanted, wanted
from dynamos.testbed.worlds import World

_LEAST_SECONDS, _MOST_SECONDS = 2.0, 6.0


@dataclass(frozen=True, slots=True)
class Subject:
    """A testbed with networks of its own, that is up."""

    profile: Profile
    wanted: Wanted
    world: World
    wan: Wan

    @classmethod
    def find(cls, profile: Profile, folder: Path) -> Subject:
        """Give the testbed of a profile whose world has its files in `folder`.

        Raises Unavailable where it has no networks, or they are not up.
        """
        if profile.driver != "namespaces":
            hint = "profiles with driver: namespaces have some"
            raise Unavailable(f"the testbed {profile.name!r} has no networks of its own", hint=hint)
        world = World.find(folder)
        wan = Wan.find(world) if world else None
        if world is None or wan is None:
            raise Unavailable(f"the networks of {profile.name!r} are not up", hint=f"dynamos up {profile.name}")
        return cls(profile, wanted(profile), world, wan)

    def hosts(self) -> dict[str, Host]:
        """Give the containers and nodes that are there, and the routers, by name."""
        nodes = self.world.nodes()
        boxes: dict[str, Host] = {box.name: box for node in nodes for box in node.containers()}
        routers = {_router(site): self.wan.router(site) for site in self.wanted.of(Router)}
        return {**{node.name: node for node in nodes}, **boxes, **routers}

    def situation(
        self, live: Sequence[Overlay], gone: Sequence[Overlay], edges: Mapping[str, tuple[Edge, ...]]
    ) -> Situation:
        """Give what the networks are meant to be while these overlays are there."""
        containers = {each.name: each.node for each in self.wanted.of(Container).values()}
        containers |= {seat.container: seat.node for overlay in live for seat in overlay.seats}
        nodes = {f"node {name}": bare(node.address) for name, node in self.wanted.of(Node).items()}
        routers = {_router(site): bare(router.address) for site, router in self.wanted.of(Router).items()}
        links = {
            f"link {name} at {site}": bare(address)
            for name, link in self.wanted.of(Link).items()
            for site, address in zip(link.sites, link.addresses, strict=True)
        }
        return Situation(
            containers=containers,
            live=tuple(live),
            gone=tuple(gone),
            places={**nodes, **routers, **links},
            edges=edges,
            outsiders=tuple(routers),
        )

    def spots(self) -> list[Spot]:
        """Give where every link can be listened to."""
        return [Spot(tap.link, self.wan.box, tap.device) for tap in self.wan.taps()]

    def playing(self, shape: Shape) -> AbstractContextManager[tuple[Act, ...]]:
        """Have the networks be as they are while jobs live."""
        return played(self.profile, self.wanted, self.world.folder, self.hosts(), shape)

    @property
    def patience(self) -> float:
        """Seconds after which a try counts as not through: more than any way there and back takes, several times."""
        delays = sum(float(link.delay) for link in self.profile.links)
        return min(_LEAST_SECONDS + 2 * delays, _MOST_SECONDS)


def measured(subject: Subject, *, effort: Effort, declared: bool = True) -> Verification:
    """Measure what packets between the first nodes of all sites meet, against what the profile says of the links or,
    where not `declared`, against what they have been made since."""
    nodes = {node.name: node for node in subject.world.nodes()}
    wanted_nodes = subject.wanted.of(Node)
    gateways = {name: host_name(site.gateway.name) for name, site in subject.profile.sites.items()}
    places = [
        Place(site, nodes[name], bare(wanted_nodes[name].address), wanted_nodes[name].mtu)
        for site, name in gateways.items()
        if name in nodes
    ]
    links = subject.wanted.of(Link) if declared else subject.wan.links()
    return verify(links, subject.wanted.of(Routes), places, effort=effort)


def prove_isolation(subject: Subject, told: Callable[[str], None] = lambda _: None) -> Matrix:
    """Try who reaches whom before, during and after the life of a job (see `rehearsals`)."""
    found = acts(subject.profile, subject.wanted)
    standing = tuple(subject.wanted.of(Overlay).values())
    passing = tuple(act.overlay for act in found if act.overlay not in standing)
    closed: dict[str, tuple[Edge, ...]] = {overlay.name: () for overlay in (*standing, *passing)}
    idle = subject.situation(standing, passing, closed)
    told("before a job")
    matrix = isolation(idle, subject.hosts(), phase="before", patience=subject.patience)
    with subject.playing(gathering):
        told("while a job lives")
        ways = {**closed, **{act.overlay.name: act.edges for act in found}}
        busy = subject.situation((*standing, *passing), (), ways)
        matrix += isolation(busy, subject.hosts(), phase="during", patience=subject.patience)
    told("after a job")
    return matrix + isolation(idle, subject.hosts(), phase="after", patience=subject.patience)


def prove_canaries(subject: Subject) -> Canaries:
    """Send canaries in ways like those of jobs, round all members, and look for them on every link."""
    with subject.playing(ring) as found:
        ways = {act.overlay.name: act.edges for act in found}
        return canaries([act.overlay for act in found], subject.hosts(), subject.spots(), ways)


def _router(site: str) -> str:
    return f"router {site}"
