"""Rows go from the agent of a party to that of another on a cluster, by a way that is open for their job alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster.clusters import Cluster

from dynamos.kit.credentials import Credentials
from dynamos.middleware.identity.grants import sign
from dynamos.model.plans import Part
from support.identities import issue_all, make_grant

pytest.importorskip("lightkube", reason="the extra kubernetes is not here")
scenes = pytest.importorskip("support.cluster_scenes")

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.xdist_group("cluster")]
REPOSITORY = Path(__file__).resolve().parents[2]
NORTH, SOUTH = "north", "south"
JOBS = 5
ROWS = 20_000


class Parties:
    """The two parties' ends, each in the network of its agent's pod."""

    def __init__(self, scene: scenes.Scene, units: dict[str, Credentials], folder: Path) -> None:
        self.scene = scene
        self._units = units
        self._folder = folder

    def pass_rows(self, *jobs: str, ends: Sequence[str] = (NORTH, SOUTH)) -> dict[str, list[dict[str, Any]]]:
        """Have these parties do their parts of jobs whose rows go from the north to the south."""
        with ThreadPoolExecutor(len(ends)) as pool:
            return dict(zip(ends, pool.map(lambda party: self._run(party, jobs), ends), strict=True))

    def openings(self) -> list[str]:
        text = self.scene.cluster.kubectl("get", "networkpolicies", "-A", "-l", "dynamos.dev/opening", "-o", "json")
        return [each["metadata"]["name"] for each in json.loads(text)["items"]]

    def _run(self, party: str, jobs: Sequence[str]) -> list[dict[str, Any]]:
        network = self.scene.pods[self.scene.plan.namespace_of(party), "agent"]
        folder = f"/run/parties/{party}"
        own = self._units[party]
        for name, path in (("certificate", own.certificate), ("key", own.key), ("authority", own.authority)):
            network.put(f"{folder}/{name}.pem", path.read_bytes(), mode=0o600)
        network.put(f"{folder}/orchestrator.pem", self._units["orchestrator"].certificate.read_bytes())
        network.put(f"{folder}/kubeconfig", self._account(party), mode=0o600)
        home = self.scene.home(party)
        spec = {
            "party": party,
            "folder": folder,
            "kubeconfig": f"{folder}/kubeconfig",
            "address": network.address,
            "policies": True,
            "testbed": home.testbed,
            "namespaces": dict(home.namespaces),
            "pod": home.pod,
            "uid": home.uid,
            "jobs": [self._granted(party, job) for job in jobs],
        }
        words = ["env", f"PYTHONPATH={REPOSITORY}", sys.executable, "-m", "support.cluster_party"]
        words[1] += f":{REPOSITORY}/tests"
        return json.loads(network.run(words, stdin=json.dumps(spec).encode(), within=120.0).text)

    def _granted(self, party: str, job: str) -> dict[str, Any]:
        taker = self.scene.pods[self.scene.plan.namespace_of(SOUTH), "agent"]
        grant = make_grant(NORTH, target=SOUTH, job=job, grant_id=f"{party} {job}")
        if party == SOUTH:
            part = Part.model_validate(grant.part.model_copy(update={"party": party, "steps": ()}))
            grant = grant.model_copy(update={"party": party, "part": part})
        addresses = {SOUTH: f"grpc+tls://{taker.address}:8815"}
        grant = grant.model_copy(update={"addresses": addresses})
        return {"grant": grant.as_json(), "text": sign(grant, self._units["orchestrator"].key)}

    def _account(self, party: str) -> bytes:
        """Give a kubeconfig of the agent's own account, for the network of a pod."""
        config = yaml.safe_load((self.scene.cluster.folder / "inside.kubeconfig").read_text())
        token = self.scene.cluster.kubectl("create", "token", "agent", "-n", self.scene.plan.namespace_of(party))
        for user in config["users"]:
            user["user"] = {"token": token.strip()}
        return yaml.safe_dump(config).encode()


@pytest.fixture(scope="module")
def parties(sites: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parties]:
    folder = tmp_path_factory.mktemp("units")
    with scenes.standing(sites, "ways", exchange=False) as scene:
        yield Parties(scene, issue_all(folder, "orchestrator", NORTH, SOUTH), folder)


def test_rows_pass_by_the_ways_that_their_jobs_open_and_nothing_stays_open(parties):
    jobs = [f"job-{number}" for number in range(JOBS)]
    told = parties.pass_rows(*jobs)
    for party, each in told.items():
        assert [one.get("rows") for one in each] == [ROWS] * JOBS, (party, each)
    assert parties.openings() == []


def test_rows_do_not_pass_where_the_other_side_opens_nothing(parties):
    told = parties.pass_rows("alone", ends=[NORTH])
    [one] = told[NORTH]
    assert one["error"]["code"] == "way-shut"
    assert "ways-north" in one["error"]["hint"]
    assert parties.openings() == []
