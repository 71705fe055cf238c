"""Which ways are open on a cluster: the policies are read as a cluster reads them, and every pair is tried."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from dynamos.deploy.kubernetes.manifests import objects
from support.plans import CONTROL, NORTH, SOUTH, plan

SITES = {"east": {"parties": ["North_One"]}, "west": {"parties": ["south"]}}


@dataclass(frozen=True)
class End:
    """A pod, or an address outside."""

    namespace: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    address: str = ""


def pod(namespace: str, role: str) -> End:
    return End(namespace, {"dynamos.dev/role": role})


BUS, API, ORCHESTRATOR = (pod(CONTROL, role) for role in ("bus", "api", "orchestrator"))
AGENT, JOB, OTHER, FOREIGN = pod(NORTH, "agent"), pod(NORTH, "job"), pod(SOUTH, "agent"), pod("elsewhere", "agent")
SERVER, METADATA = End(address="192.0.2.7"), End(address="169.254.169.254")
NAMES = End("kube-system", {"k8s-app": "kube-dns"})
OPEN = {
    ("agent", "bus", 4222), ("agent", "api", 8815), ("agent", "job", 7070), ("agent", "names", 53),
    ("agent", "server", 6443),
    ("other", "bus", 4222), ("other", "api", 8815), ("other", "names", 53), ("other", "server", 6443),
    ("orchestrator", "bus", 4222), ("orchestrator", "names", 53), ("api", "bus", 4222), ("api", "names", 53),
    ("bus", "bus", 6222), ("bus", "names", 53),
}  # fmt: skip
ENDS = {"bus": BUS, "api": API, "orchestrator": ORCHESTRATOR, "agent": AGENT, "job": JOB, "other": OTHER,
        "foreign": FOREIGN, "server": SERVER, "metadata": METADATA, "names": NAMES}  # fmt: skip
PORTS = (53, 80, 443, 4222, 6222, 6443, 7422, 7070, 8080, 8099, 8222, 8815)


def matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    for each in selector.get("matchExpressions", ()):
        there = each["key"] in labels
        if not (there if each["operator"] == "Exists" else labels.get(each["key"]) in each["values"]):
            return False
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


def is_peer(peer: dict[str, Any], home: str, end: End) -> bool:
    if "ipBlock" in peer:
        return peer["ipBlock"]["cidr"] == f"{end.address}/32"
    spaces = peer.get("namespaceSelector")
    there = end.namespace == home if spaces is None else matches(spaces, {"kubernetes.io/metadata.name": end.namespace})
    return not end.address and there and matches(peer.get("podSelector", {}), end.labels)


def may(policies: list[dict[str, Any]], way: str, own: End, other: End, port: int) -> bool:
    """Tell whether one end lets it through: who no policy is about lets everything through."""
    about = [each for each in policies
             if each["metadata"]["namespace"] == own.namespace and way.capitalize() in each["spec"]["policyTypes"]
             and matches(each["spec"]["podSelector"], own.labels)]  # fmt: skip
    side = {"ingress": "from", "egress": "to"}[way]
    rules = [rule for policy in about for rule in policy["spec"].get(way, ())]
    rules = [rule for rule in rules if port in [each["port"] for each in rule["ports"]]]
    return not about or any(is_peer(peer, own.namespace, other) for rule in rules for peer in rule[side])


def ways(**members: Any) -> set[tuple[str, str, int]]:
    policies = [each for each in objects(plan(**members)).public if each["kind"] == "NetworkPolicy"]
    return {
        (one, other, port) for one, here in ENDS.items() for other, there in ENDS.items() for port in PORTS
        if not here.address and here not in (NAMES, FOREIGN) and may(policies, "egress", here, there, port)
        and (there.address or may(policies, "ingress", there, here, port))
    }  # fmt: skip


def test_exactly_the_ways_that_are_needed_are_open():
    assert ways() == OPEN


def test_a_job_reaches_nothing_and_parties_do_not_reach_each_other():
    found = ways(cluster={"leaves": True}, sites=SITES)
    assert not [way for way in found if way[0] == "job"]
    assert not [way for way in found if {"agent", "other"} == set(way[:2])]


def test_a_pod_of_a_foreign_namespace_that_calls_itself_an_agent_is_let_in_nowhere():
    policies = [each for each in objects(plan()).public if each["kind"] == "NetworkPolicy"]
    inside = [end for end in ENDS.values() if end.namespace in (CONTROL, NORTH, SOUTH)]
    assert not [(end, port) for end in inside for port in PORTS if may(policies, "ingress", end, FOREIGN, port)]


@pytest.mark.parametrize("namespace", [CONTROL, NORTH, SOUTH])
def test_every_namespace_is_shut_first(namespace):
    shut = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    policies = [each for each in objects(plan()).public if each["kind"] == "NetworkPolicy"]
    assert shut in [each["spec"] for each in policies if each["metadata"]["namespace"] == namespace]


def test_with_an_ingress_its_controller_alone_reaches_the_api():
    ingress = {"host": "api.example.org", "tls": "api-tls", "namespace": "edge"}
    policies = [each for each in objects(plan(cluster={"ingress": ingress})).public if each["kind"] == "NetworkPolicy"]
    assert may(policies, "ingress", API, pod("edge", "x"), 8080)
    assert not may(policies, "ingress", API, pod("elsewhere", "x"), 8080)
