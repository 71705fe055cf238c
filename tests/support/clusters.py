"""A Kubernetes cluster for tests: one for the whole session, a fresh namespace for each test.

With `DYNAMOS_TESTS_CLUSTER=FOLDER` tests use the cluster that `make cluster` has brought up in that folder, and leave
it.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cluster import images
from cluster.clusters import Cluster
from cluster.needs import missing
from cluster.specs import profile_of

SITES = ("east", "west")
"""The sites of the session's cluster, with a node each, joined by a link without delay."""
GROUP = "cluster"
"""The group of xdist that every test with the session's cluster is in, so that there is one."""
_FOLDER = "DYNAMOS_TESTS_CLUSTER"
_UNPRIVILEGED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
_SHELL = ["/bin/busybox", "sh", "-ec"]


def needs_cluster() -> None:
    """Skip, with the reason, where there can be no cluster of the tests' own."""
    if reason := missing():
        pytest.skip(str(reason))


@contextmanager
def session_cluster(folder: Callable[[], Path]) -> Iterator[Cluster]:
    """A cluster of two nodes at two sites, with an image that has a shell. It ends with us, whatever ends us."""
    if shared := os.environ.get(_FOLDER):
        found = Cluster.find(Path(shared))
        assert found, f"{_FOLDER}: there is no cluster in {shared}"
        _with_shell(found)
        yield found
        return
    needs_cluster()
    made = Cluster.up(folder(), profile_of(SITES, 1, [(*SITES, "0ms")]), owner=os.getpid())
    try:
        _with_shell(made)
        yield made
    finally:
        made.down()


@contextmanager
def fresh_namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of the test's own, which is removed after it, with all that is in it. No other test has its name."""
    name = f"test-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", name)
    try:
        yield name
    finally:
        cluster.kubectl("delete", "namespace", name, "--wait=false")


def _with_shell(cluster: Cluster) -> None:
    folder = cluster.folder / "images"
    folder.mkdir(exist_ok=True)
    archive, _ = images.busybox(folder)
    cluster.load(archive)


# Pods with a shell


def shell_pod(name: str, script: str = "sleep 3600", *, node: str = "", **members: Any) -> dict[str, Any]:
    """Give a pod that runs a script of busybox; `members` are further ones: `labels`, `ports`, `probe`, `mounts`,
    `security` of the container, and those of the pod's spec."""
    container: dict[str, Any] = {
        "name": "shell",
        "image": images.BUSYBOX,
        "imagePullPolicy": "Never",
        "command": [*_SHELL, f"PATH=/bin; {script}"],
        "securityContext": members.pop("security", _UNPRIVILEGED),
    }
    for member, key in (("ports", "ports"), ("probe", "readinessProbe"), ("mounts", "volumeMounts")):
        if member in members:
            container[key] = members.pop(member)
    labels = members.pop("labels", {"app": name})
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0, "restartPolicy": "Never", **members}
    if node:
        spec["nodeName"] = node
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}


def serving(port: int, text: str = "hello") -> str:
    """Give the script of a pod that answers every connection to a port with a text and closes it."""
    return f"while :; do echo {shlex.quote(text)} | busybox nc -l -p {port}; done"


class Pods:
    """The pods of one namespace, as a test needs them."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self.namespace = namespace

    def kubectl(self, *words: str, stdin: str | None = None, check: bool = True) -> str:
        return self._cluster.kubectl("--namespace", self.namespace, *words, stdin=stdin, check=check)

    def apply(self, *objects: dict[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def run(self, *pods: dict[str, Any], within: int = 120) -> dict[str, str]:
        """Make pods, wait until they are ready, and give their addresses by name."""
        self.apply(*pods)
        names = [pod["metadata"]["name"] for pod in pods]
        self.kubectl("wait", "--for=condition=Ready", f"--timeout={within}s", *(f"pod/{name}" for name in names))
        told = json.loads(self.kubectl("get", "pods", "-o", "json", *names))
        return {each["metadata"]["name"]: each["status"]["podIP"] for each in told.get("items", [told])}

    def shell(self, name: str, script: str, *, check: bool = True) -> str:
        """Run a script in a pod, and give what it says."""
        return self.kubectl("exec", name, "--", *_SHELL, f"PATH=/bin; {script}", check=check)

    def reaches(self, name: str, host: str, port: int) -> bool:
        """Tell whether a pod gets an answer from a port within a second."""
        return bool(self.shell(name, f"busybox timeout 1 busybox nc -w 1 {host} {port} </dev/null || :").strip())


def policy(name: str, selector: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """Give a NetworkPolicy over the pods with these labels."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name},
        "spec": {"podSelector": {"matchLabels": selector} if selector else {}, **spec},
    }


def eventually(what: str, condition: Callable[[], object], *, within: float = 60.0) -> None:
    """Wait until a condition holds. Fails the test after `within` seconds."""
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen within {within:g} s"
        time.sleep(0.05)


def nodes_of(cluster: Cluster) -> Sequence[str]:
    """Give the names of the nodes that run pods."""
    return [node.name for node in cluster.spec.nodes]
