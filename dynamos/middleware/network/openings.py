"""Openings: what the agent of a party in a cluster asks the cluster's network for, so that the rows of one part pass.

The party's namespace denies everything that the marketplace does not need to stand. An opening lets connections in from
the agents of the parties that send rows to the part, and out to those of the parties that get some, at the port of the
exchange and at no other. A way carries only where both of its ends have opened it. What several parts need stays open
until the last of them has removed its own opening: they add up.

Pure, but for what keeps the protocol `Openings`.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from dynamos.kit.errors import NotFound
from dynamos.middleware.network.messages import EXCHANGE_PORT
from dynamos.model.plans import REQUESTOR, Part

BY = "dynamos-agent"
LABEL = "dynamos.dev/opening"


@dataclass(frozen=True, slots=True)
class Home:
    """Where an agent lives: its party, the namespace of every party, the profile, and the pod that it is."""

    party: str
    testbed: str
    namespaces: Mapping[str, str]
    pod: str
    uid: str

    @property
    def namespace(self) -> str:
        return self.namespaces[self.party]


@dataclass(frozen=True, slots=True)
class Opening:
    """The ways of one part, seen from its party: who may connect to its agent, and to whose its agent may."""

    name: str
    job: str
    senders: tuple[str, ...]
    receivers: tuple[str, ...]


class Openings(Protocol):
    """What a cluster's network lets through for one agent.

    Every call raises Unavailable where the cluster does not answer or is busy, Refused where the agent may not.
    """

    async def put(self, opening: Opening) -> None:
        """Have it. Does nothing where it is there. Raises Full where the party may not have more."""
        ...

    async def remove(self, name: str) -> None:
        """Have it no more. Does nothing where it is not there."""
        ...

    async def names(self) -> tuple[str, ...]:
        """Give the names of those that this agent made, also in an earlier life in the same pod."""
        ...

    async def receivers(self) -> frozenset[str]:
        """Give the parties that any agent of the party may connect to now."""
        ...

    async def denies(self) -> bool:
        """Tell whether the party's namespace denies all that nothing opens."""
        ...

    async def close(self) -> None: ...


def opening_of(part: Part) -> Opening | None:
    """Give what a part needs, under a name of its own each time; None where it exchanges rows with nobody."""
    senders = dict.fromkeys(edge.source_party for edge in part.incoming)
    receivers = dict.fromkeys(edge.target_party for edge in part.outgoing if edge.target_party != REQUESTOR)
    if not senders and not receivers:
        return None
    digest = hashlib.sha256(part.job.encode()).hexdigest()[:12]
    return Opening(f"way-{digest}-{secrets.token_hex(3)}", part.job, tuple(senders), tuple(receivers))


def manifest(opening: Opening, home: Home) -> dict[str, Any]:
    """Give the opening as a NetworkPolicy. It goes with the pod that it is for. Raises NotFound for a party that has no
    namespace."""
    spec: dict[str, Any] = {"podSelector": {"matchLabels": _agent(home.party)}, "policyTypes": []}
    for kind, words, parties in (("Ingress", "from", opening.senders), ("Egress", "to", opening.receivers)):
        if parties:
            spec["policyTypes"].append(kind)
            peers = [_peer(party, home) for party in parties]
            spec[kind.lower()] = [{words: peers, "ports": [{"protocol": "TCP", "port": EXCHANGE_PORT}]}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": opening.name,
            "namespace": home.namespace,
            "labels": labels(home),
            "annotations": {"dynamos.dev/job": opening.job},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": home.pod, "uid": home.uid}],
        },
        "spec": spec,
    }


def labels(home: Home) -> dict[str, str]:
    """Give the labels of the openings of a party."""
    return {
        "app.kubernetes.io/part-of": "dynamos",
        "app.kubernetes.io/managed-by": BY,
        "dynamos.dev/testbed": home.testbed,
        "dynamos.dev/party": home.party,
        LABEL: "way",
    }


def receivers_of(spec: Mapping[str, Any]) -> frozenset[str]:
    """Give the parties that the NetworkPolicy of an opening lets connections out to."""
    return _parties(peer for rule in spec.get("egress") or () for peer in rule.get("to") or ())


def senders_of(spec: Mapping[str, Any]) -> frozenset[str]:
    """Give the parties that the NetworkPolicy of an opening lets connections in from."""
    return _parties(peer for rule in spec.get("ingress") or () for peer in rule.get("from") or ())


def _parties(peers: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    return frozenset(peer["podSelector"]["matchLabels"]["dynamos.dev/party"] for peer in peers)


def denies_all(spec: Mapping[str, Any]) -> bool:
    """Tell whether a NetworkPolicy holds for every pod of its namespace, both ways, and lets nothing through."""
    chosen, kinds = spec.get("podSelector") or {}, set(spec.get("policyTypes") or ())
    ways = spec.get("ingress") or spec.get("egress")
    return not chosen.get("matchLabels") and not chosen.get("matchExpressions") and len(kinds) > 1 and not ways


def _agent(party: str) -> dict[str, str]:
    return {"dynamos.dev/role": "agent", "dynamos.dev/party": party}


def _peer(party: str, home: Home) -> dict[str, Any]:
    namespace = home.namespaces.get(party)
    if namespace is None:
        raise NotFound(f"no namespace is known of party {party!r}", where=home.party, code="no-network")
    # The cluster itself sets this label, so that no other namespace can have it.
    return {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "podSelector": {"matchLabels": _agent(party)},
    }
