"""Clusters: the Kubernetes that a profile of the driver `kubernetes` is put on. It exists, and is its owner's."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Literal

from pydantic import Field, field_validator

from dynamos.model.sites import host_name
from dynamos.model.units import Size
from dynamos.model.values import Name, Value

MOST_WARM, MOST_REPLICAS = 64, 5
_OBJECT = re.compile(r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?")
_REGISTRY = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?(:[0-9]{1,5})?(/[a-z0-9]+([._-][a-z0-9]+)*)*")


class Quota(Value):
    """What all pods of one party may have together: how many pods, their memory, and their cores."""

    pods: int | None = Field(default=None, ge=1)
    memory: Size | None = None
    cores: float | None = Field(default=None, gt=0)


class Ingress(Value):
    """How the API is reached from outside: at `host`, by TLS with the certificate in the Secret `tls` of the control
    namespace, through the controller of the class `controller`, whose pods are in `namespace`."""

    host: str
    tls: str
    controller: str = ""
    namespace: str = "ingress-nginx"

    @field_validator("host", "tls", "namespace")
    @classmethod
    def _named(cls, text: str) -> str:
        return _object(text)


class Cluster(Value):
    """A cluster that exists. `kubeconfig` is a path (else KUBECONFIG, else ~/.kube/config), `context` one of its
    contexts (else its current one). `policies` says whose network it has, where that knows more than NetworkPolicies.

    `registry` is where nodes pull images from; without it they are on the nodes already. `storageClass` is of the
    volumes of the bus and of data; else the default one. `busReplicas` servers make up the bus; `orchestrators` share
    one work, and so do the `agents` of each party; `warmPods` wait for jobs, of one shape at one party. With `leaves`
    each site has a server of the bus. `apiServers` are the addresses at which pods reach the cluster's API
    server, such as 10.0.0.1:6443; else the cluster is asked. `claims` are volumes with a party's data that are in its
    namespace already, by party.
    """

    kubeconfig: str = ""
    context: str = ""
    policies: Literal["kubernetes", "cilium", "calico"] = "kubernetes"
    registry: str = ""
    storage_class: str = ""
    bus_replicas: Literal[1, 3] = 1
    bus_volume: Size = Size.parse("5GiB")
    orchestrators: int = Field(default=1, ge=1, le=MOST_REPLICAS)
    agents: int = Field(default=1, ge=1, le=MOST_REPLICAS)
    warm_pods: int = Field(default=2, ge=0, le=MOST_WARM)
    leaves: bool = False
    api_servers: tuple[str, ...] = ()
    claims: dict[Name, str] = Field(default_factory=dict)
    quota: Quota = Quota()
    ingress: Ingress | None = None

    @field_validator("storage_class")
    @classmethod
    def _class(cls, text: str) -> str:
        return _object(text) if text else text

    @field_validator("claims")
    @classmethod
    def _claims(cls, claims: dict[str, str]) -> dict[str, str]:
        return {party: _object(name) for party, name in claims.items()}

    @field_validator("registry")
    @classmethod
    def _registry(cls, text: str) -> str:
        if text and not _REGISTRY.fullmatch(text):
            raise ValueError("expected a registry's host and path like registry.example.org/dynamos, without https://")
        return text

    @field_validator("api_servers")
    @classmethod
    def _addresses(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        for text in texts:
            endpoint(text)
        return texts


def control_namespace(profile: str) -> str:
    """Give the namespace of the bus, the orchestrator and the API of a profile."""
    return host_name(profile)


def party_namespace(profile: str, party: str) -> str:
    """Give the namespace of a party."""
    return f"{control_namespace(profile)}-{host_name(party)}"


def endpoint(text: str) -> tuple[str, int]:
    """Read "10.0.0.1:6443" or "[fd00::1]:6443". Raises ValueError."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        raise ValueError("expected an address and a port like 10.0.0.1:6443")
    return str(ip_address(host.strip("[]"))), int(port)


def _object(text: str) -> str:
    if not _OBJECT.fullmatch(text):
        raise ValueError(f"{text!r} is no name of Kubernetes: small letters, digits, '-' and '.', at most 63")
    return text
