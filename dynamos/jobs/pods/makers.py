"""Makes pods and reaches their couriers, and sees that what is given up goes."""

from __future__ import annotations

import asyncio
import logging
import secrets
import ssl
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from dynamos.jobs.pods import manifests
from dynamos.jobs.pods.api import Pods
from dynamos.jobs.pods.couriers import Courier
from dynamos.jobs.pods.lookouts import Lookout
from dynamos.jobs.pods.passes import Pass
from dynamos.jobs.pods.settings import PORT, Home, PodsConfig
from dynamos.jobs.pods.shapes import Shape
from dynamos.kit.errors import DynamosError
from dynamos.kit.waits import bounded

logger = logging.getLogger(__name__)
T = TypeVar("T")

_AGAIN_SECONDS = (0.5, 5.0)
_LAST_SECONDS = 10.0
_REMEMBERED = 1000


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """A pod that was made at `born` on the monotonic clock. `context` is TLS to its courier."""

    name: str
    shape: Shape
    context: ssl.SSLContext
    born: float


class Maker:
    """Makes the pods of one agent. Who makes one holds `starting` until it is reached: a node that starts many at once
    starts each of them later."""

    def __init__(self, config: PodsConfig, home: Home, pods: Pods, lookout: Lookout) -> None:
        self.config = config
        self.home = home
        self.pods = pods
        self.lookout = lookout
        self.starting = asyncio.Semaphore(config.starts)
        self._names: set[str] = set()
        self._before: deque[str] = deque(maxlen=_REMEMBERED)
        self._ending: set[asyncio.Task[None]] = set()
        lookout.strange = self._clear_away

    async def make(self, shape: Shape, *, pool: str, seconds: float, services: Sequence[str] = ()) -> Made:
        """Make a pod, which the cluster ends after `seconds`. Its containers get ready for `services`, or for any."""
        name = f"job-{secrets.token_hex(6)}"
        fresh = Pass.fresh(name)
        secret = manifests.secret(name, fresh, self.home, self.config)
        pod = manifests.pod(name, shape, self.home, self.config, pool=pool, seconds=seconds, services=services)
        born = time.monotonic()
        self._names.add(name)
        try:
            await self.pods.create(secret, pod)
        except BaseException:  # also where we are told to stop: it may have been made
            self.end(name)
            raise
        return Made(name, shape, fresh.context(), born)

    async def reach(self, made: Made, *, within: float, where: str) -> Courier:
        """Connect to a pod's courier as soon as it is up. Raises why it will not be, or TimedOut."""

        found: list[Courier] = []

        async def knock(address: str) -> Courier:
            found.append(await Courier.reach((address, PORT), made.context, within=within))
            return found[-1]

        work = bounded(f"pod {made.name} starts", self._find(made, knock), within=within)
        try:
            return await self.unless_trouble(made, work, where=where)
        except BaseException:
            for courier in found:  # it came when nobody waited any more
                courier.let_go()
            raise

    async def _find(self, made: Made, knock: Callable[[str], Awaitable[Courier]]) -> Courier:
        """Knock where a pod says to be, unless the cluster tells that it is elsewhere: then there."""
        place = await self.lookout.whereabouts(made.name)
        knocking = asyncio.ensure_future(knock(place))
        told = asyncio.ensure_future(self.lookout.address(made.name))
        try:
            await asyncio.wait((knocking, told), return_when=asyncio.FIRST_COMPLETED)
            if not (knocking.done() and knocking.exception() is None) and await told != place:
                return await knock(told.result())
            return await knocking
        finally:
            for task in (knocking, told):
                task.cancel()
            await asyncio.gather(knocking, told, return_exceptions=True)

    async def unless_trouble(self, made: Made, work: Coroutine[Any, Any, T], *, where: str) -> T:
        """Do `work`, unless the cluster tells that the pod will not: then raise why."""
        trouble = asyncio.ensure_future(self.lookout.trouble(made.name, where=where))
        working = asyncio.ensure_future(work)
        try:
            await asyncio.wait((trouble, working), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            raise trouble.result()
        finally:
            for task in (trouble, working):
                task.cancel()
            await asyncio.gather(trouble, working, return_exceptions=True)

    def _clear_away(self, name: str) -> None:
        """End a pod that an earlier life of this agent has left: nobody has its credentials any more."""
        if name not in self._names and name not in self._before:
            self._names.add(name)
            logger.warning("pod.left-behind", extra={"pod": name})
            self.end(name)

    def end(self, name: str) -> None:
        """See that a pod goes, however long the cluster is away."""
        task = asyncio.create_task(self._end(name))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _end(self, name: str) -> None:
        pause, longest = _AGAIN_SECONDS
        while True:
            try:
                await self.pods.delete(name)
            except DynamosError as error:
                logger.warning("pod.not-deleted", extra={"pod": name, "error": str(error)})
                await asyncio.sleep(pause)
                pause = min(2 * pause, longest)
            else:
                self.lookout.forget(name)
                self._names.discard(name)
                self._before.append(name)  # what was told of it may come late
                return

    async def close(self) -> None:
        """Wait until what was to go is gone, for a while: the rest goes with the agent's pod."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_SECONDS):
                while self._ending:
                    await asyncio.wait(tuple(self._ending))
        for task in tuple(self._ending):
            task.cancel()
