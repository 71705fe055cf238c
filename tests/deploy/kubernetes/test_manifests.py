"""What is put on a cluster: which objects, for whom, and what they may."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
import yaml

from dynamos.deploy.kubernetes.labels import key_of
from dynamos.deploy.kubernetes.manifests import Objects, objects
from dynamos.deploy.kubernetes.parties import PSEUDONYMS
from dynamos.deploy.kubernetes.plans import DRAIN
from dynamos.deploy.kubernetes.writing import text_of, write
from dynamos.kit.errors import Conflict
from support.plans import CONTROL, NORTH, SOUTH, plan

SITES = {"east": {"parties": ["North_One"]}, "west": {"parties": ["south"]}}
WORKLOADS = ("Deployment", "StatefulSet", "Job")


def found(made: Objects) -> dict[tuple[str, str, str], dict[str, Any]]:
    every = [*made.public, *made.private]
    keys = [key_of(each) for each in every]
    assert len(keys) == len(set(keys))
    return dict(zip(keys, every, strict=True))


def workloads(made: Objects) -> list[dict[str, Any]]:
    return [each for each in made.public if each["kind"] in WORKLOADS]


def test_every_party_has_a_namespace_of_its_own_and_the_rest_share_one():
    spaces = {name: each for (kind, _, name), each in found(objects(plan())).items() if kind == "Namespace"}
    assert set(spaces) == {CONTROL, NORTH, SOUTH}
    for each in spaces.values():
        assert each["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
        assert each["metadata"]["labels"]["dynamos.dev/testbed"] == "p"


def test_every_object_says_that_it_is_ours():
    for each in found(objects(plan(data={"south": {"a.csv": b"x"}}))).values():
        assert each["metadata"]["labels"]["app.kubernetes.io/part-of"] == "dynamos", key_of(each)


@pytest.mark.parametrize("members", [{}, {"cluster": {"busReplicas": 3, "agents": 2, "leaves": True}, "sites": SITES}])
def test_every_pod_keeps_to_the_standard_restricted_and_to_its_memory(members):
    large = {"south": {"a.csv": bytes(range(256)) * 8000}}
    made = workloads(objects(plan(data=large, **members)))
    assert made
    for each in made:
        spec = each["spec"]["template"]["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for held in spec["containers"]:
            rights = held["securityContext"]
            assert rights["allowPrivilegeEscalation"] is False
            assert rights["readOnlyRootFilesystem"] is True
            assert rights["capabilities"] == {"drop": ["ALL"]}
            assert held["resources"]["limits"]["memory"]
            assert "@sha256:" in held["image"]
        kinds = {key for volume in spec["volumes"] for key in volume if key != "name"}
        assert kinds <= {"secret", "emptyDir", "projected", "configMap", "persistentVolumeClaim"}


def test_only_agents_have_an_account_that_may_do_anything_and_only_at_home():
    made = found(objects(plan()))
    roles = {where: each["rules"] for (kind, where, _), each in made.items() if kind == "Role"}
    assert set(roles) == {NORTH, SOUTH}
    assert not [kind for kind, _, _ in made if kind in ("ClusterRole", "ClusterRoleBinding")]
    for rules in roles.values():
        assert not [rule for rule in rules if "*" in (*rule["verbs"], *rule["resources"], *rule["apiGroups"])]
        readable = [rule for rule in rules if "secrets" in rule["resources"] and "get" in rule["verbs"]]
        assert [rule["resourceNames"] for rule in readable] == [[PSEUDONYMS]]
    tokens = [each for each in workloads(objects(plan())) if "serviceAccountToken" in json.dumps(each)]
    assert {each["metadata"]["namespace"] for each in tokens} == {NORTH, SOUTH}


def test_nobody_is_given_anothers_keys_and_none_is_shown():
    made = objects(plan())
    secrets = {key_of(each)[1:]: each["data"] for each in made.private if each["kind"] == "Secret"}
    for (where, name), told in secrets.items():
        owner = {"unit-north-one": "North_One"}.get(name, name.removeprefix("unit-"))
        texts = {base64.b64decode(text).decode() for text in told.values()}
        assert texts == {f"config of {owner}", f"key of {owner}"}
        assert where == {"unit-north-one": NORTH, "unit-south": SOUTH}.get(name, CONTROL)
    shown = text_of(made.public)
    assert "key of" not in shown
    assert base64.b64encode(b"key of south").decode() not in shown
    assert "key of" not in repr(plan())


def test_pods_are_made_anew_when_what_they_are_given_is_other():
    def digests(made: Objects) -> dict[tuple[str, str, str], str]:
        return {key_of(each): json.dumps(each) for each in workloads(made)}

    one, same, other = plan(), plan(), plan()
    files = {**other.files, "south": {**other.files["south"], "key.pem": "a new key"}}
    changed = digests(objects(type(other)(other.profile, other.marketplace, other.images, files, {}, ())))
    before = digests(objects(one))
    assert before == digests(objects(same))
    assert [key for key, text in before.items() if changed[key] != text] == [("Deployment", SOUTH, "agent")]


def test_what_is_replaced_is_never_away_and_has_time_to_end():
    made = {each["metadata"]["name"]: each for each in workloads(objects(plan())) if each["kind"] == "Deployment"}
    assert {"orchestrator", "api", "agent"} == set(made)
    for each in made.values():
        spec = each["spec"]["template"]["spec"]
        assert each["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
        assert spec["terminationGracePeriodSeconds"] > DRAIN + 3
        assert set(spec["containers"][0]) >= {"startupProbe", "readinessProbe", "livenessProbe"}
    assert made["api"]["spec"]["template"]["spec"]["containers"][0]["lifecycle"]["preStop"]


def test_only_what_is_there_twice_has_a_budget_that_lets_nodes_be_emptied():
    assert not [key for key in found(objects(plan())) if key[0] == "PodDisruptionBudget"]
    made = found(objects(plan(cluster={"busReplicas": 3, "orchestrators": 2, "agents": 2})))
    budgets = {key[1:] for key in made if key[0] == "PodDisruptionBudget"}
    assert budgets == {(CONTROL, "bus"), (CONTROL, "orchestrator"), (NORTH, "agent"), (SOUTH, "agent")}


def test_parties_are_on_the_nodes_of_their_site():
    made = {key_of(each): each for each in workloads(objects(plan(sites=SITES)))}
    chosen = {key: each["spec"]["template"]["spec"]["nodeSelector"] for key, each in made.items()}
    assert chosen["Deployment", SOUTH, "agent"] == {"dynamos.dev/site": "west"}
    assert chosen["StatefulSet", CONTROL, "bus"] == {"dynamos.dev/site": "east"}
    bare = workloads(objects(plan()))
    assert not [each for each in bare if "nodeSelector" in each["spec"]["template"]["spec"]]


def test_the_job_that_makes_buckets_is_another_one_when_what_it_makes_is():
    def name(**members: Any) -> str:
        return next(key[2] for key in found(objects(plan(**members))) if key[0] == "Job")

    assert name() == name()
    assert name(cluster={"registry": "other.test"}) == name()
    assert name(sites=SITES) != name()


def test_everything_is_written_with_keys_and_data_in_a_folder_that_is_closed(tmp_path):
    made = objects(plan(data={"south": {"a.csv": b"x,y"}}))
    files = write(made, tmp_path / "out")
    assert write(made, tmp_path / "out") == files
    private = tmp_path / "out" / "private"
    assert private.stat().st_mode & 0o077 == 0
    assert {path.stat().st_mode & 0o077 for path in private.iterdir()} == {0}
    assert (private / ".gitignore").read_text() == "*\n"
    kinds = {each["kind"] for path in private.glob("*.yaml") for each in yaml.safe_load_all(path.read_text()) if each}
    assert kinds == {"Secret", "ConfigMap", "Kustomization"}
    listed = yaml.safe_load((tmp_path / "out" / "kustomization.yaml").read_text())["resources"]
    assert listed == ["namespaces", "cluster.yaml", "in-p.yaml", "in-p-north-one.yaml", "in-p-south.yaml"]
    texts = [path.read_text() for path in files]
    assert all(text.startswith("# Written by") for text in texts)
    written = [each for text in texts for each in yaml.safe_load_all(text) if each]
    assert sum(each["kind"] != "Kustomization" for each in written) == len(found(made))


def test_what_was_written_before_and_is_no_more_is_removed_and_nothing_else(tmp_path):
    write(objects(plan(data={"south": {"a.csv": b"x"}})), tmp_path / "out")
    (tmp_path / "out" / "mine.yaml").write_text("mine: true\n")
    (tmp_path / "out" / "old.yaml").write_text("# Written by `dynamos manifests`.\n")
    write(objects(plan()), tmp_path / "out")
    assert (tmp_path / "out" / "mine.yaml").exists()
    assert not (tmp_path / "out" / "old.yaml").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("")
    with pytest.raises(Conflict, match="holds something else"):
        write(objects(plan()), tmp_path / "other")
