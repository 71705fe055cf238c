"""Runners of pods in a real cluster: a namespace as a party has one, with the walls that deploy puts around it."""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster.clusters import Cluster
from cluster.images import BUSYBOX

from dynamos.jobs import linux
from dynamos.jobs.pods.hails import HAIL_PORT
from dynamos.jobs.pods.lightkubes import LightkubePods
from dynamos.jobs.pods.runner import KubernetesRunner
from dynamos.jobs.pods.settings import PORT, Home, PodsConfig
from support import pod_images
from support.clusters import Pods, policy, shell_pod

RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"
CLAIM = "data"
NODES = "198.18.0.0/15"


class PodsInCluster(Pods):
    """The namespace of a party for one module of tests. `volume` is where this machine has what pods have as data."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        super().__init__(cluster, f"jobs-{secrets.token_hex(4)}")
        self.cluster = cluster
        references, archives = pod_images.archives_in(folder)
        for archive in archives:
            cluster.load(archive)
        self.images = references
        self.volume = folder / "volume"
        self.volume.mkdir()
        cluster.kubectl("create", "namespace", self.namespace)
        # Our agent is a program in a node's network here, and no pod: couriers are open to nodes.
        block = [{"ipBlock": {"cidr": NODES}}]
        agent = {"from": block, "ports": [{"port": PORT, "protocol": "TCP"}]}
        hail = {"to": block, "ports": [{"port": HAIL_PORT, "protocol": "UDP"}]}
        walls = policy(
            "job", {"dynamos.dev/role": "job"}, policyTypes=["Ingress", "Egress"], ingress=[agent], egress=[hail]
        )
        self.apply(_claim(), walls)

    shell_image = BUSYBOX

    def fill(self, text: str) -> None:
        """Put one file on the volume."""
        room = {"name": CLAIM, "persistentVolumeClaim": {"claimName": CLAIM}}
        script = f"printf %b {json.dumps(text)} > /data/persons.csv; chmod 644 /data/persons.csv; sleep 3600"
        mounts = [{"name": CLAIM, "mountPath": "/data"}]
        self.run(shell_pod("fill", script, mounts=mounts, volumes=[room]))
        self.kubectl("wait", "--for=jsonpath={.status.phase}=Running", "pod/fill")
        self.shell("fill", "until test -e /data/persons.csv; do busybox sleep 0.1; done")
        self.kubectl("delete", "pod", "fill")
        self.cluster.kubectl("label", "namespace", self.namespace, RESTRICTED)

    def enter(self) -> None:
        """Put this thread, and those that it starts, into the network of a node."""
        with self.cluster.box(self.cluster.spec.nodes[0].name).namespace() as network:
            linux.setns(network, linux.NEW_NET)

    def config(self, **changed: Any) -> PodsConfig:
        """Give what a runner here is told."""
        told = {
            "namespace": self.namespace, "testbed": "tests", "image": self.images["dynamos"], "warm": 0,
            "courier": self.images["courier"], "kubeconfig": str(self.cluster.folder / "inside.kubeconfig"),
            "claim": CLAIM, "programs": "support.runners",
        }  # fmt: skip
        return PodsConfig.model_validate({**told, **changed})

    def client(self, home: Home | None = None, **changed: Any) -> LightkubePods:
        """Give a client for this namespace."""
        return LightkubePods(self.config(**changed), home or self.home())

    def home(self) -> Home:
        """Give an agent of its own."""
        return Home("UVA", pod=f"agent-{secrets.token_hex(4)}", address=self.cluster.spec.nodes[0].ip)

    async def runner(self, **changed: Any) -> KubernetesRunner:
        """Open a runner of its own agent."""
        home, config = self.home(), self.config(**changed)
        return await KubernetesRunner.open(config, home, LightkubePods(config, home), data=self.volume)

    def pods(self, *words: str) -> list[dict[str, Any]]:
        """Give the pods of jobs that there are."""
        told = json.loads(self.kubectl("get", "pods", "-l", "dynamos.dev/role=job", "-o", "json", *words))
        return list(told["items"])

    def inside_kubectl(self, *words: str, stdin: str = "") -> str:
        """Run kubectl from a thread that is in the cluster's network."""
        argv = [str(self.cluster.programs / "kubectl"), f"--kubeconfig={self.cluster.folder / 'inside.kubeconfig'}"]
        argv += ["--namespace", self.namespace, *words]
        return subprocess.run(argv, input=stdin, text=True, check=True, capture_output=True, timeout=60).stdout

    def lose(self) -> None:
        """Delete every pod that runs a job, without a grace. For threads that are in the cluster's network."""
        self.inside_kubectl("delete", "pods", "-l", "dynamos.dev/pool in (cold,taken)", "--grace-period=0", "--force")


def _claim() -> dict[str, Any]:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "16Mi"}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": CLAIM}, "spec": spec}


@contextmanager
def party_in(cluster: Cluster, folder: Path) -> Iterator[PodsInCluster]:
    """A party's namespace in the cluster, with our images on its nodes and a file on its volume."""
    found = PodsInCluster(cluster, folder)
    try:
        found.fill("a,b\n")
        yield found
    finally:
        cluster.kubectl("delete", "namespace", found.namespace, "--wait=false")
