"""A marketplace's pods on a cluster, under the policies of its manifests: who listens, who knocks, and who may."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cluster import fabrics
from cluster.clusters import Cluster
from cluster.insides import inside
from cluster.specs import API_PORT, API_SERVICE, DNS_SERVICE

from dynamos.deploy.kubernetes import parties, policies
from dynamos.deploy.kubernetes.labels import PARTY, ROLE, labels
from dynamos.deploy.kubernetes.plans import Plan
from dynamos.jobs.pods.settings import PORT as COURIER_PORT
from dynamos.middleware.network.openings import Home
from dynamos.model.marketplaces import Marketplace, Party
from dynamos.model.profiles import Profile
from dynamos.testbed.hosts import Host
from dynamos.testbed.proofs.clusters import Occasion, Spot, Target
from dynamos.testbed.proofs.programs import started
from dynamos.testbed.wanted import PORTS
from support import pod_networks
from support.plans import Images
from support.pod_networks import PodNetwork, apply, networks, pod, until_ready

T = TypeVar("T")
PARTIES = ("north", "south")
METADATA, INTERNET = "169.254.169.254", ("192.0.2.1", "198.51.100.1")
"""Where clouds hand out credentials, and addresses of the internet that documents may use: they are nobody's."""
_SHUT_SECONDS = 5.0
_KUBELET, _HTTP, _TLS = 10250, 80, 443
_LISTENS = {
    "agent": (PORTS["exchange"],), "job": (COURIER_PORT,), "hostile": (COURIER_PORT,),
    "api": (PORTS["api"], PORTS["exchange"]), "bus": (PORTS["bus"],), "orchestrator": (), "outsider": (),
}  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """What stands on the cluster: `pods` are the networks of all pods by namespace and name."""

    cluster: Cluster
    plan: Plan
    outside: str
    pods: dict[tuple[str, str], PodNetwork]

    @property
    def namespaces(self) -> tuple[str, ...]:
        return (self.plan.control, *self.plan.parties.values(), self.outside)

    @property
    def hosts(self) -> dict[str, Host]:
        return {spot.name: self._network(spot) for spot in self.spots}

    @property
    def spots(self) -> tuple[Spot, ...]:
        ours = [
            Spot(f"{role} of {party}", "job" if role == "hostile" else role, party)  # type: ignore[arg-type]
            for party in PARTIES
            for role in ("agent", "job", "hostile")
        ]
        control = [Spot(role, role) for role in ("api", "orchestrator", "bus")]  # type: ignore[arg-type]
        return (*ours, *control, Spot("outsider", "outsider"))

    def occasion(self, *ways: tuple[str, str]) -> Occasion:
        return Occasion(self.spots, tuple(self._targets()), frozenset(ways))

    def home(self, party: str) -> Home:
        uid = self.cluster.kubectl(
            "get", "pod", "agent", "-n", self.plan.namespace_of(party), "-o", "jsonpath={.metadata.uid}"
        )
        return Home(party, self.plan.control, self.plan.parties, "agent", uid)

    def inside(self, network: PodNetwork, work: Callable[[], T]) -> T:
        """Do work in the network of a pod."""
        fd = os.open(f"/proc/{network.box.pid}/root{network.network}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return inside(fd, work)
        finally:
            os.close(fd)

    def until_shut(self, carries: Callable[..., bool]) -> bool:
        """Wait until a way that nobody opens any more carries nothing; tell whether that is so within some seconds."""
        end = time.monotonic() + _SHUT_SECONDS
        while carries(self, within=0.2):
            if time.monotonic() > end:
                return False
        return True

    def _network(self, spot: Spot) -> PodNetwork:
        where = self.plan.namespace_of(spot.party) if spot.party else self.plan.control
        return self.pods[self.outside if spot.kind == "outsider" else where, spot.name.split()[0]]

    def _targets(self) -> Iterator[Target]:
        for party, where in self.plan.parties.items():
            for name, kind in (("agent", "agent"), ("job", "job"), ("hostile", "job")):
                address = self.pods[where, name].address
                yield Target(f"{name} of {party}", kind, address, _LISTENS[name][0], party)  # type: ignore[arg-type]
            service = self._service("agent", where)
            yield Target(f"service of {party}", "agent", service, PORTS["exchange"], party, spot=f"agent of {party}")
        control = self.plan.control
        api, bus = (self.pods[control, name].address for name in ("api", "bus"))
        yield Target("bus", "bus", bus, PORTS["bus"])
        yield Target("service of the bus", "bus", self._service("bus", control), PORTS["bus"], spot="bus")
        yield Target("api", "api", api, PORTS["api"])
        yield Target("gateway", "gateway", api, PORTS["exchange"], spot="api")
        yield from around(self.cluster)

    def _service(self, name: str, namespace: str) -> str:
        return self.cluster.kubectl("get", "service", name, "-n", namespace, "-o", "jsonpath={.spec.clusterIP}")


def around(cluster: Cluster) -> Iterator[Target]:
    """Give what a pod may knock at that is nobody's in a marketplace: the cluster's own servers and the world."""
    spec = cluster.spec
    yield Target("api server", "api-server", spec.control.ip, API_PORT)
    yield Target("service of the api server", "api-server", API_SERVICE, _TLS)
    yield Target("dns by tcp", "dns", DNS_SERVICE, 53)
    yield Target("dns by udp", "dns", DNS_SERVICE, 53, protocol="udp")
    for machine in spec.nodes:
        yield Target(f"kubelet of {machine.name}", "kubelet", machine.ip, _KUBELET)
    for machine in spec.machines:
        yield Target(f"machine {machine.name} by tcp", "node", machine.ip, served=False)
        yield Target(f"machine {machine.name} by udp", "node", machine.ip, protocol="udp", served=False)
    yield Target("metadata", "world", METADATA, _HTTP)
    for address in INTERNET:
        yield Target(f"internet {address}", "world", address, _TLS)


@contextlib.contextmanager
def standing(cluster: Cluster, name: str, *, exchange: bool = True) -> Iterator[Scene]:
    """Have a marketplace's pods stand on a cluster under a name, each listening where it does; nothing is left.

    Without `exchange` nobody listens in the agents' pods: a test does.
    """
    plan, outside = _plan(cluster, name), f"{name}-outside"
    pod_networks.load_shell(cluster)
    try:
        apply(cluster, _objects(plan, outside, [node.name for node in cluster.spec.nodes]))
        until_ready(cluster, (plan.control, *plan.parties.values(), outside))
        pods = networks(cluster, (plan.control, *plan.parties.values(), outside))
        listening: list[tuple[Host, Any]] = [
            (network, {"ports": [("tcp", port) for port in _LISTENS[pod_name]]})
            for (_, pod_name), network in pods.items()
            if exchange or pod_name != "agent"
        ]
        with world(cluster), started("listen", [each for each in listening if each[1]["ports"]]):
            yield Scene(cluster, plan, outside, pods)
    finally:
        names = (plan.control, *plan.parties.values(), outside)
        cluster.kubectl("delete", "namespace", *names, "--wait=true", "--ignore-not-found", check=False)


@contextlib.contextmanager
def world(cluster: Cluster) -> Iterator[None]:
    """Have somebody answer, at the router of every site, at addresses that nobody is to reach."""
    wan = fabrics.wan_of(cluster.folder / "wan")
    routers = [wan.router(each.name) for each in cluster.spec.routers]
    there = (METADATA, *INTERNET)
    for router in routers:
        router.run(["sh", "-ec", "".join(f"ip address replace {each}/32 dev lo\n" for each in there)])
    try:
        with started("listen", [(router, {"ports": [("tcp", _HTTP), ("tcp", _TLS)]}) for router in routers]):
            yield
    finally:
        for router in routers:
            router.run(["sh", "-c", "".join(f"ip address del {each}/32 dev lo\n" for each in there)], check=False)


def _plan(cluster: Cluster, name: str) -> Plan:
    profile = Profile.model_validate({"name": name, "driver": "kubernetes", "marketplace": name})
    market = Marketplace(name=name, parties={party: Party(name=party) for party in PARTIES})
    servers = ((API_SERVICE, _TLS), (cluster.spec.control.ip, API_PORT))
    return Plan(profile, market, Images(), {}, {}, servers)


def _objects(plan: Plan, outside: str, nodes: list[str]) -> Iterator[dict[str, Any]]:
    for party, where in (("", plan.control), *plan.parties.items()):
        yield parties.namespace(plan, where, party)
        yield from policies.party(plan, party) if party else policies.control(plan)
        yield from parties.account(plan, party) if party else ()
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": outside}}
    for number, (party, where) in enumerate(plan.parties.items()):
        node = nodes[number % len(nodes)]
        for role in ("agent", "job", "hostile"):
            yield pod(role, where, _labels(plan, "job" if role == "hostile" else role, party), nodeName=node)
        yield _service(plan, "agent", where, PORTS["exchange"])
    for role in ("api", "orchestrator", "bus"):
        yield pod(role, plan.control, _labels(plan, role), nodeName=nodes[0])
    yield _service(plan, "bus", plan.control, PORTS["bus"])
    yield pod("outsider", outside, {}, nodeName=nodes[-1])


def _labels(plan: Plan, role: str, party: str = "") -> dict[str, str]:
    found = labels(plan.control, role=role, party=party)
    assert found[ROLE] == role
    assert found.get(PARTY, "") == party
    return found


def _service(plan: Plan, role: str, namespace: str, port: int) -> dict[str, Any]:
    spec = {"selector": {ROLE: role}, "ports": [{"port": port, "targetPort": port}]}
    metadata = {"name": role, "namespace": namespace, "labels": labels(plan.control, role=role)}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def written(matrix: Any, path: Path) -> None:
    """Write what came of it where a person can read it later."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(matrix.as_dict(), indent=1))
