"""One job part in one pod: from the pod's start, warm or cold, to its end."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dynamos.jobs.parts import PartAtWork
from dynamos.jobs.pods.api import COLD
from dynamos.jobs.pods.couriers import Courier
from dynamos.jobs.pods.makers import Made, Maker
from dynamos.jobs.pods.manifests import container_of
from dynamos.jobs.pods.pools import Pool
from dynamos.jobs.pods.pumps import Pumps
from dynamos.jobs.pods.seen import OUT_OF_MEMORY
from dynamos.jobs.pods.settings import PORT
from dynamos.jobs.pods.shapes import Shape
from dynamos.jobs.pods.works import work_of
from dynamos.jobs.runners import Assignment, Outcome
from dynamos.jobs.specs import StepReport
from dynamos.kit.errors import Broken, DynamosError, TimedOut, Unavailable
from dynamos.model.plans import Step

logger = logging.getLogger(__name__)

BACKSTOP_SECONDS = 30.0
"""How long after the job's deadline the cluster itself ends a pod."""
GRACE_SECONDS = 5.0
_TOLD_SECONDS = 3.0
"""How long the cluster may take to tell what a node saw: a kubelet looks once a second."""


class PodPart:
    """A part at work in a pod of its own."""

    def __init__(
        self,
        assignment: Assignment,
        shape: Shape,
        maker: Maker,
        pool: Pool,
        *,
        data: tuple[Path, str] | None,
        began: float,
    ) -> None:
        self._assignment = assignment
        self._shape = shape
        self._maker = maker
        self._pool = pool
        self._data = data
        self._end = began + assignment.deadline
        self._steps: dict[int, Step] = dict(enumerate(assignment.part.steps, 1))
        self._courier: Courier | None = None
        self._made: Made | None = None
        self._pumps: Pumps | None = None
        self._flowing = 0
        self._still = asyncio.Event()
        self._hearing: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self.start = COLD
        self.part = PartAtWork(assignment, self._steps, began=began, kill=self._kill)

    async def wait(self) -> Outcome:
        """Wait until every step has ended. The usage of each says whether its pod was warm."""
        outcome = await self.part.wait()
        usages = tuple(usage.model_copy(update={"pod": self.start}) for usage in outcome.usages)
        return replace(outcome, usages=usages)

    async def kill(self, error: DynamosError) -> None:
        """End every step now."""
        self.part.end(error)

    async def run(self, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> None:
        """See the part through; all that was made for it is gone, or on its way, afterwards."""
        left = [*inputs.values(), *outputs.values()]
        bring = asyncio.ensure_future(self._bring())
        self.part.when_done(bring.cancel)  # nobody waits any more
        late = self._loop.call_at(self._loop.time() + self._end + GRACE_SECONDS - time.monotonic(), self._overdue)
        try:
            made, courier = await bring
            self._begin(made, courier, inputs, outputs)
            left = []
            self._pool.replace(self._shape)
            await self._see_through(made)
        except DynamosError as error:
            self.part.lost(error)
        except asyncio.CancelledError:
            if not bring.cancelled():
                raise  # we are told to stop, and not only the start of the pod
        except Exception:
            logger.exception("pod.broken", extra={"party": self._assignment.part.party})
            self.part.lost(Broken("the pod could not be run; the agent's log tells more"))
        finally:
            late.cancel()
            for descriptor in left:
                os.close(descriptor)
            await self._clear()

    async def _bring(self) -> tuple[Made, Courier]:
        """Take a warm pod, or make a cold one, and reach its courier before the job's deadline."""
        warm = await self._pool.take(self._shape, seconds=self._left() + BACKSTOP_SECONDS)
        if warm is not None:
            self.start = "warm"
            self._made, self._courier = warm.made, warm.courier
            return warm.made, warm.courier
        async with self._maker.starting:
            return await self._bring_cold()

    async def _bring_cold(self) -> tuple[Made, Courier]:
        where = self._assignment.part.party
        services = [step.service for step in self._assignment.part.steps]
        made = await self._maker.make(
            self._shape, pool=COLD, seconds=self._left() + BACKSTOP_SECONDS, services=services
        )
        self._made = made
        try:
            self._courier = await self._maker.reach(made, within=max(0.001, self._left()), where=where)
        except TimedOut as error:
            seen = self._maker.lookout.last(made.name)
            last = seen.unplaced or next((c.waiting for c in seen.containers if c.waiting), "") or seen.phase
            raise TimedOut(
                f"the pod did not start before the job's deadline; last seen: {last}", where=where, code="deadline",
                hint="allow more time, or keep pods warm",
            ) from error  # fmt: skip
        return made, self._courier

    def _left(self) -> float:
        return self._end - time.monotonic()

    def _begin(self, made: Made, courier: Courier, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> None:
        courier.report = lambda slot, report: self.part.told(int(slot), report)
        courier.lost = self._container_lost
        courier.gone = self._courier_gone
        if not courier.alive:
            self._courier_gone()
        courier.assign(work_of(self._assignment, self._shape, deadline=max(0.0, self._left()), data=self._data))
        self._pumps = Pumps((courier.address, PORT), made.context)
        self._flowing = len(inputs) + len(outputs)
        for name, descriptor in inputs.items():
            self._pumps.bring(name, descriptor, self._flowed)
        for name, descriptor in outputs.items():
            self._pumps.fetch(name, descriptor, self._flowed)
        if not self._flowing:
            self._still.set()

    async def _see_through(self, made: Made) -> None:
        """Wait for the steps' ends, and after good ones for what is still on its way to its readers."""
        where = self._assignment.part.party
        waiting = asyncio.ensure_future(self.part.wait())
        trouble = asyncio.ensure_future(self._maker.lookout.trouble(made.name, where=where))
        try:
            await asyncio.wait((waiting, trouble), return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                self.part.lost(trouble.result())
                return
            if waiting.result().error is None:
                async with asyncio.timeout(max(0.0, self._left()) + GRACE_SECONDS):
                    await self._still.wait()
        except TimeoutError:
            logger.warning("pod.stream-stuck", extra={"pod": made.name})
        finally:
            for task in (waiting, trouble):
                task.cancel()

    async def _clear(self) -> None:
        for task in tuple(self._hearing):
            task.cancel()
        if self._pumps is not None:
            self._pumps.cut()
        if self._courier is not None:
            await self._courier.close()
        if self._made is not None:
            self._maker.end(self._made.name)

    def _kill(self, number: int) -> None:
        if self._courier is not None and self._pumps is not None:
            self._courier.kill(str(number))
        else:  # it has not begun
            now = time.monotonic()
            report = StepReport(why="killed", running=now, ended=now)
            self._loop.call_soon(self.part.told, number, report)

    def _overdue(self) -> None:
        error = TimedOut(
            "the pod did not end at the job's deadline", where=self._assignment.part.party, code="deadline"
        )
        self.part.lost(error)

    def _container_lost(self, slot: str) -> None:
        self._hear(self._ask_how(int(slot)))

    async def _ask_how(self, number: int) -> None:
        """Ask the cluster how a container ended of which its keeper told nothing."""
        assert self._made is not None
        now = time.monotonic()
        report = StepReport(why="lost", running=now, ended=now)
        try:
            name = container_of(str(number))
            found = await self._maker.lookout.ended(self._made.name, name, within=_TOLD_SECONDS)
        except TimedOut as error:
            report = replace(report, log=str(error))
        else:
            why = "out-of-memory" if found.reason == OUT_OF_MEMORY else "lost"
            report = replace(report, why=why, log=f"{found.reason} ({found.exit}) {found.message}".strip())
        self.part.told(number, report)

    def _courier_gone(self) -> None:
        self._hear(self._ask_why())

    async def _ask_why(self) -> None:
        """Ask the cluster why a pod went; without an answer it is the node, or the way to it."""
        assert self._made is not None
        where, node = self._assignment.part.party, self._maker.lookout.last(self._made.name).node
        error: DynamosError = Unavailable(
            f"the pod on node {node} cannot be reached any more", where=where, code="runner-lost",
            hint="see whether the node is well, and whether the network's policies let the agent reach its pods",
        )  # fmt: skip
        try:
            async with asyncio.timeout(_TOLD_SECONDS):
                error = await self._maker.lookout.trouble(self._made.name, where=where)
        except TimeoutError:
            pass
        self.part.lost(error)

    def _hear(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._hearing.add(task)
        task.add_done_callback(self._hearing.discard)

    def _flowed(self) -> None:
        """Told by a stream's thread when it has ended."""
        try:
            self._loop.call_soon_threadsafe(self._one_less)
        except RuntimeError:  # the loop has ended: nobody waits any more
            return

    def _one_less(self) -> None:
        self._flowing -= 1
        if self._flowing == 0:
            self._still.set()
