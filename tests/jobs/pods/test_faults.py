"""What becomes of a part when the cluster has no room, no image, no node, or no time."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from dynamos.jobs.pods.couriers import Courier
from dynamos.jobs.pods.manifests import container_of
from dynamos.jobs.pods.passes import Pass
from dynamos.jobs.pods.pools import warmed
from dynamos.jobs.pods.runner import KubernetesRunner
from dynamos.jobs.pods.settings import PORT, Home
from dynamos.jobs.pods.shapes import Shape, Slot
from dynamos.jobs.runners import Outcome
from dynamos.kit.errors import Full, Refused, Unavailable
from dynamos.kit.waits import until
from support import runners as on
from support.pods import LocalPods, config, courier_program, local_runner

LONG_SECONDS = 60.0
Case = Callable[[KubernetesRunner, LocalPods], Awaitable[None]]


@pytest.fixture(autouse=True)
def _built() -> None:
    courier_program()


def _with_runner(case: Case, **changed: object) -> None:
    async def run() -> None:
        pods = LocalPods()
        runner = await local_runner(pods, **changed)
        try:
            async with asyncio.timeout(2 * LONG_SECONDS):
                await case(runner, pods)
        finally:
            pods.away = None
            await runner.close()
        assert pods.pods == {}

    asyncio.run(run())


async def _ended(runner: KubernetesRunner, work: on.Assignment, disturb: Callable[[], object] | None = None) -> Outcome:
    """Run a part that says when it runs; disturb it then."""
    reading, writing = os.pipe()
    running = await runner.start(work, {}, {work.part.outgoing[0].name: writing})
    try:
        if disturb is not None:
            assert await asyncio.to_thread(os.read, reading, 1)
            disturb()
        return await running.wait()
    finally:
        os.close(reading)


def _code(outcome: Outcome) -> str:
    assert outcome.error is not None
    assert outcome.error.where.startswith("UVA")
    return str(outcome.error.as_dict()["code"])


def _stubborn(**more: Any) -> on.Assignment:
    return on.assignment(on.chain("stubborn", "says-so"), deadline=LONG_SECONDS, **more)


def test_quota_is_told_as_it_is() -> None:
    async def case(runner: KubernetesRunner, pods: LocalPods) -> None:
        pods.refuses = Full("exceeded quota: pods=5", where="UVA", code="quota")
        assert _code(await _ended(runner, _stubborn())) == "quota"

    _with_runner(case)


def test_an_image_that_is_not_to_be_had_is_told_before_the_deadline() -> None:
    async def case(runner: KubernetesRunner, pods: LocalPods) -> None:
        pods.missing_images = {"nobody/has:it"}
        work = _stubborn(images={"stubborn": "nobody/has:it"})
        outcome = await _ended(runner, work)
        assert _code(outcome) == "image"
        assert outcome.error is not None
        assert "nobody/has:it" in outcome.error.message

    _with_runner(case)


def test_a_cluster_without_room_is_told_with_what_the_scheduler_says() -> None:
    async def case(runner: KubernetesRunner, pods: LocalPods) -> None:
        pods.room = False
        outcome = await _ended(runner, _stubborn())
        assert _code(outcome) == "unschedulable"
        assert outcome.error is not None
        assert "Insufficient memory" in outcome.error.message

    _with_runner(case, scheduling="200ms")


def test_a_pod_that_does_not_start_ends_at_the_deadline() -> None:
    async def case(runner: KubernetesRunner, pods: LocalPods) -> None:
        pods.room = False
        outcome = await _ended(runner, on.assignment(on.chain("numbers"), deadline=0.3))
        assert _code(outcome) == "deadline"
        assert outcome.error is not None
        assert "Insufficient memory" in outcome.error.message

    _with_runner(case)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ({"phase": "Failed", "reason": "Evicted", "message": "low on memory"}, "evicted"),
        ({"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"}]},
         "node-lost"),
    ],
)  # fmt: skip
def test_a_pod_that_is_taken_away_is_told(status: dict[str, Any], code: str) -> None:
    async def case(runner: KubernetesRunner, pods: LocalPods) -> None:
        outcome = await _ended(runner, _stubborn(), lambda: pods.tell(pods.made[-1], **status))
        assert _code(outcome) == code

    _with_runner(case)


def test_a_container_that_is_killed_with_its_keeper_ends_the_part() -> None:
    async def case(runner: KubernetesRunner, pods: LocalPods) -> None:
        outcome = await _ended(runner, _stubborn(), lambda: pods.kill(pods.made[-1], container_of("1")))
        assert _code(outcome) == "lost"
        assert outcome.error is not None
        assert outcome.error.where == "UVA/stubborn"

    _with_runner(case)


def test_pods_go_also_when_the_cluster_was_away() -> None:
    async def case(runner: KubernetesRunner, pods: LocalPods) -> None:
        def away() -> None:
            pods.away = Unavailable("the cluster does not answer", code="cluster-away")
            pods.kill(pods.made[-1])

        await _ended(runner, _stubborn(), away)
        assert pods.pods
        pods.away = None

        async def gone() -> bool:
            return not pods.pods

        await until("the pod goes", gone, within=LONG_SECONDS)

    _with_runner(case)


def test_what_an_earlier_life_of_the_agent_left_goes() -> None:
    async def case() -> None:
        pods = LocalPods()
        first = await local_runner(pods)
        warm = await warmed(first._maker, Shape((Slot("dynamos"),)), pool="warm")
        left = warm.made.name
        await warm.courier.close()  # its process dies
        first._tending.cancel()
        await first._lookout.close()
        second = await local_runner(pods)

        async def gone() -> bool:
            return left not in pods.pods

        await until("what was left goes", gone, within=LONG_SECONDS)
        await second.close()

    asyncio.run(case())


def test_data_that_is_not_on_the_volume_is_refused() -> None:
    async def case(runner: KubernetesRunner, _: LocalPods) -> None:
        from pathlib import Path  # noqa: PLC0415

        work = on.assignment(on.chain("lists-data"), data={"lists-data": Path("/etc")})
        outcome, _results = await on.finish(runner, work)
        assert _code(outcome) == "no-volume"

    _with_runner(case)


def test_a_courier_answers_nobody_but_its_agent() -> None:
    async def case(runner: KubernetesRunner, pods: LocalPods) -> None:
        warm = await warmed(runner._maker, Shape((Slot("dynamos"),)), pool="warm")
        address = (pods.pods[warm.made.name].address, PORT)
        plain = socket.create_connection(address, timeout=5)
        plain.sendall(b'{"control": true}\n')
        assert not plain.recv(100).startswith(b"{")
        plain.close()
        with pytest.raises(Refused):  # another pod's credentials
            await Courier.reach(address, Pass.fresh("other").context(), within=5)
        second = await Courier.reach(address, warm.made.context, within=5)  # its own, but it has an agent already
        await until("it is turned away", _dead(second), within=5)
        assert warm.courier.alive
        await warm.courier.close()
        runner._maker.end(warm.made.name)

    _with_runner(case)


def test_a_second_assignment_ends_the_pod() -> None:
    async def case(runner: KubernetesRunner, _: LocalPods) -> None:
        warm = await warmed(runner._maker, Shape((Slot("dynamos"),)), pool="warm")
        empty: dict[str, Any] = {"steps": {}, "inner": [], "incoming": [], "outgoing": []}
        warm.courier.assign(empty)
        warm.courier.assign(empty)
        await until("the pod ends", _dead(warm.courier), within=LONG_SECONDS)
        runner._maker.end(warm.made.name)

    _with_runner(case)


def _dead(courier: Courier) -> Callable[[], Awaitable[bool]]:
    async def probe() -> bool:
        return not courier.alive

    return probe


def test_a_config_names_one_volume() -> None:
    with pytest.raises(ValueError, match="not in both"):
        config(config_map="rows")


def test_an_agent_outside_of_a_cluster_is_told_what_is_missing() -> None:
    from dynamos.jobs.pods.lightkubes import LightkubePods  # noqa: PLC0415
    from dynamos.kit.errors import BadInput  # noqa: PLC0415

    with pytest.raises(BadInput) as raised:
        LightkubePods(config(kubeconfig="/nowhere"), Home("UVA"))
    assert raised.value.as_dict()["code"] == "no-cluster"
