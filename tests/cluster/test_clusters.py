"""A cluster of the tests' own is a real one: nodes, pods, names, services, images and volumes."""

from __future__ import annotations

import json
import socket

import pytest

from cluster import images
from cluster.clusters import Cluster
from dynamos.kit.errors import DynamosError, NotFound
from support.clusters import GROUP, Pods, eventually, nodes_of, serving, shell_pod

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group(GROUP)]


@pytest.fixture
def pods(cluster: Cluster, namespace: str) -> Pods:
    return Pods(cluster, namespace)


def test_nodes_are_ready_and_labelled_with_their_sites(cluster: Cluster) -> None:
    told = json.loads(cluster.kubectl("get", "nodes", "-o", "json"))["items"]
    sites = {node["metadata"]["name"]: node["metadata"]["labels"]["dynamos.dev/site"] for node in told}
    assert sites == {node.name: node.site for node in cluster.spec.nodes}
    conditions = [{c["type"]: c["status"] for c in node["status"]["conditions"]} for node in told]
    assert [each["Ready"] for each in conditions] == ["True"] * len(told)


def test_a_pod_runs_under_the_restricted_standard(cluster: Cluster, pods: Pods) -> None:
    pods.kubectl("label", "namespace", pods.namespace, "pod-security.kubernetes.io/enforce=restricted")
    context = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    pods.run(shell_pod("one", securityContext=context))
    assert pods.shell("one", "busybox id -u").strip() == "65532"
    refused = pods.kubectl("run", "two", "--image=x", "--privileged", check=False)
    assert "two" not in pods.kubectl("get", "pods", "-o", "name"), refused


def test_names_and_services_answer_across_nodes(cluster: Cluster, pods: Pods) -> None:
    first, *_, last = nodes_of(cluster)
    pods.run(shell_pod("server", serving(8080), node=last), shell_pod("client", node=first))
    pods.kubectl("expose", "pod", "server", "--name=front", "--port=80", "--target-port=8080")
    told = pods.shell("client", f"busybox nslookup front.{pods.namespace}.svc.cluster.local")
    address = pods.kubectl("get", "service", "front", "-o", "jsonpath={.spec.clusterIP}")
    assert address in told
    eventually("the service answers", lambda: pods.reaches("client", address, 80))


def test_this_process_reaches_pods_and_services_from_inside(cluster: Cluster, pods: Pods) -> None:
    address = pods.run(shell_pod("server", serving(8080, "from inside")))["server"]

    def ask() -> bytes:
        with socket.create_connection((address, 8080), timeout=5) as there:
            return there.recv(100)

    assert cluster.inside(ask) == b"from inside\n"


def test_an_image_is_found_by_its_tag_and_by_its_digest(cluster: Cluster, pods: Pods, tmp_path) -> None:
    archive, name = images.busybox(tmp_path)
    tagged, pinned = cluster.load(archive)
    assert tagged == name
    assert pinned.startswith("dynamos.local/busybox@sha256:")
    pod = shell_pod("pinned")
    pod["spec"]["containers"][0]["image"] = f"{tagged}@{pinned.partition('@')[2]}"
    pods.run(pod)


def test_what_is_no_archive_is_refused(cluster: Cluster, tmp_path) -> None:
    with pytest.raises(NotFound, match="no such archive"):
        cluster.load(tmp_path / "nothing.tar")
    (tmp_path / "odd.tar").write_bytes(b"odd")
    with pytest.raises(DynamosError):
        cluster.load(tmp_path / "odd.tar")


def test_a_claim_is_bound_to_a_folder_of_the_node_and_goes_with_it(cluster: Cluster, pods: Pods) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "kept"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Mi"}}},
    }
    pods.apply(claim)
    volume = {"name": "kept", "persistentVolumeClaim": {"claimName": "kept"}}
    options = {"volumes": [volume], "mounts": [{"name": "kept", "mountPath": "/kept"}]}
    pods.run(shell_pod("writer", "echo here > /kept/file; sleep 3600", **options))
    pods.kubectl("delete", "pod", "writer", "--now")
    pods.run(shell_pod("reader", **options))
    assert pods.shell("reader", "busybox cat /kept/file") == "here\n"
    name = pods.kubectl("get", "pvc", "kept", "-o", "jsonpath={.spec.volumeName}")
    pods.kubectl("delete", "pod", "reader", "--now")
    pods.kubectl("delete", "pvc", "kept", "--timeout=30s")
    pods.kubectl("wait", "--for=delete", f"pv/{name}", "--timeout=30s")
    folders = cluster.box(cluster.spec.control.name).run(["find", "/run/volumes", "-name", name])
    assert folders.text == ""
