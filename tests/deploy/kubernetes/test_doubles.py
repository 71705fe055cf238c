"""Pods that stand for others: policies take them for these, and nobody else does."""

from __future__ import annotations

import json

import pytest

from dynamos.deploy.kubernetes import doubles
from dynamos.deploy.kubernetes.guards import guards
from dynamos.deploy.kubernetes.manifests import objects
from dynamos.deploy.kubernetes.standings import look
from dynamos.jobs.pods.settings import AGENT
from dynamos.kit.errors import NotFound, Unavailable
from support.paper_clusters import PaperCluster, _selected, selectors
from support.plans import CONTROL, NORTH, SOUTH, Images, plan

SITES = {"east": {"parties": ["North_One"]}, "west": {"parties": ["south"]}}
LARGE = {"cluster": {"busReplicas": 3, "agents": 2, "orchestrators": 2, "leaves": True}, "sites": SITES}


def made(**members):
    """Give what stands on a cluster, and the pods of doubles by namespace and role."""
    standing = look(PaperCluster(plan(**members)), CONTROL)
    found = doubles.doubles(standing, "outside")
    pods = doubles.manifests(CONTROL, found, "abc", doubles.image_of(standing))
    return standing, {(pod["metadata"]["namespace"], role(pod)): pod for pod in pods}


def role(pod):
    return pod["metadata"]["labels"].get("dynamos.dev/role", "")


@pytest.mark.parametrize(("members", "more"), [({}, set()), (LARGE, {(CONTROL, "leaf")})])
def test_everybody_has_one_and_there_is_an_outsider(members, more):
    _, pods = made(**members)
    parties = {(namespace, kind) for namespace in (NORTH, SOUTH) for kind in ("agent", "job")}
    control = {(CONTROL, kind) for kind in ("orchestrator", "api", "bus")}
    assert set(pods) == parties | control | {("outside", "")} | more


@pytest.mark.parametrize("members", [{}, LARGE])
def test_nothing_that_chooses_pods_chooses_one_and_no_agent_takes_one_for_its_own(members):
    _, pods = made(**members)
    chosen = list(selectors(objects(plan(**members)).public))
    assert {kind for kind, _, _ in chosen} >= {"Service", "Deployment", "StatefulSet"}
    for (namespace, _), pod in pods.items():
        labels = pod["metadata"]["labels"]
        assert not [kind for kind, where, told in chosen if where == namespace and _selected(told, labels)]
        assert AGENT not in labels
        assert pod["spec"]["readinessGates"] == [{"conditionType": doubles.GATE}]


@pytest.mark.parametrize("members", [{}, LARGE, {"cluster": {"policies": "cilium"}}])
def test_policies_choose_those_of_whom_they_choose_and_none_chooses_an_outsider(members):
    _, pods = made(**members)
    told = plan(**members)
    policies = [each for each in objects(told).public if each["kind"] in ("NetworkPolicy", "CiliumNetworkPolicy")]
    real = PaperCluster(told).of_kind("Pod")
    for (namespace, kind), pod in pods.items():
        own = [each for each in policies if each["metadata"]["namespace"] == namespace]
        like = [each for each in real if each["metadata"]["namespace"] == namespace and role(each) == kind]
        for each in own:
            selector = each["spec"].get("podSelector", each["spec"].get("endpointSelector"))
            expected = {_selected(selector, other["metadata"]["labels"]) for other in like}
            assert {_selected(selector, pod["metadata"]["labels"])} == expected
        assert bool(own) == (kind != "")
    assert (guards(told) != []) == ("policies" in members.get("cluster", {}))


def test_they_keep_to_the_standard_restricted_have_no_account_and_end_by_themselves():
    _, pods = made()
    for pod in pods.values():
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert 0 < spec["activeDeadlineSeconds"] <= doubles.BACKSTOP_SECONDS
        [only] = spec["containers"]
        assert only["image"] == Images().dynamos
        assert only["securityContext"]["allowPrivilegeEscalation"] is False
        assert only["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert set(only["resources"]["requests"]) == {"cpu", "memory"}
        assert "/bin/sh" not in json.dumps(only["command"][:1])
    space = doubles.outside(CONTROL, "abc")["metadata"]["labels"]
    assert space["pod-security.kubernetes.io/enforce"] == "restricted"


def test_they_run_where_those_run_that_they_stand_for_and_best_beside_them():
    _, pods = made(**LARGE)
    assert pods[SOUTH, "job"]["spec"]["nodeSelector"] == {"dynamos.dev/site": "west"}
    assert pods[NORTH, "agent"]["spec"]["nodeSelector"] == {"dynamos.dev/site": "east"}
    assert "nodeSelector" not in pods["outside", ""]["spec"]
    for pod in pods.values():
        told = pod["spec"]["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
        assert told[0]["preference"]["matchFields"][0]["values"] == ["n1"]


def test_who_is_not_ready_is_named_and_so_is_a_testbed_that_is_not_there():
    cluster = PaperCluster(plan())
    cluster.remove("Pod", SOUTH, "agent-0")
    with pytest.raises(Unavailable, match="the agent of south is not ready") as caught:
        doubles.doubles(look(cluster, CONTROL), "outside")
    assert caught.value.where == SOUTH
    with pytest.raises(NotFound, match="nothing of 'other'"):
        look(cluster, "other")


def test_a_standing_tells_where_the_clusters_own_servers_are():
    standing, _ = made()
    assert standing.parties == {"North_One": NORTH, "south": SOUTH}
    assert standing.api_servers == (("10.96.0.1", 443), ("192.0.2.7", 6443))
    assert standing.name_servers == ("10.96.0.10",)
    assert standing.nodes == {"n1": "192.0.2.11", "n2": "192.0.2.12"}
