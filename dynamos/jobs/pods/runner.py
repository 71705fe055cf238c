"""The runner `kubernetes`: one pod per job part, one container per step, used once, warm where it was foreseen."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from dynamos.jobs.parts import Streams
from dynamos.jobs.pods.advisers import Adviser
from dynamos.jobs.pods.api import REHEARSAL, Pods
from dynamos.jobs.pods.lookouts import Lookout
from dynamos.jobs.pods.makers import Maker
from dynamos.jobs.pods.podparts import PodPart
from dynamos.jobs.pods.pools import Pool, warmed
from dynamos.jobs.pods.settings import Home, PodsConfig
from dynamos.jobs.pods.shapes import Shape, Slot, shape_of
from dynamos.jobs.runners import Assignment, RunningPart
from dynamos.jobs.wires import close_all
from dynamos.kit.errors import Cancelled, DynamosError, Unavailable

logger = logging.getLogger(__name__)

_TEND_SECONDS = 1.0
_NEEDED = ("network", "seccomp", "pid", "mount")


class KubernetesRunner:
    """Runs every part in a pod of its own, which its own agent's pod owns.

    Open it with `open`, which rehearses: a pod is made, and tells what holds in it.
    """

    name = "kubernetes"

    def __init__(self, config: PodsConfig, home: Home, pods: Pods, *, data: Path | None) -> None:
        self._pods = pods
        self._data = (data, config.data_at) if data and (config.claim or config.config_map) else None
        self._config = config
        self._lookout = Lookout(pods, home.party, scheduling=float(config.scheduling))
        self._maker = Maker(config, home, pods, self._lookout)
        self.pool = Pool(self._maker, most=config.warm, longest=float(config.warm_for))
        self._adviser = Adviser(config.warm, time.monotonic)
        self._advice: dict[Shape, int] = {}
        self._parts: dict[PodPart, asyncio.Task[None]] = {}
        self._tending = asyncio.create_task(self._tend())
        self._isolation: tuple[str, ...] = ()

    @classmethod
    async def open(
        cls, config: PodsConfig, home: Home, pods: Pods, *, data: Path | None = None, required: bool = False
    ) -> KubernetesRunner:
        """Open the runner: what an earlier life of this agent left goes, and one pod tells what holds.

        Raises what keeps pods from starting, and with `required` Unavailable where services would not be isolated.
        """
        runner = cls(config, home, pods, data=data)
        try:
            await runner.hear(home.address)
            await runner._rehearse(required=required)
        except BaseException:
            await runner.close()
            raise
        return runner

    async def hear(self, address: str) -> None:
        """Hear from pods themselves that they are up, at an address of ours, if there is one. Raises Unavailable."""
        await self._lookout.listen(address)

    @property
    def isolation(self) -> tuple[str, ...]:
        """What holds between a service and all else, as a pod told of itself."""
        return self._isolation

    async def start(self, assignment: Assignment, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> RunningPart:
        """Have the part run in a pod. Whatever keeps the pod from that is in the outcome."""
        began = time.monotonic()
        try:
            Streams(assignment, inputs, outputs).check()
        except BaseException:
            close_all([*inputs.values(), *outputs.values()])
            raise
        shape = shape_of(assignment, self._config)
        self._adviser.asked(shape)
        work = PodPart(assignment, shape, self._maker, self.pool, data=self._data, began=began)
        task = asyncio.create_task(work.run(dict(inputs), dict(outputs)))
        self._parts[work] = task
        task.add_done_callback(lambda _: self._parts.pop(work, None))
        return work

    async def close(self) -> None:
        """End every pod, those that work and those that wait."""
        self._tending.cancel()
        for work in tuple(self._parts):
            work.part.lost(Cancelled("the runner was closed"))
        await asyncio.gather(*self._parts.values(), return_exceptions=True)
        await self.pool.close()
        await self._maker.close()
        await self._lookout.close()
        await self._pods.close()

    async def _rehearse(self, *, required: bool) -> None:
        shape = Shape((Slot(image=self._config.image),))
        warm = await warmed(self._maker, shape, pool=REHEARSAL)
        self._isolation = warm.courier.isolation
        await warm.courier.close()
        self._maker.end(warm.made.name)
        missing = [name for name in _NEEDED if name not in self._isolation]
        if missing and required:
            raise Unavailable(
                f"services cannot be isolated in this cluster: no {', '.join(missing)}", code="isolation",
                where=self._config.namespace, hint="with isolation: preferred jobs run without",
            )  # fmt: skip
        if missing:
            logger.warning("pods.not-isolated", extra={"missing": missing})

    async def _tend(self) -> None:
        """Have as many pods wait as are worth it."""
        while True:
            await asyncio.sleep(_TEND_SECONDS)
            with suppress(DynamosError):
                for shape, count in self._adviser.advise().items():
                    if self._advice.get(shape, 0) != count:  # others may have a word as well: only news counts
                        self.pool.size(shape, count)
                        self._advice[shape] = count
                    if count == 0:
                        self._advice.pop(shape, None)
                self.pool.renew()
