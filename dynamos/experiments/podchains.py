"""Chains in pods of a cluster: by pods that are made for them or wait for them already, or by plain Jobs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from lightkube.resources.core_v1 import Pod

from dynamos.experiments import chains
from dynamos.experiments.chains import Chain, Times
from dynamos.experiments.plainjobs import JobPods, JobRunner
from dynamos.experiments.rooms import Place, room
from dynamos.jobs.pods.lightkubes import LightkubePods
from dynamos.jobs.pods.runner import KubernetesRunner
from dynamos.jobs.pods.settings import AGENT, Home, PodsConfig
from dynamos.jobs.pods.shapes import shape_of
from dynamos.jobs.runners import Runner
from dynamos.kit.errors import Refused, TimedOut, Unavailable
from dynamos.kit.waits import until

COLD, WARM, JOB = RUNNERS = ("kubernetes-cold", "kubernetes-warm", "kubernetes-job")
UNREACHED: Final = "pods-unreached"
_WARM_SECONDS = 90.0
_GONE_SECONDS = 60.0
_HINT = "run the script in the cluster, or on a machine that has a route to its pods"


class _Pods(LightkubePods):
    """The pods of one agent, which can be waited for until they are gone: a node that ends one starts another later."""

    async def gone(self) -> bool:
        """Tell whether there are none."""
        return not [pod async for pod in self._client.list(Pod, labels={AGENT: self._home.labels[AGENT]})]


def run(kind: str, chain: Chain, place: Place, *, times: int = 1, warmups: int = 1) -> list[Times]:
    """Run a chain so often, one after the other, in pods of a namespace that is made for that and goes afterwards.

    All that is in the chain's folder of data is given to pods. Raises Unavailable, with the code `pods-unreached` where
    pods run but are not reached from here, and what else keeps pods from running.
    """
    with room(place, chain.data) as config:
        return asyncio.run(_run(kind, chain, config, place.address(), times=times, warmups=warmups))


async def _run(kind: str, chain: Chain, config: PodsConfig, address: str, *, times: int, warmups: int) -> list[Times]:
    found = []
    async with _runner(kind, chain, config, address) as (runner, ready):
        for number in range(warmups + times):
            await ready()
            try:
                found.append(await chains.once(runner, chain, number))
            except (TimedOut, Refused) as error:  # nobody answers at a pod's address, or somebody else does
                if "last seen: Running" not in str(error) and error.detail_code != "stranger":
                    raise
                what = "pods of this cluster run, and are not reached from here"
                raise Unavailable(what, where=config.namespace, code=UNREACHED, hint=_HINT) from None
    return found[warmups:]


@asynccontextmanager
async def _runner(
    kind: str, chain: Chain, config: PodsConfig, address: str
) -> AsyncIterator[tuple[Runner, Callable[[], Awaitable[None]]]]:
    """Give a runner, which pods can hail at `address` as they do an agent, and what is waited for before each run."""
    home = Home("alone", pod=f"alone-{time.monotonic_ns()}", address=address)
    pods = JobPods(config, home) if kind == JOB else _Pods(config, home)
    told = config if kind == WARM else config.model_copy(update={"warm": 0})
    runner = KubernetesRunner(told, home, pods, data=chain.data)
    shape = shape_of(chain.assignment(0), config)

    async def ready() -> None:
        if kind == WARM:
            runner.pool.size(shape, 1)
            await until("a pod is warm", waits, within=_WARM_SECONDS, every=0.02)
        elif isinstance(pods, _Pods):
            await until("the pod of the run before is gone", pods.gone, within=_GONE_SECONDS, every=0.1)

    async def waits() -> bool:
        return bool(runner.pool.facts.get(shape.key, {}).get("ready"))

    try:
        await runner.hear(address)
        yield (JobRunner(runner, pods) if isinstance(pods, JobPods) else runner), ready
    finally:
        await runner.close()
