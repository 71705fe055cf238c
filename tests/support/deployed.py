"""A marketplace that was deployed to a tests' cluster, as spots that knock and targets that are knocked at."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cluster.clusters import Cluster

from dynamos.deploy.kubernetes.labels import PARTY, ROLE
from dynamos.jobs.pods.api import WARM
from dynamos.jobs.pods.settings import POOL
from dynamos.jobs.pods.settings import PORT as COURIER_PORT
from dynamos.testbed.hosts import Host
from dynamos.testbed.proofs.clusters import Occasion, Spot, Target
from dynamos.testbed.wanted import PORTS
from support.cluster_scenes import around
from support.pod_networks import PodNetwork, networks

OUTSIDER = "outsider"


@dataclass(frozen=True)
class Deployed:
    """Its pods as they are now: of each, who it is and its network."""

    cluster: Cluster
    control: str
    found: tuple[tuple[Spot, PodNetwork], ...]

    @classmethod
    def of(cls, cluster: Cluster, control: str, outside: str) -> Deployed:
        """Look at what stands in the namespaces of a marketplace, and at the one pod of `outside`."""
        told = json.loads(cluster.kubectl("get", "pods", "-A", "-l", f"dynamos.dev/testbed={control}", "-o", "json"))
        pods = {(each["metadata"]["namespace"], each["metadata"]["name"]): each for each in told["items"]}
        nets = networks(cluster, {namespace for namespace, _ in pods} | {outside})
        found = [(_spot(pods[key]), net) for key, net in nets.items() if key in pods]
        stranger = (Spot(OUTSIDER, "outsider"), nets[outside, OUTSIDER])
        return cls(cluster, control, (*((spot, net) for spot, net in found if spot is not None), stranger))

    @property
    def kinds(self) -> set[str]:
        return {spot.kind for spot, _ in self.found}

    @property
    def hosts(self) -> dict[str, Host]:
        return {spot.name: net for spot, net in self.found}

    @property
    def occasion(self) -> Occasion:
        """Everybody at everything, with no way open between parties."""
        return Occasion(tuple(spot for spot, _ in self.found), tuple(self._targets()))

    def _targets(self) -> Iterator[Target]:
        for spot, net in self.found:
            if spot.kind == "agent":
                yield Target(spot.name, "agent", net.address, PORTS["exchange"], spot.party)
            elif spot.kind == "job":
                yield Target(spot.name, "job", net.address, COURIER_PORT, spot.party)
            elif spot.kind == "api":
                yield Target(spot.name, "api", net.address, PORTS["api"])
                yield Target("gateway", "gateway", net.address, PORTS["exchange"], spot=spot.name)
            elif spot.kind == "bus":
                yield Target(spot.name, "bus", net.address, PORTS["bus"])
        yield from around(self.cluster)


def _spot(pod: dict[str, Any]) -> Spot | None:
    label, name = pod["metadata"]["labels"], pod["metadata"]["name"]
    role, party = label.get(ROLE, ""), label.get(PARTY, "")
    kind: Any = role
    if role == "job" and label.get(POOL) != WARM:
        return None  # it may end while it is knocked at
    return Spot(f"{name} of {party}" if party else name, kind, party) if role in _KINDS else None


_KINDS = ("agent", "job", "api", "orchestrator", "bus")
