"""Warm pods: taken once, replaced, sized, renewed, and gone at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from dynamos.jobs.pods.runner import KubernetesRunner
from dynamos.jobs.pods.shapes import Shape, Slot
from dynamos.kit.errors import Conflict, Unavailable
from dynamos.kit.waits import until
from support import runners as on
from support.pods import LocalPods, courier_program, local_runner

PIECE = on.chain("numbers", "total")
SHAPE = Shape((Slot("dynamos"), Slot("dynamos")))
LONG_SECONDS = 60.0


@pytest.fixture(autouse=True)
def _built() -> None:
    courier_program()


def _with_pool(case: Callable[[KubernetesRunner, LocalPods], Awaitable[None]], **changed: object) -> None:
    async def run() -> None:
        pods = LocalPods()
        runner = await local_runner(pods, **{"warm": 4, **changed})
        try:
            async with asyncio.timeout(2 * LONG_SECONDS):
                await case(runner, pods)
        finally:
            await runner.close()
        assert pods.pods == {}

    asyncio.run(run())


async def _ready(runner: KubernetesRunner, count: int) -> None:
    async def enough() -> bool:
        return sum(facts["ready"] for facts in runner.pool.facts.values()) == count

    await until(f"{count} pods wait", enough, within=LONG_SECONDS)


async def _sum(runner: KubernetesRunner) -> str:
    outcome, results = await on.finish(runner, on.assignment(PIECE, deadline=LONG_SECONDS))
    assert outcome.error is None
    assert on.rows(results["total-out"]) == [45]
    (pod,) = {usage.pod for usage in outcome.usages}
    return pod


def test_a_job_takes_a_warm_pod_which_is_used_once_and_replaced() -> None:
    async def case(runner: KubernetesRunner, pods: LocalPods) -> None:
        runner.pool.size(SHAPE, 1)
        await _ready(runner, 1)
        assert await _sum(runner) == "warm"
        await _ready(runner, 1)
        assert await _sum(runner) == "warm"
        assert len(pods.taken) == len(set(pods.taken)) == 2

    _with_pool(case)


def test_an_empty_pool_means_a_cold_pod_and_the_record_says_so() -> None:
    async def case(runner: KubernetesRunner, pods: LocalPods) -> None:
        assert await _sum(runner) == "cold"
        assert pods.taken == []

    _with_pool(case, warm=0)


def test_demand_makes_the_pool() -> None:
    async def case(runner: KubernetesRunner, _: LocalPods) -> None:
        assert await _sum(runner) == "cold"
        await _ready(runner, 1)
        assert await _sum(runner) == "warm"

    _with_pool(case)


def test_of_two_that_take_the_same_pods_at_once_each_pod_has_one_winner() -> None:
    async def case(runner: KubernetesRunner, pods: LocalPods) -> None:
        runner.pool.size(SHAPE, 3)
        await _ready(runner, 3)
        names = [
            name for name in pods.pods if pods.pods[name].manifest["metadata"]["labels"]["dynamos.dev/pool"] == "warm"
        ]

        async def take(name: str) -> list[str]:
            with suppress(Conflict):
                await pods.take(name, seconds=60)
                return [name]
            return []

        won = await asyncio.gather(*(take(name) for name in names * 2))
        assert sorted(name for each in won for name in each) == sorted(names)
        # who comes later than others finds a conflict, and goes on with a pod of its own
        assert await _sum(runner) == "cold"

    _with_pool(case)


def test_more_jobs_at_once_than_pods_share_none() -> None:
    async def case(runner: KubernetesRunner, pods: LocalPods) -> None:
        runner.pool.size(SHAPE, 2)
        await _ready(runner, 2)
        kinds = await asyncio.gather(*(_sum(runner) for _ in range(4)))
        assert sorted(kinds)[-2:] == ["warm", "warm"]
        assert len(pods.taken) == len(set(pods.taken))

    _with_pool(case)


def test_a_pool_is_never_larger_than_allowed_and_shrinks_when_told() -> None:
    async def case(runner: KubernetesRunner, pods: LocalPods) -> None:
        runner.pool.size(SHAPE, 100)
        await _ready(runner, 2)
        runner.pool.size(SHAPE, 0)

        async def none() -> bool:
            return not pods.pods

        await until("no pod waits", none, within=LONG_SECONDS)
        assert runner.pool.facts == {}

    _with_pool(case, warm=2)


def test_a_pod_that_dies_while_it_waits_is_replaced_and_never_given_out() -> None:
    async def case(runner: KubernetesRunner, pods: LocalPods) -> None:
        runner.pool.size(SHAPE, 1)
        await _ready(runner, 1)
        (first,) = pods.pods
        pods.kill(first)

        async def other() -> bool:
            return first not in pods.pods and any(facts["ready"] for facts in runner.pool.facts.values())

        await until("another pod waits", other, within=LONG_SECONDS)
        assert await _sum(runner) == "warm"
        assert first not in pods.taken

    _with_pool(case)


def test_a_pod_that_has_waited_too_long_is_replaced() -> None:
    async def case(runner: KubernetesRunner, pods: LocalPods) -> None:
        runner.pool.size(SHAPE, 1)
        await _ready(runner, 1)
        (first,) = pods.pods

        async def renewed() -> bool:
            return first not in pods.pods and bool(pods.made)

        await until("the pod is replaced", renewed, within=LONG_SECONDS)

    _with_pool(case, warm_for="100ms")


def test_a_cluster_that_refuses_leaves_the_pool_empty_until_it_does_not() -> None:
    async def case(runner: KubernetesRunner, pods: LocalPods) -> None:
        pods.refuses = Unavailable("the cluster is busy")
        runner.pool.size(SHAPE, 1)

        async def tried() -> bool:
            return runner.pool.facts[SHAPE.key]["coming"] == 1

        await until("the pool tries", tried, within=LONG_SECONDS)
        pods.refuses = None
        await _ready(runner, 1)

    _with_pool(case)
