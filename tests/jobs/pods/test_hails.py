"""A pod says that it is up before the cluster does, and what the cluster tells counts."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from dynamos.jobs.pods.hails import HAIL_PORT
from dynamos.jobs.pods.settings import Home
from dynamos.kit.errors import Unavailable
from dynamos.kit.waits import until
from support import runners as on
from support.pods import LocalPods, courier_program, local_runner, loopback

LONG_SECONDS = 30.0


@pytest.fixture(autouse=True)
def _built() -> None:
    courier_program()


class Silent(LocalPods):
    """A cluster that tells the address of no pod, or a late one, once it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.late = asyncio.Event()

    def tell(self, name: str, **status: Any) -> None:
        address = status.pop("podIP", "")
        super().tell(name, **status)
        if address:
            asyncio.get_running_loop().create_task(self._tell_late(name, address))

    async def _tell_late(self, name: str, address: str) -> None:
        await self.late.wait()
        if name in self.pods:
            super().tell(name, podIP=address)


def hail(agent: str, text: bytes, address: str = "127.0.0.1") -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind((address, 0))
        one.sendto(text, (agent, HAIL_PORT))


def test_a_job_runs_in_a_pod_of_which_the_cluster_never_tells_the_address() -> None:
    async def run() -> None:
        runner = await local_runner(Silent())
        try:
            outcome, results = await on.finish(runner, on.assignment(on.chain("numbers", "total")))
            assert outcome.error is None
            assert on.rows(results["total-out"]) == [45]
        finally:
            await runner.close()

    asyncio.run(run())


def test_false_hails_delay_a_pod_until_the_cluster_tells_and_hurt_nobody() -> None:
    async def run() -> None:
        agent, pods = loopback(), Silent()
        runner = await local_runner(pods, home=Home("UVA", pod="agent-0", uid="0", address=agent))
        try:
            job = asyncio.create_task(on.finish(runner, on.assignment(on.chain("numbers", "total"))))

            async def made() -> bool:
                return len(pods.made) > 1  # the rehearsal's came first

            await until("the job's pod is made", made, within=LONG_SECONDS, every=0.001)
            for text in (pods.made[-1].encode(), b"job-nobody", b"x" * 2000, b"\xff\xfe", b""):
                hail(agent, text, loopback())
            pods.late.set()
            outcome, _ = await job
            assert outcome.error is None
        finally:
            await runner.close()

    asyncio.run(run())


def test_an_agent_that_cannot_be_hailed_says_so_at_once() -> None:
    async def run() -> None:
        with pytest.raises(Unavailable) as raised:
            await local_runner(home=Home("UVA", pod="agent-0", uid="0", address="192.0.2.1"))
        assert str(HAIL_PORT) in str(raised.value)

    asyncio.run(run())
