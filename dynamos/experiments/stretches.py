"""Stretched clusters: a marketplace put on a cluster whose nodes are at several sites, asked, and removed again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dynamos.deploy.kubernetes.clusters import context_of, kubeconfig_of
from dynamos.deploy.kubernetes.examining import examined
from dynamos.deploy.kubernetes.labels import SITE
from dynamos.deploy.kubernetes.manifests import Objects, objects
from dynamos.deploy.kubernetes.plans import Plan
from dynamos.deploy.kubernetes.reaching import Forward, Reach
from dynamos.deploy.kubernetes.writing import PRIVATE, write
from dynamos.deploy.provisioning import token_for
from dynamos.deploy.states import StateFolder
from dynamos.kit.errors import JobFailed, Mistakes, NotFound, Unavailable
from dynamos.middleware.clients import Api
from dynamos.model.clusters import Cluster
from dynamos.model.profiles import Profile
from dynamos.testbed.wans import Wan
from dynamos.testbed.worlds import World

WORLD: Final = "DYNAMOS_CLUSTER_WORLD"
"""Names the folder of the emulated network that a cluster's nodes are in, where they are in one of this machine."""
IMAGES_SECONDS = 90.0
"""How long nodes may take to tell of images that were just put on them."""
_WITHIN = 240.0
_LOOK_SECONDS = 1.0
_OF_IMAGES = "$.cluster.registry"


@dataclass(frozen=True)
class Kubectl:
    """The program kubectl, on the cluster of a profile."""

    cluster: Cluster

    def __call__(self, *words: str, within: float = _WITHIN) -> str:
        """Run it, and give what it says. Raises JobFailed with what it says of its failure, Unavailable without it."""
        program = shutil.which("kubectl")
        if program is None:
            raise Unavailable("kubectl is not installed", hint="put it on PATH")
        context = ["--context", self.cluster.context] if self.cluster.context else []
        argv = [program, "--kubeconfig", str(kubeconfig_of(self.cluster)), *context, *words]
        try:
            done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=within)
        except subprocess.TimeoutExpired:
            raise JobFailed(f"kubectl {words[0]} did not end within {within:g} s") from None
        if done.returncode:
            raise JobFailed(f"kubectl {words[0]}: {done.stderr.strip()[-500:]}")
        return done.stdout


def sites(cluster: Cluster) -> list[str]:
    """Give the sites that a cluster's nodes are at, sorted. Raises NotFound where nothing names a cluster."""
    if not (cluster.kubeconfig or cluster.context or os.environ.get("KUBECONFIG")):
        raise NotFound("nothing says which cluster is meant", hint="KUBECONFIG or `cluster` in the profile")
    context_of(cluster)
    nodes = json.loads(Kubectl(cluster)("get", "nodes", "-o", "json", within=30))["items"]
    return sorted({each["metadata"].get("labels", {}).get(SITE, "") for each in nodes} - {""})


def spread(profile: Profile, places: Mapping[str, tuple[str, ...]], *, leaves: bool) -> Profile:
    """Give a profile with parties at these sites, the first of which has the control plane. Its name is its own, so
    that no marketplace that is on the cluster already is taken for it. Pure."""
    told = profile.as_json()
    made = {site: {"parties": list(parties), "nodes": 1} for site, parties in places.items()}
    cluster = {**told.get("cluster", {}), "leaves": leaves}
    own = {"name": f"{profile.name}-sites", "sites": made, "control": next(iter(made)), "cluster": cluster}
    return Profile.model_validate({**told, **own})


@contextmanager
def deployed(profile: Profile, state: Path, scratch: Path) -> Iterator[Callable[[str], Api]]:
    """Put a marketplace on its cluster, and give how its API is asked as a user. It is removed afterwards.

    Raises Mistakes with what is in the way before anything is made, JobFailed where the cluster does not take it.
    """
    found = objects(patiently(lambda: examined(profile, state)))
    kubectl, folder = Kubectl(profile.cluster), scratch / "manifests"
    write(found, folder)
    names = [each["metadata"]["name"] for each in found.public if each["kind"] == "Namespace"]
    try:
        for part in (folder / PRIVATE, folder):
            kubectl("apply", "--server-side", "--force-conflicts", "-k", str(part))
        for name in names:
            for kind in ("statefulsets", "deployments"):
                if kubectl("get", kind, "-n", name, "-o", "name").strip():
                    kubectl("rollout", "status", kind, "-n", name, f"--timeout={_WITHIN:g}s", within=_WITHIN + 10)
        forward = Forward.open(Reach.of(profile))
        kept = StateFolder(state / profile.name)
        try:
            yield lambda user: Api(forward.address, token=token_for(kept, user))
        finally:
            forward.close()
    finally:
        _remove(kubectl, names, found)


def patiently(look: Callable[[], Plan], *, within: float = IMAGES_SECONDS, every: float = _LOOK_SECONDS) -> Plan:
    """Look until nothing is in the way, as long as all that is are images: nodes tell of new ones some seconds late.

    Raises Mistakes with what is in the way.
    """
    end = time.monotonic() + within
    while True:
        try:
            return look()
        except Mistakes as error:
            if {each.where for each in error.mistakes} != {_OF_IMAGES} or time.monotonic() >= end:
                raise
        time.sleep(every)


def _remove(kubectl: Kubectl, names: list[str], found: Objects) -> None:
    """Remove what was made, the namespaces first: what is of the whole cluster may be in use by what is in them."""
    kubectl("delete", "namespaces", *names, "--ignore-not-found", "--timeout=120s")
    for each in found.public:
        if each["kind"] != "Namespace" and "namespace" not in each["metadata"]:
            kubectl("delete", each["kind"], each["metadata"]["name"], "--ignore-not-found", "--timeout=30s")


def wan() -> Wan | None:
    """Give the emulated network between a cluster's sites, None where it is not of this machine."""
    folder = os.environ.get(WORLD)
    return Wan.find(World(Path(folder), "", "")) if folder else None


def carried(network: Wan) -> int:
    """Give how many bytes the links between sites have carried, both ways, since they are there."""
    links: list[Any] = json.loads(network.box.run(["ip", "-s", "-j", "link"]).text)
    counts = {each["ifname"]: sum(each["stats64"][way]["bytes"] for way in ("rx", "tx")) for each in links}
    return sum(counts[tap.device] for tap in network.taps())
