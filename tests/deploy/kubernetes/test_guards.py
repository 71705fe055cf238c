"""What Cilium's and Calico's own policies add to NetworkPolicies: denials that nothing lifts, in their words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dynamos.deploy import profiles
from dynamos.deploy.kubernetes.checks import check, questions
from dynamos.deploy.kubernetes.facts import Facts, Node, Right
from dynamos.deploy.kubernetes.guards import KINDS, guards
from dynamos.deploy.kubernetes.manifests import objects
from dynamos.jobs.pods.hails import HAIL_PORT
from dynamos.kit.errors import Mistakes
from support import plans

CILIUM = plans.plan(cluster={"policies": "cilium"})
CALICO = plans.plan(cluster={"policies": "calico"})


def named(plan, party=""):
    return {each["metadata"]["name"]: each["spec"] for each in guards(plan, party)}


def test_a_cluster_that_knows_networkpolicies_only_gets_nothing_else():
    assert guards(plans.plan()) == []
    assert guards(plans.plan(), "south") == []


@pytest.mark.parametrize("plan", [CILIUM, CALICO], ids=["cilium", "calico"])
def test_every_namespace_is_guarded_and_a_pod_of_a_job_twice(plan):
    public = [each for each in objects(plan).public if each["apiVersion"] in ("cilium.io/v2", "projectcalico.org/v3")]
    where = {(each["metadata"]["namespace"], each["metadata"]["name"]) for each in public}
    assert {(namespace, "guard") for namespace in (plans.CONTROL, plans.NORTH, plans.SOUTH)} <= where
    assert {(namespace, "guard-jobs") for namespace in (plans.NORTH, plans.SOUTH)} <= where
    assert all(each["metadata"]["labels"]["dynamos.dev/testbed"] == plans.CONTROL for each in public)


def test_cilium_denies_metadata_and_kubelets_to_all_and_everything_but_hails_to_jobs():
    spec = named(CILIUM, "south")
    metadata, kubelets = spec["guard"]["egressDeny"]
    assert metadata == {"toCIDR": ["169.254.169.254/32", "fd00:ec2::254/128"]}
    assert kubelets["toEntities"] == ["host", "remote-node"]
    assert kubelets["toPorts"] == [{"ports": [{"port": "10250", "protocol": "TCP"}]}]
    assert spec["guard"]["endpointSelector"] == {}
    assert spec["guard-jobs"]["endpointSelector"] == {"matchLabels": {"dynamos.dev/role": "job"}}
    outside, inside = spec["guard-jobs"]["egressDeny"]
    assert outside == {"toEntities": ["world", "host", "remote-node", "kube-apiserver"]}
    assert inside["toEntities"] == ["all"]
    shut = {
        (port["protocol"], number)
        for port in inside["toPorts"][0]["ports"]
        for number in range(int(port["port"]), port["endPort"] + 1)
    }
    everything = {(protocol, number) for protocol in ("TCP", "UDP", "SCTP") for number in range(1, 65536)}
    assert everything - shut == {("UDP", HAIL_PORT)}


def test_cilium_lets_agents_alone_reach_the_api_server_which_is_no_address_there():
    spec = named(CILIUM, "south")["api-server"]
    assert spec["endpointSelector"] == {"matchLabels": {"dynamos.dev/role": "agent"}}
    [rule] = spec["egress"]
    assert rule["toEntities"] == ["kube-apiserver"]
    assert [port["port"] for port in rule["toPorts"][0]["ports"]] == ["443", "6443"]
    assert "api-server" not in named(CILIUM)


def test_calico_looks_at_its_guards_before_what_an_agent_may_open():
    for spec in named(CALICO, "south").values():
        assert spec["order"] < 1000  # where NetworkPolicies are
        assert spec["types"] == ["Egress"]
        assert {rule["action"] for rule in spec["egress"]} == {"Deny"}
    jobs = named(CALICO, "south")["guard-jobs"]
    assert jobs["selector"] == "dynamos.dev/role == 'job'"
    others, *hails = jobs["egress"]
    assert others["notProtocol"] == "UDP"
    assert {each["protocol"] for each in hails} == {"UDP"}
    wrong_port, nobodys_agent = (each["destination"] for each in hails)
    assert wrong_port == {"notPorts": [HAIL_PORT]}
    assert nobodys_agent == {"notSelector": "dynamos.dev/role == 'agent'"}
    nets = [rule.get("destination", {}).get("nets") for rule in named(CALICO)["guard"]["egress"]]
    assert nets == [["169.254.169.254/32"], ["fd00:ec2::254/128"], None]


@pytest.mark.parametrize("plan", [CILIUM, CALICO], ids=["cilium", "calico"])
def test_whoever_deploys_needs_the_right_to_make_them(plan):
    kind = KINDS[plan.profile.cluster.policies]
    asked = questions(plan.profile, plan.marketplace).rights
    assert {Right("create", *kind, where) for where in (plans.CONTROL, plans.NORTH, plans.SOUTH)} <= set(asked)
    plain = plans.plan()
    assert not {right for right in questions(plain.profile, plain.marketplace).rights if right[1:3] == kind}


@pytest.mark.parametrize(
    ("policies", "words"), [("calico", "wireguardEnabled"), ("cilium", "encryption.type=wireguard")]
)
def test_a_profile_that_wants_encryption_is_not_put_on_nodes_that_do_not_encrypt(policies, words):
    told = plans.profile(cluster={"policies": policies}, overlay={"driver": "wireguard"})
    facts = Facts((1, 36), (Node("n1", "", ready=True, encrypts=True), Node("n2", "", ready=True)))
    [mistake] = [each for each in check(told, plans.MARKET, plans.Images(), facts) if each.where == "$.overlay.driver"]
    assert mistake.message == "what pods send leaves these nodes in the clear: n2"
    assert words in mistake.hint
    both = Facts((1, 36), tuple(replace(node, encrypts=True) for node in facts.nodes))
    assert "$.overlay.driver" not in {each.where for each in check(told, plans.MARKET, plans.Images(), both)}


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ("overlay: {driver: vxlan}", "there is no overlay 'vxlan' on a cluster"),
        ("overlay: {driver: mtls}", "agents use mutual TLS, whatever carries it"),
        ("overlay: {driver: wireguard}", "nothing tells whether this cluster's nodes encrypt"),
        ("overlay: {scope: request}", "a cluster has one network, and not one for each request"),
    ],
)
def test_a_profile_cannot_ask_a_cluster_for_a_network_that_it_does_not_have(tmp_path, members, words):
    path = tmp_path / "p.yaml"
    path.write_text(f"name: p\ndriver: kubernetes\nmarketplace: aviation\n{members}\n")
    with pytest.raises(Mistakes) as caught:
        profiles.validate(path)
    assert words in str(caught.value)


def test_a_profile_may_have_a_cluster_that_encrypts(tmp_path):
    path = tmp_path / "p.yaml"
    members = "cluster: {policies: cilium}\noverlay: {driver: wireguard}\n"
    path.write_text(f"name: p\ndriver: kubernetes\nmarketplace: aviation\n{members}")
    assert profiles.validate(path).profile.overlay.driver == "wireguard"
