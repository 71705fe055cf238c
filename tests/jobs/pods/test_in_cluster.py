"""What only a real cluster can show: its limits, its owners, its walls, and its races."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from cluster.clusters import Cluster
from cluster.images import BUSYBOX

from dynamos.jobs.pods.api import WARM
from dynamos.jobs.pods.lightkubes import LightkubePods
from dynamos.jobs.pods.pools import warmed
from dynamos.jobs.pods.runner import KubernetesRunner
from dynamos.jobs.pods.settings import Home
from dynamos.jobs.pods.shapes import Shape, Slot
from dynamos.kit.errors import Conflict
from dynamos.model.services import Limits
from support import runners as on
from support.cluster_pods import PodsInCluster, party_in
from support.clusters import eventually, shell_pod

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("cluster")]
LONG_SECONDS = 150.0
AT_ONCE = 20
HOSTILE = """
try() { "$@" >/dev/null 2>&1 && echo "$name," ; }
PATH=/bin
say=$(
name=nothing; try busybox true
name=api; try busybox timeout 3 busybox nc -w 2 10.96.0.1 443 </dev/null
name=metadata; try busybox timeout 3 busybox nc -w 2 169.254.169.254 80 </dev/null
name=courier; try busybox timeout 3 busybox nc -w 2 127.0.0.1 7070 </dev/null
name=names; try busybox timeout 3 busybox nslookup kubernetes.default
name=token; try busybox test -e /var/run/secrets/kubernetes.io/serviceaccount/token
name=pass; try busybox test -e /pass
name=root; try busybox touch /here
name=launch; try busybox touch /dynamos/bin/here
name=socket; try busybox touch /dynamos/step/here
name=data; try busybox test -e /data
name=others; try busybox test -e /dynamos/steps
name=mount; try busybox mount -t tmpfs none /tmp
name=user; try busybox test "$(busybox id -u)" = 0
name=cluster; try busybox test -n "$KUBERNETES_SERVICE_HOST"
)
echo "{\\"code\\": \\"tried\\", \\"message\\": \\"$(echo $say)\\"}" >&$DYNAMOS_ERROR
exit 4
"""


@pytest.fixture(scope="module")
def pods_in_cluster(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PodsInCluster]:
    with party_in(cluster, tmp_path_factory.mktemp("images")) as party:
        yield party


def _run(party: PodsInCluster, case: Callable[[KubernetesRunner], Awaitable[None]], **changed: Any) -> None:
    """Run a case with a runner, in the cluster's network; nothing is left after it."""

    async def run() -> None:
        runner = await party.runner(**changed)
        try:
            async with asyncio.timeout(2 * LONG_SECONDS):
                await case(runner)
        finally:
            await runner.close()

    def inside() -> None:
        party.enter()
        asyncio.run(run())

    party.cluster.inside(inside)
    eventually("every pod is gone", lambda: not party.pods(), within=60)
    secrets = json.loads(party.kubectl("get", "secrets", "-l", "dynamos.dev/role=job", "-o", "json"))
    assert secrets["items"] == []


def test_a_step_that_wants_too_much_memory_is_told_so_and_no_other_step_is(pods_in_cluster: PodsInCluster) -> None:
    async def case(runner: KubernetesRunner) -> None:
        limits = Limits.model_validate({"memory": "64MiB"})
        outcome, _ = await on.finish(runner, on.assignment(on.chain("hoards", "waits"), limits=limits, deadline=120))
        assert outcome.error is not None
        assert outcome.error.as_dict()["code"] == "out-of-memory"
        assert outcome.error.where == "UVA/hoards"

    _run(pods_in_cluster, case)


def test_a_hostile_image_finds_no_network_no_token_and_nothing_of_others(pods_in_cluster: PodsInCluster) -> None:
    async def case(runner: KubernetesRunner) -> None:
        command = {"hostile": ("/bin/busybox", "sh", "-c", HOSTILE)}
        work = on.assignment(
            on.chain("numbers", "hostile"), commands=command, images={"hostile": BUSYBOX}, deadline=120
        )
        outcome, _ = await on.finish(runner, work)
        assert outcome.error is not None
        assert outcome.error.as_dict()["code"] == "tried"
        assert outcome.error.message == "nothing,"  # the one try that nothing forbids: the others were made too

    _run(pods_in_cluster, case)


def test_an_image_that_nobody_has_is_told_long_before_the_deadline(pods_in_cluster: PodsInCluster) -> None:
    async def case(runner: KubernetesRunner) -> None:
        work = on.assignment(on.chain("numbers"), images={"numbers": "dynamos.local/nobody-has:it"}, deadline=3600)
        outcome, _ = await on.finish(runner, work)
        assert outcome.error is not None
        assert outcome.error.as_dict()["code"] == "image"

    _run(pods_in_cluster, case)


def test_a_pod_that_no_node_can_hold_is_told_with_what_the_scheduler_says(pods_in_cluster: PodsInCluster) -> None:
    async def case(runner: KubernetesRunner) -> None:
        outcome, _ = await on.finish(runner, on.assignment(on.chain("numbers"), deadline=3600))
        assert outcome.error is not None
        assert outcome.error.as_dict()["code"] == "unschedulable"

    async def impossible() -> None:
        config = pods_in_cluster.config(scheduling="1s", node_selector={"nowhere": "at-all"})
        home = pods_in_cluster.home()
        runner = KubernetesRunner(config, home, LightkubePods(config, home), data=None)
        try:
            await case(runner)
        finally:
            await runner.close()

    def inside() -> None:
        pods_in_cluster.enter()
        asyncio.run(impossible())

    pods_in_cluster.cluster.inside(inside)


def test_a_quota_that_is_exceeded_is_told(pods_in_cluster: PodsInCluster) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}, "spec": {"hard": {"pods": "0"}}}

    async def case(runner: KubernetesRunner) -> None:
        await asyncio.to_thread(_apply_inside, pods_in_cluster, quota)
        outcome, _ = await on.finish(runner, on.assignment(on.chain("numbers"), deadline=60))
        assert outcome.error is not None
        assert outcome.error.as_dict()["code"] == "quota"

    try:
        _run(pods_in_cluster, case)
    finally:
        pods_in_cluster.kubectl("delete", "resourcequota", "few")


def _apply_inside(party: PodsInCluster, manifest: dict[str, Any]) -> None:
    party.inside_kubectl("apply", "-f", "-", stdin=json.dumps(manifest))


def test_of_two_agents_that_take_the_same_pods_each_pod_has_one_winner(pods_in_cluster: PodsInCluster) -> None:
    async def case(runner: KubernetesRunner) -> None:
        shape = Shape((Slot(pods_in_cluster.images["dynamos"]),))
        warm = [await warmed(runner._maker, shape, pool=WARM) for _ in range(3)]
        others = [pods_in_cluster.client() for _ in range(2)]

        async def take(client: LightkubePods, name: str) -> list[str]:
            with suppress(Conflict):
                await client.take(name, seconds=60)
                return [name]
            return []

        names = [each.made.name for each in warm]
        won = await asyncio.gather(*(take(client, name) for name in names for client in others * 3))
        assert Counter(name for each in won for name in each) == Counter(names)
        for each in warm:
            await each.courier.close()
            runner._maker.end(each.made.name)
        for client in others:
            await client.close()

    _run(pods_in_cluster, case)


def test_twenty_jobs_at_once_are_all_done_each_in_a_pod_of_its_own(pods_in_cluster: PodsInCluster) -> None:
    async def case(runner: KubernetesRunner) -> None:
        piece = on.chain("numbers", "double", "total")
        runner.pool.size(Shape(tuple(Slot(pods_in_cluster.images["dynamos"]) for _ in range(3))), 2)
        made: list[str] = []
        create = runner._pods.create

        async def counted(secret: Any, pod: Any) -> None:
            made.append(pod["metadata"]["name"])
            await create(secret, pod)

        runner._pods.create = counted  # type: ignore[method-assign]
        works = [on.assignment(piece, deadline=LONG_SECONDS, numbers={"rows": n}) for n in range(AT_ONCE)]
        done = await asyncio.gather(*(on.finish(runner, work) for work in works))
        assert [outcome.error for outcome, _ in done] == [None] * AT_ONCE
        assert [on.rows(results["total-out"]) for _, results in done] == [[n * (n - 1)] for n in range(AT_ONCE)]
        assert len(made) == len(set(made))

    _run(pods_in_cluster, case, warm=2, scheduling="120s")


def test_everything_goes_with_the_agents_pod(pods_in_cluster: PodsInCluster) -> None:
    party = pods_in_cluster
    confined = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    party.run(shell_pod("agent", securityContext=confined))
    uid = json.loads(party.kubectl("get", "pod", "agent", "-o", "json"))["metadata"]["uid"]

    async def abandoned() -> None:
        home, config = Home("UVA", "agent", uid), party.config()
        runner = KubernetesRunner(config, home, LightkubePods(config, home), data=None)
        warm = await warmed(runner._maker, Shape((Slot(config.image),)), pool=WARM)
        runner._tending.cancel()
        await runner._lookout.close()
        await runner._pods.close()
        await warm.courier.close()  # as a kernel does for an agent that was killed: nobody deletes what it made

    def inside() -> None:
        party.enter()
        asyncio.run(abandoned())

    party.cluster.inside(inside)
    assert party.pods()
    party.kubectl("delete", "pod", "agent")
    eventually("the pods of a dead agent are gone", lambda: not party.pods(), within=60)
