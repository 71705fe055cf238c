"""What is in the way on a cluster is told at once, each with what to do, before anything is made."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dynamos.deploy import profiles
from dynamos.deploy.kubernetes.checks import check, questions
from dynamos.deploy.kubernetes.clusters import Lightkube
from dynamos.deploy.kubernetes.examining import examined
from dynamos.deploy.kubernetes.facts import Facts, Node, Right
from dynamos.kit.errors import BadInput, Mistakes, NotFound, Unavailable
from dynamos.model.clusters import Cluster
from support.plans import CONTROL, MARKET, NORTH, SOUTH, Images, profile

SITES = {"east": {"parties": ["North_One"]}, "west": {"parties": ["south"]}}
HELD = frozenset({Images.dynamos, Images.courier, Images.bus})
OURS = {"app.kubernetes.io/part-of": "dynamos", "dynamos.dev/testbed": "p"}
RIGHT = Facts(
    version=(1, 36),
    nodes=(Node("n1", "east", ready=True, images=HELD), Node("n2", "west", ready=True, images=HELD)),
    classes={"fast": False, "standard": True},
    namespaces={CONTROL: OURS},
)


def told(facts: Facts, **members: Any) -> list[str]:
    return [str(each) for each in check(profile(**members), MARKET, Images(), facts)]


def test_nothing_is_in_the_way_of_what_is_right():
    assert told(RIGHT, sites=SITES) == []
    assert told(replace(RIGHT, namespaces={}), cluster={"storageClass": "fast"}) == []


@pytest.mark.parametrize(
    ("changes", "members", "words"),
    [
        ({"version": (1, 29)}, {}, "its version is 1.29, and 1.30 is needed"),
        ({"classes": {"fast": False}}, {}, "the cluster has no default storage class (name one in"),
        ({}, {"cluster": {"storageClass": "fats"}}, "no storage class 'fats' (did you mean 'fast'?)"),
        ({"namespaces": {SOUTH: {}}}, {}, "there is a namespace 'p-south' that is somebody else's"),
        ({"namespaces": {SOUTH: {**OURS, "dynamos.dev/testbed": "q"}}}, {}, "somebody else's"),
        ({"priorities": {"p-control": {}}}, {}, "there is a priority class 'p-control' that is somebody else's"),
        ({}, {"sites": {"moon": {"parties": ["North_One", "south"]}}}, "$.sites.moon: no node of the cluster is ready"),
        ({"nodes": (Node("n1", "east", ready=False),)}, {}, "no node of the cluster is ready"),
        ({}, {"cluster": {"claims": {"south": "mine"}}}, "there is no claim 'mine' in the namespace 'p-south'"),
        ({}, {"cluster": {"quota": {"pods": 2}}}, "2 pods are too few: a party needs 3"),
        ({}, {"cluster": {"quota": {"memory": "1GiB"}}}, "$.cluster.quota.memory: 1GiB are too little"),
        ({"nodes": (Node("n9", "", ready=True),)}, {}, "is not on n9 (import it there, or name a registry"),
    ],
)  # fmt: skip
def test_each_obstacle_is_told_with_what_to_do(changes, members, words):
    found = told(replace(RIGHT, **changes), **members)
    assert [each for each in found if words in each], found
    assert all(each.endswith(")") for each in found)


def test_everything_is_told_at_once():
    facts = Facts(version=(1, 20), namespaces={CONTROL: {}}, refused=(Right("create", "", "namespaces"),))
    found = told(facts, sites=SITES)
    assert len(found) == 7
    with pytest.raises(Mistakes) as caught:
        examined(profile_of_files(), None, cluster=_Fixed(facts), images=Images())
    assert len(caught.value.mistakes) > 4


def test_rights_that_lack_are_told_by_kind_and_not_by_namespace():
    lacking = [Right("create", "apps", "deployments", where) for where in (CONTROL, NORTH, SOUTH)]
    found = told(replace(RIGHT, refused=(*lacking, Right("delete", "", "namespaces"))))
    assert [each.partition(" (")[0] for each in found] == [
        "cluster: we may not create deployments.apps in p, p-north-one, p-south",
        "cluster: we may not delete namespaces",
    ]


def test_everything_that_agents_are_given_is_asked_for_as_nobody_gives_what_he_has_not():
    asked = questions(profile(), MARKET).rights
    for verb in ("create", "list", "watch", "patch", "delete"):
        assert Right(verb, "", "pods", SOUTH) in asked
    assert Right("create", "", "namespaces") in asked
    assert not [right for right in asked if right.namespace not in ("", CONTROL, NORTH, SOUTH)]


def test_with_a_registry_nodes_need_not_have_images():
    bare = replace(RIGHT, nodes=(Node("n1", "", ready=True),))
    assert told(bare, cluster={"registry": "registry.example.org/x"}) == []


def test_a_node_that_tells_of_as_many_images_as_it_may_is_not_suspected():
    many = frozenset(f"image-{number}" for number in range(50))
    assert told(replace(RIGHT, nodes=(Node("n1", "", ready=True, images=many),))) == []


def test_a_kubeconfig_that_is_not_there_or_leads_nowhere_is_told_as_such(tmp_path):
    path = tmp_path / "config"
    with pytest.raises(NotFound, match="no kubeconfig"):
        Lightkube(Cluster(kubeconfig=str(path)))
    path.write_text("{not yaml: [")
    with pytest.raises(BadInput, match="cannot be used"):
        Lightkube(Cluster(kubeconfig=str(path)))
    path.write_text(KUBECONFIG)
    with pytest.raises(NotFound, match="no context 'herr'") as caught:
        Lightkube(Cluster(kubeconfig=str(path), context="herr"))
    assert "here" in caught.value.hint
    with pytest.raises(Unavailable, match="no cluster answers"):
        Lightkube(Cluster(kubeconfig=str(path), context="here")).api_servers()


KUBECONFIG = """apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: u, user: {token: t}}]
contexts: [{name: here, context: {cluster: c, user: u}}]
"""


class _Fixed:
    """A cluster that says always the same."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    def look(self, _questions: object) -> Facts:
        return self._facts

    def api_servers(self) -> tuple[tuple[str, int], ...]:
        return self._facts.api_servers


def profile_of_files() -> Any:
    return profiles.load("kubernetes")
