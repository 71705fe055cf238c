"""What rules a node has for which pods, namespaces and policies."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Any

import pytest

from cluster.policies.rulesets import ruleset
from cluster.policies.things import matches, pod_of
from support.clusters import policy

SPACES = {"one": {"team": "red"}, "two": {"team": "blue"}}


def pod(namespace: str, name: str, address: str, node: str = "here", **labels: str) -> Any:
    return pod_of(
        {
            "metadata": {"namespace": namespace, "name": name, "labels": labels},
            "spec": {
                "nodeName": node,
                "containers": [{"ports": [{"name": "web", "containerPort": int(address.rpartition(".")[2]) + 8000}]}],
            },
            "status": {"podIP": address, "phase": "Running"},
        }
    )


PODS = [
    pod("one", "a", "10.0.0.1", app="a"),
    pod("one", "b", "10.0.0.2", app="b"),
    pod("two", "c", "10.0.0.3", app="c"),
    pod("one", "far", "10.0.1.1", node="there", app="far"),
]


def rules(*policies: dict[str, Any], namespace: str = "one") -> str:
    placed = [{**each, "metadata": {**each["metadata"], "namespace": namespace}} for each in policies]
    return ruleset("here", PODS, SPACES, placed)


def allowed(text: str) -> list[str]:
    """The rules that let something through, but for those that every table has."""
    return [line.strip() for line in text.splitlines() if line.strip().endswith("accept") and "ct " not in line
            and "policy" not in line]  # fmt: skip


def guarded(text: str, chain: str) -> set[str]:
    """The addresses that a hook looks at."""
    body = text.partition(f"  chain {chain} {{")[2].partition("\n  }")[0]
    return set(re.findall(r"(\d+\.\d+\.\d+\.\d+) : jump", body))


def test_without_policies_nobody_is_guarded() -> None:
    text = rules()
    assert "vmap" not in text
    assert "jump" not in text


def test_an_empty_ingress_policy_guards_every_pod_of_its_namespace_on_this_node() -> None:
    text = rules(policy("deny", {}))
    assert guarded(text, "received") == {"10.0.0.1", "10.0.0.2"}
    assert guarded(text, "sent") == set()
    assert allowed(text) == []


@pytest.mark.parametrize(
    ("spec", "received", "sent"),
    [
        ({"policyTypes": ["Egress"]}, False, True),
        ({"policyTypes": ["Ingress", "Egress"]}, True, True),
        ({"egress": [{}]}, True, True),
        ({}, True, False),
    ],
)
def test_the_directions_of_a_policy(spec: dict[str, Any], received: bool, sent: bool) -> None:
    text = rules(policy("p", {"app": "a"}, **spec))
    assert (guarded(text, "received") == {"10.0.0.1"}) is received
    assert (guarded(text, "sent") == {"10.0.0.1"}) is sent
    assert guarded(text, "sent_to_node") == guarded(text, "sent")


@pytest.mark.parametrize(
    ("peers", "expected"),
    [
        ([{"podSelector": {"matchLabels": {"app": "b"}}}], ["ip saddr { 10.0.0.2 } accept"]),
        ([{"podSelector": {}}], ["ip saddr { 10.0.0.1, 10.0.0.2, 10.0.1.1 } accept"]),
        ([{"namespaceSelector": {"matchLabels": {"team": "blue"}}}], ["ip saddr { 10.0.0.3 } accept"]),
        ([{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "c"}}}], ["ip saddr { 10.0.0.3 } accept"]),
        ([{"podSelector": {"matchLabels": {"app": "c"}}}], []),
        ([{"namespaceSelector": {"matchLabels": {"team": "none"}}}], []),
        (
            [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "10.2.0.0/16"]}}],
            ["ip saddr 10.0.0.0/8 ip saddr != 10.1.0.0/16 ip saddr != 10.2.0.0/16 accept"],
        ),
        ([], ["accept"]),
    ],
)
def test_peers(peers: list[Any], expected: list[str]) -> None:
    assert allowed(rules(policy("p", {"app": "a"}, ingress=[{"from": peers}]))) == expected


@pytest.mark.parametrize(
    ("port", "expected"),
    [
        ({"port": 80}, ["tcp dport 80 accept"]),
        ({"port": 53, "protocol": "UDP"}, ["udp dport 53 accept"]),
        ({"port": 80, "endPort": 90}, ["tcp dport 80-90 accept"]),
        ({"protocol": "UDP"}, ["meta l4proto udp accept"]),
        ({"port": "web"}, ["tcp dport 8001 accept"]),
        ({"port": "web", "protocol": "UDP"}, []),
        ({"port": "other"}, []),
    ],
)
def test_ports_of_what_is_received(port: dict[str, Any], expected: list[str]) -> None:
    assert allowed(rules(policy("p", {"app": "a"}, ingress=[{"ports": [port]}]))) == expected


def test_a_named_port_is_each_peers_own_for_what_is_sent() -> None:
    rule = {"to": [{"podSelector": {}}], "ports": [{"port": "web"}]}
    found = allowed(rules(policy("p", {"app": "a"}, egress=[rule], policyTypes=["Egress"])))
    assert found == [f"ip daddr {a} tcp dport {p} accept" for a, p in
                     (("10.0.0.1", 8001), ("10.0.0.2", 8002), ("10.0.1.1", 8001))]  # fmt: skip


def test_a_rule_whose_named_port_nobody_has_opens_no_other() -> None:
    rule = {"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": "web"}]}
    assert allowed(rules(policy("p", {"app": "a"}, egress=[rule], policyTypes=["Egress"]))) == []


def test_policies_add_up_and_each_rule_is_written_once() -> None:
    one = policy("x", {"app": "a"}, ingress=[{"ports": [{"port": 80}]}])
    two = policy("y", {}, ingress=[{"ports": [{"port": 80}, {"port": 81}]}])
    text = rules(one, two)
    chain = text.partition("ingress_")[2].partition("}")[0]
    assert [line.strip() for line in chain.splitlines() if "accept" in line] == [
        "tcp dport 80 accept",
        "tcp dport 81 accept",
    ]


def test_policies_of_another_namespace_guard_nobody_here() -> None:
    assert guarded(rules(policy("deny", {}), namespace="two"), "received") == {"10.0.0.3"}


@pytest.mark.parametrize(
    ("members", "known"),
    [
        ({}, True),
        ({"spec": {"hostNetwork": True}}, False),
        ({"status": {"podIP": "10.0.0.1", "phase": "Succeeded"}}, False),
        ({"status": {"podIP": "10.0.0.1", "phase": "Failed"}}, False),
        ({"status": {"phase": "Pending"}}, False),
    ],
)
def test_which_pods_have_an_address_of_their_own(members: dict[str, Any], known: bool) -> None:
    told = {
        "metadata": {"namespace": "one", "name": "a"},
        "spec": {},
        "status": {"podIP": "10.0.0.1", "phase": "Running"},
        **members,
    }
    assert bool(pod_of(told)) is known


def test_what_a_node_knows_of_an_address_counts_more_than_what_the_api_says() -> None:
    told = {"metadata": {"namespace": "one", "name": "a"}, "status": {"podIP": "10.0.0.1"}}
    found = pod_of(told, "10.0.0.9")
    assert found is not None
    assert found.address == "10.0.0.9"


@pytest.mark.parametrize(
    ("expression", "chosen"),
    [
        ({"key": "app", "operator": "In", "values": ["a", "b"]}, True),
        ({"key": "app", "operator": "In", "values": ["b"]}, False),
        ({"key": "app", "operator": "NotIn", "values": ["b"]}, True),
        ({"key": "none", "operator": "NotIn", "values": ["b"]}, True),
        ({"key": "app", "operator": "Exists"}, True),
        ({"key": "app", "operator": "DoesNotExist"}, False),
        ({"key": "app", "operator": "Odd"}, False),
    ],
)
def test_expressions_of_selectors(expression: dict[str, Any], chosen: bool) -> None:
    assert matches({"matchExpressions": [expression]}, {"app": "a"}) is chosen


def test_equal_things_in_another_order_give_equal_rules() -> None:
    deny = {**policy("deny", {}), "metadata": {"name": "deny", "namespace": "one"}}
    assert ruleset("here", PODS, SPACES, [deny]) == ruleset("here", PODS[::-1], dict(reversed(SPACES.items())), [deny])


def test_the_kernel_s_own_program_reads_it() -> None:
    nft, unshare = shutil.which("nft", path="/usr/sbin:/usr/bin"), shutil.which("unshare")
    if not nft or not unshare:
        pytest.skip("not installed: nftables")
    block = {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}
    ports = [{"port": "web"}, {"port": 80, "endPort": 90}, {"protocol": "UDP"}]
    rule = {"ports": ports, "to": [block, {"podSelector": {}}], "from": [block, {"podSelector": {}}]}
    both = policy("p", {}, policyTypes=["Ingress", "Egress"], ingress=[rule, {}], egress=[rule, {}])
    argv = [unshare, "--user", "--map-root-user", "--net", nft, "-f", "-"]
    done = subprocess.run(argv, input=rules(both) * 2, capture_output=True, text=True, check=False)
    if "unshare" in done.stderr:
        pytest.skip("no user namespaces here")
    assert done.returncode == 0, done.stderr
