"""Overlays of the testbed between pods at different sites of a cluster: their nodes are the gateways."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from cluster import fabrics
from cluster.clusters import Cluster

from dynamos.model.networks import DriverName
from dynamos.testbed.hosts import Host
from dynamos.testbed.items import Overlay, Seat
from dynamos.testbed.overlays import networks
from dynamos.testbed.overlays.drivers import Member, Network, largest_mtu
from dynamos.testbed.overlays.registry import driver
from dynamos.testbed.proofs.captures import Spot
from support.pod_networks import PodNetwork

SUBNET = "10.99.0.0/24"


@dataclass(frozen=True)
class Joined(PodNetwork):
    """A pod by the name that its node has for its network, as overlay drivers want it."""

    @property
    def name(self) -> str:
        return self.network.rpartition("/")[2]


def spots(cluster: Cluster) -> list[Spot]:
    """Give where the links between the cluster's sites can be listened to."""
    wan = fabrics.wan_of(cluster.folder / "wan")
    return [Spot(tap.link, wan.box, tap.device) for tap in wan.taps()]


@contextlib.contextmanager
def overlaid(
    cluster: Cluster, name: DriverName, pods: Mapping[str, PodNetwork]
) -> Iterator[tuple[Overlay, dict[str, Host]]]:
    """Have pods, by the party of each, in an overlay of this driver: give it, and the pods by their names in it.

    With `none` there is nothing to make: the routes of pods join the sites.
    """
    joined = {party: Joined(each.box, each.pod, each.network, each.address) for party, each in pods.items()}
    if name == "none":
        seats = [_seat(cluster, each, each.address) for each in joined.values()]
        yield _item(name, seats, cluster.spec.mtu), _hosts(joined.values())
        return
    chosen = driver(name)
    mtu = largest_mtu(chosen, cluster.spec.mtu)
    network = Network("sites", 7, SUBNET, mtu)
    members = [
        Member(party, each, each.box, _underlay(cluster, each), f"10.99.0.{number}")
        for number, (party, each) in enumerate(joined.items(), 1)
    ]
    networks.bring(network, members, chosen)
    try:
        seats = [_seat(cluster, joined[member.name], member.address) for member in members]
        yield _item(name, seats, mtu), _hosts(joined.values())
    finally:
        networks.take_down(network, members, chosen)


def _hosts(pods: Sequence[Joined] | Iterator[Joined]) -> dict[str, Host]:
    return {each.name: each for each in pods}


def _underlay(cluster: Cluster, pod: PodNetwork) -> str:
    return next(machine.ip for machine in cluster.spec.machines if machine.name == pod.box.name)


def _seat(cluster: Cluster, pod: Joined, address: str) -> Seat:
    return Seat(container=pod.name, node=pod.box.name, underlay=_underlay(cluster, pod), address=address)


def _item(name: DriverName, seats: Sequence[Seat], mtu: int) -> Overlay:
    return Overlay(name="sites", driver=name, scope="marketplace", number=7, subnet=SUBNET, mtu=mtu, seats=tuple(seats))
