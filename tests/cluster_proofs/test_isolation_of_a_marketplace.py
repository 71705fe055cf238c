"""Who reaches whom in a marketplace that `pulumi up` has put on a cluster, its pods of jobs included."""

from __future__ import annotations

import pytest

from dynamos.testbed.proofs.clusters import isolation
from support import pod_networks
from support.clusters import eventually
from support.markets import market

pytest.importorskip("lightkube", reason="the extra kubernetes is not here")
deployed = pytest.importorskip("support.deployed")
scenes = pytest.importorskip("support.cluster_scenes")

pytestmark = [pytest.mark.cluster, pytest.mark.soak, pytest.mark.xdist_group("cluster")]
USER = "meg@united.example"
NAME = "proven"
OUTSIDE = "proven-outside"


def test_nothing_gets_through_but_what_policy_is_for_while_pods_of_jobs_wait_and_work(sites, tmp_path):
    with market(sites, tmp_path, NAME) as made:
        made.stack.up()
        pod_networks.load_shell(sites)
        sites.kubectl("create", "namespace", OUTSIDE)
        try:
            pod_networks.apply(sites, [pod_networks.pod(deployed.OUTSIDER, OUTSIDE, {})])
            pod_networks.until_ready(sites, [OUTSIDE])
            looked = _with_jobs(sites, made)
            with scenes.world(sites):
                matrix = isolation(looked.occasion, looked.hosts, phase="deployed")
        finally:
            sites.kubectl("delete", "namespace", OUTSIDE, "--wait=false")
    print(f"{len(matrix.cells)} tries, {looked.kinds}", *matrix.leaks, *matrix.blocked, sep="\n")
    scenes.written(matrix, sites.folder / "deployed.json")
    matrix.check()
    jobs = [cell for cell in matrix.cells if cell.source.startswith("job-")]
    assert jobs
    assert not any(cell.observed for cell in jobs)
    assert all(cell.observed for cell in matrix.cells if cell.source == deployed.OUTSIDER and cell.expected)


def _with_jobs(sites, made):
    """Ask until pods of jobs wait warm, and look at everything then."""
    found = []

    def waiting() -> bool:
        made.ask("fleet-age", USER)
        found[:] = [deployed.Deployed.of(sites, NAME, OUTSIDE)]
        return "job" in found[0].kinds

    eventually("a pod of a job waits", waiting, within=120)
    return found[0]
