"""Pods of a tests' cluster that stand for those of a marketplace, and their networks as hosts to knock from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.clusters import Cluster
from cluster.images import BUSYBOX as SHELL
from cluster.images import busybox

from dynamos.kit.errors import NotFound, TimedOut
from dynamos.testbed.boxes import Box
from dynamos.testbed.hosts import Completed

_READY_SECONDS = 60


@dataclass(frozen=True)
class PodNetwork:
    """The network of a pod, in which programs of its node run: just what the pod itself would meet."""

    box: Box
    pod: str
    network: str
    address: str

    @property
    def name(self) -> str:
        return self.pod

    @property
    def site(self) -> str:
        return self.box.site

    def run(
        self, argv: Sequence[str], *, stdin: bytes | None = None, check: bool = True, within: float = 30.0
    ) -> Completed:
        return self.box.run(self._entered(argv), stdin=stdin, check=check, within=within)

    def start(self, name: str, argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> int:
        return self.box.start(name, self._entered(argv), env=env)

    def stop(self, name: str) -> None:
        self.box.stop(name)

    def put(self, path: str, content: bytes, *, mode: int = 0o644) -> None:
        self.box.put(path, content, mode=mode)

    def get(self, path: str) -> bytes:
        return self.box.get(path)

    def _entered(self, argv: Sequence[str]) -> list[str]:
        return ["nsenter", f"--net={self.network}", "--", *argv]


def load_shell(cluster: Cluster) -> None:
    """Have an image on every node with a shell and whatever one needs to look around, as a hostile service may."""
    cluster.load(busybox(cluster.programs / "images")[0])


def pod(name: str, namespace: str, labels: Mapping[str, str], **members: Any) -> dict[str, Any]:
    """Give a pod that waits, as restricted as those of jobs."""
    security = {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    container = {
        "name": "main",
        "image": SHELL,
        "imagePullPolicy": "Never",
        "command": ["/bin/busybox", "sleep", "86400"],
        "resources": {"limits": {"memory": "64Mi", "cpu": "1"}, "requests": {"memory": "1Mi", "cpu": "1m"}},
        "securityContext": security,
    }
    spec = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 0,
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        **members,
    }  # fmt: skip
    metadata = {"name": name, "namespace": namespace, "labels": dict(labels)}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def apply(cluster: Cluster, objects: Iterable[Mapping[str, Any]]) -> None:
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
    cluster.kubectl("apply", "-f", "-", stdin=text)


def until_ready(cluster: Cluster, namespaces: Iterable[str]) -> None:
    for namespace in namespaces:
        cluster.kubectl(
            "wait", "--for=condition=Ready", "pod", "--all", "-n", namespace, f"--timeout={_READY_SECONDS}s"
        )


def networks(cluster: Cluster, namespaces: Iterable[str]) -> dict[tuple[str, str], PodNetwork]:
    """Give the network of every pod of these namespaces, by namespace and name."""
    found: dict[tuple[str, str], PodNetwork] = {}
    known: dict[str, dict[str, str]] = {}
    for namespace in namespaces:
        for each in json.loads(cluster.kubectl("get", "pods", "-n", namespace, "-o", "json"))["items"]:
            status, name = each["status"], each["metadata"]["name"]
            node = each["spec"].get("nodeName", "")
            if not status.get("podIP") or status.get("phase") != "Running":
                continue
            box = cluster.box(node)
            if status["podIP"] not in known.get(node, {}):
                known[node] = _addresses(box)
            if status["podIP"] not in known[node]:
                raise NotFound(f"no network of {node} has {status['podIP']}", where=name)
            found[namespace, name] = PodNetwork(box, name, known[node][status["podIP"]], status["podIP"])
    return found


def shell(cluster: Cluster, namespace: str, name: str, script: str, *, container: str = "main") -> str:
    """Run a script inside a pod, as whoever has a shell there, and give what it prints."""
    told = cluster.kubectl("exec", "-n", namespace, name, "-c", container, "--", "/bin/busybox", "sh", "-c", script)
    if told is None:
        raise TimedOut("the shell said nothing", where=name)
    return told


_LOOK = 'for n in /run/netns/*; do nsenter --net=$n ip -4 -o addr show scope global | sed "s|^|$n |"; done'


def _addresses(box: Box) -> dict[str, str]:
    """Give the file of each network on a node, by the address that is in it."""
    lines = (line.split() for line in box.run(["sh", "-c", _LOOK]).text.splitlines())
    return {words[4].partition("/")[0]: words[0] for words in lines if len(words) > 4}
