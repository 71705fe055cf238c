"""Marketplaces on the tests' cluster, put there by the real engine: with our own images, and a state of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from cluster.clusters import Cluster

from dynamos.deploy.images import references
from dynamos.deploy.pulumi.engines import checkout, find_engine
from dynamos.deploy.pulumi.stacks import Stack
from dynamos.kit.errors import NotFound, Unavailable
from support.clusters import eventually

_VARIABLES = ("PULUMI_BACKEND_URL", "PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE", "DYNAMOS_STATE")
_BUILD_SECONDS = 900
_TOLD_SECONDS = 90.0
MARKETS = checkout() / "profiles" / "marketplaces"
REQUESTS = MARKETS / "aviation" / "requests"


def until_told(cluster: Cluster, wanted: set[str]) -> None:
    """Wait until every node tells that it has the images: kubelets do so some seconds late."""

    def told() -> bool:
        nodes = json.loads(cluster.kubectl("get", "nodes", "-o", "json"))["items"]
        has = [{name for image in each["status"].get("images", ()) for name in image["names"]} for each in nodes]
        return all(any(name.endswith(w.partition("@")[2]) for name in found) for found in has for w in wanted)

    eventually("every node tells of the images", told, within=_TOLD_SECONDS)


def load_ours(cluster: Cluster, nodes: Sequence[str] = ()) -> None:
    """Import our images into nodes, all if not said."""
    for each in ("dynamos", "courier", "bus"):
        cluster.load(_images() / f"{each}.tar", nodes)


def _images() -> Path:
    return checkout() / ".dynamos" / "images"


class Market:
    """The stack of a profile that extends `kubernetes`, whose file tests may change."""

    def __init__(self, cluster: Cluster, folder: Path, name: str) -> None:
        self.cluster, self.name, self.state = cluster, name, folder / "state"
        self.profile = folder / f"{name}.yaml"
        self.write("")
        self.stack = Stack(str(self.profile), self.state)

    def write(self, more: str) -> None:
        """Write the profile, with `more` about its cluster."""
        reach = f"kubeconfig: {self.cluster.kubeconfig}"
        self.profile.write_text(f"extends: kubernetes\nname: {self.name}\ncluster:\n  {reach}\n{more}")

    def left(self) -> list[str]:
        """Give what the cluster has of the marketplace."""
        found = []
        for kind in ("namespaces", "priorityclasses", "persistentvolumes"):
            told = self.cluster.kubectl("get", kind, "--output", "name")
            found += [line for line in told.splitlines() if f"/{self.name}" in line]
        return found

    def ask(self, name: str, user: str, *more: str) -> str:
        """Send a request that comes with the marketplace, by the command line, and give the rows."""
        return asked(self.state, self.name, REQUESTS / f"{name}.json", user, *more)


def asked(state: Path, testbed: str, request: Path, user: str, *more: str) -> str:
    """Send a request to a testbed, and give what comes back as CSV. Fails with what is said."""
    words = ["request", str(request), "--state", str(state), "--testbed", testbed, "--as", user]
    command = [sys.executable, "-m", "dynamos.cli.main", *words, "--format", "csv", *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def market(cluster: Cluster, folder: Path, name: str) -> Iterator[Market]:
    """Give a marketplace that is not up yet, and ends with the test. Skips where there is no engine, or where our
    images cannot be built."""
    try:
        find_engine()
    except Unavailable as error:
        pytest.skip(str(error))
    images = _images()
    build = [sys.executable, "-m", "dynamos.cli.main", "images", "build", "--to", str(images)]
    built = subprocess.run(build, capture_output=True, text=True, timeout=_BUILD_SECONDS, check=False)
    if built.returncode == Unavailable.exit:
        pytest.skip(built.stderr)
    assert built.returncode == 0, built.stderr
    load_ours(cluster)
    until_told(cluster, {built.reference() for built in references.read(images).values()})
    with pytest.MonkeyPatch.context() as patch:
        for variable in _VARIABLES:
            patch.delenv(variable, raising=False)
        patch.setenv("DYNAMOS_IMAGES", str(images))
        tools = [str(Path(__file__).parent), str(checkout() / ".tools" / "kubernetes")]
        patch.setenv("PATH", os.pathsep.join([*tools, os.environ["PATH"]]))
        found = Market(cluster, folder, name)
        try:
            yield found
        finally:
            try:
                found.stack.destroy()
            except NotFound:
                pass
            finally:
                (checkout() / "infra" / f"Pulumi.{name}.yaml").unlink(missing_ok=True)
