"""Network policies are enforced on a cluster of the tests' own, whichever nodes the pods are on."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.clusters import Cluster
from support.clusters import GROUP, Pods, eventually, nodes_of, policy, serving, shell_pod

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group(GROUP)]
INGRESS: dict[str, Any] = {"policyTypes": ["Ingress"]}
EGRESS: dict[str, Any] = {"policyTypes": ["Egress"]}


@pytest.fixture
def pods(cluster: Cluster, namespace: str) -> Pods:
    return Pods(cluster, namespace)


@pytest.fixture
def addresses(cluster: Cluster, pods: Pods) -> dict[str, str]:
    """A server with two ports on the last node, and clients on the first and on the last."""
    first, *_, last = nodes_of(cluster)
    server = shell_pod(
        "server",
        f"({serving(8080)}) & {serving(9090)}",
        node=last,
        ports=[{"name": "web", "containerPort": 8080}],
        probe={"exec": {"command": ["/bin/busybox", "true"]}},
    )
    return pods.run(server, shell_pod("far", node=first), shell_pod("near", node=last))


def test_denied_is_denied_in_both_directions_and_removal_permits_again(pods: Pods, addresses: dict[str, str]) -> None:
    server = addresses["server"]
    assert pods.reaches("far", server, 8080)
    assert pods.reaches("near", server, 8080)
    for way in (INGRESS, EGRESS):
        pods.apply(policy("deny", {}, **way))
        eventually("far is refused", lambda: not pods.reaches("far", server, 8080))
        assert not pods.reaches("near", server, 8080)
        pods.kubectl("delete", "networkpolicy", "deny")
        eventually("far is let through", lambda: pods.reaches("far", server, 8080))


def test_only_the_named_port_and_the_named_peer_are_open(pods: Pods, addresses: dict[str, str]) -> None:
    peers = [{"podSelector": {"matchLabels": {"app": "far"}}}]
    pods.apply(policy("some", {"app": "server"}, **INGRESS, ingress=[{"from": peers, "ports": [{"port": "web"}]}]))
    eventually("near is refused", lambda: not pods.reaches("near", addresses["server"], 8080))
    assert pods.reaches("far", addresses["server"], 8080)
    assert not pods.reaches("far", addresses["server"], 9090)


def test_egress_to_blocks_but_for_exceptions_and_ranges_of_ports(pods: Pods, addresses: dict[str, str]) -> None:
    server = addresses["server"]

    def block(**members: Any) -> dict[str, Any]:
        ports = [{"port": 9000, "endPort": 9100}]
        return policy("out", {"app": "far"}, **EGRESS, egress=[{"to": [{"ipBlock": members}], "ports": ports}])

    pods.apply(block(cidr="10.0.0.0/8"))
    eventually("another port is refused", lambda: not pods.reaches("far", server, 8080))
    assert pods.reaches("far", server, 9090)
    pods.apply(block(cidr="10.0.0.0/8", **{"except": [f"{server}/32"]}))
    eventually("the exception is refused", lambda: not pods.reaches("far", server, 9090))


def test_a_namespace_is_a_peer_by_its_labels(cluster: Cluster, pods: Pods, addresses: dict[str, str]) -> None:
    other = Pods(cluster, f"{pods.namespace}-other")
    cluster.kubectl("create", "namespace", other.namespace)
    try:
        other.run(shell_pod("stranger"))
        spaces = {"matchLabels": {"kubernetes.io/metadata.name": other.namespace}}
        rule = {"from": [{"namespaceSelector": spaces}]}
        pods.apply(policy("others", {"app": "server"}, **INGRESS, ingress=[rule]))
        eventually("near is refused", lambda: not pods.reaches("near", addresses["server"], 8080))
        assert other.reaches("stranger", addresses["server"], 8080)
    finally:
        cluster.kubectl("delete", "namespace", other.namespace, "--wait=false")


def test_a_pod_has_no_packet_before_its_rules(pods: Pods, addresses: dict[str, str]) -> None:
    pods.apply(policy("deny", {"app": "eager"}, **EGRESS))
    knock = f"busybox nc -w 1 {addresses['server']} 8080 </dev/null && echo LEAK; echo done; sleep 3600"
    eager = [shell_pod(f"eager-{n}", knock, labels={"app": "eager"}) for n in range(4)]
    pods.run(*eager)
    for pod in eager:
        name = pod["metadata"]["name"]
        eventually("it has tried", lambda name=name: "done" in pods.kubectl("logs", name))
        assert "LEAK" not in pods.kubectl("logs", name)


def test_probes_go_on_where_everything_is_denied(pods: Pods) -> None:
    pods.apply(policy("deny", {}, policyTypes=["Ingress", "Egress"]))
    probe = {"tcpSocket": {"port": 8080}, "periodSeconds": 1, "failureThreshold": 1}
    pods.run(shell_pod("probed", serving(8080), probe=probe))


def test_a_connection_ends_with_the_policy_that_let_it_be(pods: Pods, addresses: dict[str, str]) -> None:
    keep = "while :; do busybox nc -l -p 7070; done"
    target = pods.run(shell_pod("keeper", keep))["keeper"]
    pods.apply(policy("deny", {"app": "keeper"}, **INGRESS))
    allowed = policy("allow", {"app": "keeper"}, **INGRESS, ingress=[{"from": [{"podSelector": {}}]}])
    pods.apply(allowed)
    speak = (
        f"(while :; do echo beat || exit; busybox sleep 0.1; done) | busybox nc {target} 7070; echo ended; sleep 3600"
    )
    pods.run(shell_pod("speaker", speak))
    eventually("beats arrive", lambda: "beat" in pods.kubectl("logs", "keeper"))
    pods.kubectl("delete", "networkpolicy", "allow")
    eventually("the connection ends", lambda: "ended" in pods.kubectl("logs", "speaker"))
