"""Marks: everything on a cluster that a proof knocks at. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from dynamos.deploy.kubernetes.doubles import SERVES, Double, protocol_of
from dynamos.deploy.kubernetes.guards import KUBELET
from dynamos.deploy.kubernetes.plans import Manifest
from dynamos.deploy.kubernetes.standings import Place, Standing, party_of, role_of
from dynamos.jobs.pods.settings import PORT as COURIER_PORT
from dynamos.testbed.proofs.clusters import Target, TargetKind
from dynamos.testbed.wanted import PORTS

METADATA: Place = ("169.254.169.254", 80)
"""Where clouds hand out credentials."""
_DNS_PORT = 53
_OF_PODS: dict[str, tuple[tuple[TargetKind, int], ...]] = {
    "agent": (("agent", PORTS["exchange"]),),
    "job": (("job", COURIER_PORT),),
    "api": (("api", PORTS["api"]), ("gateway", PORTS["exchange"])),
    "bus": (("bus", PORTS["bus"]),),
    "leaf": (("leaf", PORTS["bus"]),),
}
"""Where pods of a role listen in any case."""
_OF_SERVICES: dict[str, TargetKind] = {"api": "api", "bus": "bus", "leaf": "leaf"}


def marks(standing: Standing, stands: Sequence[tuple[Double, str]], internet: Place) -> tuple[Target, ...]:
    """Give what is knocked at. `stands` are the addresses of doubles, `internet` is a server beyond the cluster."""
    return (
        *(mark for double, address in stands for mark in _of_double(double, address)),
        *(mark for pod in standing.pods for mark in of_pod(pod)),
        *(mark for service in standing.services for mark in _of_service(service)),
        *_of_cluster(standing),
        Target("metadata", "world", *METADATA),
        Target(f"internet {internet[0]}", "world", *internet),
    )


def of_pod(pod: Manifest) -> Iterator[Target]:
    """Give the marks of a pod that is one of the testbed's own."""
    party, address = party_of(pod), pod["status"]["podIP"]
    for kind, port in _OF_PODS.get(role_of(pod), ()):
        yield Target(_named(pod["metadata"]["name"], kind, role_of(pod), party), kind, address, port, party)


def _of_double(double: Double, address: str) -> Iterator[Target]:
    spot = double.spot
    for kind, port in SERVES[spot.kind]:
        name = _named("double", kind, "", spot.party)
        yield Target(name, kind, address, port, spot.party, protocol_of(kind), spot=spot.name)


def _of_service(service: Manifest) -> Iterator[Target]:
    kind, address = _OF_SERVICES.get(role_of(service)), service["spec"].get("clusterIP", "")
    if kind is None or address in ("", "None"):
        return
    name = service["metadata"]["name"]
    for port in service["spec"].get("ports", ()):
        # The bus has a port for leaves too, which is the hub's.
        told: TargetKind = "hub" if port["port"] == PORTS["leaf"] else kind
        yield Target(f"service {name}:{port['port']}", told, address, int(port["port"]))


def _of_cluster(standing: Standing) -> Iterator[Target]:
    for address, port in standing.api_servers:
        yield Target(f"API server {address}:{port}", "api-server", address, port)
    for address in standing.name_servers:
        yield Target(f"DNS {address} by tcp", "dns", address, _DNS_PORT)
        yield Target(f"DNS {address} by udp", "dns", address, _DNS_PORT, protocol="udp")
    for name, address in standing.nodes.items():
        yield Target(f"kubelet of {name}", "kubelet", address, KUBELET)
        for protocol in ("tcp", "udp"):
            told: Any = protocol
            yield Target(f"node {name} by {protocol}", "node", address, protocol=told, served=False)


def _named(name: str, kind: str, role: str, party: str) -> str:
    what = name if kind == role else f"{kind} {name}"
    return f"{what} of {party}" if party else what
