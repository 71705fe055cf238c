"""Who reaches whom on a cluster, tried from the network of every kind of pod and from a shell in a job's pod."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest
from cluster.clusters import Cluster

from dynamos.kit.errors import TimedOut
from dynamos.middleware.agent.knocks import knock
from dynamos.middleware.network.openings import Opening
from dynamos.testbed.proofs.clusters import isolation
from dynamos.testbed.proofs.matrices import Matrix
from dynamos.testbed.wanted import PORTS
from support import pod_networks

pytest.importorskip("lightkube", reason="the extra kubernetes is not here")
scenes = pytest.importorskip("support.cluster_scenes")

from dynamos.middleware.network.cluster import ClusterOpenings  # noqa: E402  of that extra

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.xdist_group("cluster")]
WAY = ("north", "south")
OPENS_SECONDS = 5.0


@pytest.fixture(scope="module")
def scene(sites: Cluster) -> Iterator[scenes.Scene]:
    with scenes.standing(sites, "iso") as standing:
        yield standing


@contextlib.asynccontextmanager
async def opened(scene: scenes.Scene, *ends: str, job: str = "job-1") -> AsyncIterator[None]:
    """Have the agents of these parties open their end of the way from the first party to the second, as for a job."""
    openings = {party: ClusterOpenings(scene.home(party), kubeconfig=str(scene.cluster.kubeconfig)) for party in ends}
    named = {
        party: Opening(f"way-{job}", job, WAY[:1] if party == WAY[1] else (), WAY[1:] if party == WAY[0] else ())
        for party in ends
    }
    try:
        for party, each in openings.items():
            await each.put(named[party])
        yield
    finally:
        for party, each in openings.items():
            await each.remove(named[party].name)
            await each.close()


def carries(scene: scenes.Scene, *, within: float) -> bool:
    """Tell whether the agent of the first party gets a connection to that of the second within so many seconds."""
    sender, taker = (scene.pods[scene.plan.namespace_of(party), "agent"] for party in WAY)
    address = f"grpc+tls://{taker.address}:{PORTS['exchange']}"

    def tried() -> bool:
        try:
            asyncio.run(knock(">".join(WAY), address, within=within))
        except TimedOut:
            return False
        return True

    return scene.inside(sender, tried)


def test_nothing_gets_through_but_what_policy_is_for_before_during_and_after_a_job(scene):
    async def run() -> Matrix:
        matrix = await asyncio.to_thread(isolation, scene.occasion(), scene.hosts, phase="before")
        async with opened(scene, *WAY):
            assert await asyncio.to_thread(carries, scene, within=OPENS_SECONDS)
            matrix += await asyncio.to_thread(isolation, scene.occasion(WAY), scene.hosts, phase="during")
        assert await asyncio.to_thread(scene.until_shut, carries)
        return matrix + await asyncio.to_thread(isolation, scene.occasion(), scene.hosts, phase="after")

    matrix = asyncio.run(run())
    scenes.written(matrix, scene.cluster.folder / "isolation.json")
    matrix.check()
    assert matrix.phases == ("before", "during", "after")
    outsider = [cell for cell in matrix.cells if cell.source == "outsider" and cell.expected]
    assert {cell.target for cell in outsider if cell.phase == "before"} >= {
        "metadata",
        "api server",
        "kubelet of north-1",
    }
    assert all(cell.observed for cell in outsider)
    jobs = [cell for cell in matrix.cells if cell.source.startswith(("job", "hostile"))]
    assert jobs
    assert not any(cell.observed for cell in jobs)


@pytest.mark.parametrize("end", WAY)
def test_a_way_of_which_one_end_alone_is_open_is_shut(scene, end):
    async def run() -> bool:
        async with opened(scene, end, job=f"half-{end}"):
            return await asyncio.to_thread(carries, scene, within=1.0)

    assert not asyncio.run(run())


def test_jobs_that_share_a_way_leave_it_open_for_each_other(scene):
    async def run() -> None:
        async with opened(scene, *WAY, job="first"):
            assert await asyncio.to_thread(carries, scene, within=OPENS_SECONDS)
            async with opened(scene, *WAY, job="second"):
                pass
            for _ in range(20):
                assert await asyncio.to_thread(carries, scene, within=0.5)
        assert await asyncio.to_thread(scene.until_shut, carries)

    asyncio.run(run())


PROBE = """
try() { busybox timeout 2 busybox nc -w 2 "$1" "$2" </dev/null >/dev/null 2>&1 && echo "$1:$2"; }
PATH=/bin
%s
busybox nslookup -type=a kubernetes.default.svc.cluster.local >/dev/null 2>&1 && echo names
busybox timeout 2 busybox wget -q -O - http://%s/ >/dev/null 2>&1 && echo metadata
[ -e /var/run/secrets/kubernetes.io ] && echo token
exit 0
"""


def test_a_shell_in_the_pod_of_a_job_finds_nothing_that_a_stranger_finds(scene):
    own = "hostile of north"
    targets = [t for t in scene.occasion().targets if t.protocol == "tcp" and t.served and t.name != own]
    lines = "\n".join(f"try {target.address} {target.port} &" for target in targets) + "\nwait"
    script = PROBE % (lines, scenes.METADATA)
    where = scene.plan.namespace_of("north")
    assert pod_networks.shell(scene.cluster, where, "hostile", script).split() == []
    stranger = pod_networks.shell(scene.cluster, scene.outside, "outsider", script).split()
    assert {f"{t.address}:{t.port}" for t in targets if t.kind in ("api-server", "kubelet", "world")} <= set(stranger)
    assert "names" in stranger
