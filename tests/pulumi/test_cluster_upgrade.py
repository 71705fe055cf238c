"""Another release comes to a marketplace on a real cluster while requests run: none is lost, none refused.

Five a second are asked, but no more than a machine with two cores can work on: a pod is made for each.
The load comes from where the controller of an Ingress would be, and asks as that does: by the service of the API, over
a connection of its own each time, and never twice.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from dynamos.deploy.images import builds, references
from dynamos.deploy.pulumi.engines import checkout
from support import pod_networks
from support.clusters import eventually
from support.loads import load
from support.markets import until_told
from support.places import BODY, MORE, Place, standing

pytestmark = [pytest.mark.cluster, pytest.mark.soak, pytest.mark.xdist_group("cluster")]
GATE = "gate"
INGRESS = f"  ingress: {{host: aviation.example, tls: gate-certificate, namespace: {GATE}}}\n"
UNITS = {"orchestrator": 2, "api": 1, "agent": 12}
AT_ONCE = 3
GONE_SECONDS = 240.0
_NOT_OURS = (".git", ".venv", ".tools", ".dynamos", "*_cache", "__pycache__", "bench-results")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with standing(tmp_path_factory.mktemp("upgrade"), "upgraded", MORE + INGRESS) as found:
        yield found


@pytest.fixture
def another(place: Place, tmp_path: Path) -> Path:
    """Images of a release whose code is another, on every node."""
    source, folder = tmp_path / "source", tmp_path / "images"
    shutil.copytree(checkout(), source, ignore=shutil.ignore_patterns(*_NOT_OURS))
    (source / "dynamos" / "another.py").write_text('"""What this release has and the former one has not."""\n')
    shutil.copytree(checkout() / ".dynamos" / "images", folder)
    former = references.read(folder)["dynamos"]
    made = builds.build(folder, ["dynamos"], checkout=source)["dynamos"]
    assert made.digest != former.digest
    place.cluster.load(folder / made.archive)
    until_told(place.cluster, {made.reference()})
    return folder


def test_an_upgrade_loses_and_refuses_no_request(place: Place, another: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = _gate(place)
    service = place.cluster.kubectl("-n", place.name, "get", "service", "api", "-o", "jsonpath={.spec.clusterIP}")
    asks = [("registry", "/api/v1/jobs?wait=true", {**place.headers, "content-type": "application/json"}, BODY)]
    monkeypatch.setenv("DYNAMOS_IMAGES", str(another))
    former, now = _images_of(place), references.images(another).dynamos
    assert now not in former
    with load(gate, asks, at_once=AT_ONCE, at=f"{service}:80") as found:
        done = place.market.stack.up()
        eventually("all units are of the new release", lambda: _images_of(place) == {now}, within=GONE_SECONDS)
    print(f"upgrade in {len(done.steps)} steps: {found}", *dict.fromkeys(each["error"] for each in found.bad), sep="\n")
    assert len(found.answers) > 10
    assert found.bad == []


def _images_of(place: Place) -> set[str]:
    """Give the images of all pods of units, of those that are on their way out as well. None of the units lacks any."""
    words = ("get", "pods", "--all-namespaces", "--selector", f"dynamos.dev/testbed={place.name}", "--output", "json")
    pods = json.loads(place.cluster.kubectl(*words))["items"]
    found = [(pod["metadata"]["labels"].get("dynamos.dev/role"), pod["spec"]["containers"][0]["image"]) for pod in pods]
    for unit, least in UNITS.items():
        assert sum(role == unit for role, _ in found) >= least
    return {image for role, image in found if role in UNITS}


def _gate(place: Place) -> pod_networks.PodNetwork:
    """Have a pod where the profile says that the Ingress's controller is, and give its network."""
    pod_networks.load_shell(place.cluster)
    place.cluster.kubectl("create", "namespace", GATE)
    pod_networks.apply(place.cluster, [pod_networks.pod("controller", GATE, {})])
    pod_networks.until_ready(place.cluster, [GATE])
    return pod_networks.networks(place.cluster, [GATE])[GATE, "controller"]
