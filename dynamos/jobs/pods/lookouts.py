"""What the cluster tells of this agent's pods, for whoever waits for one of them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress

from dynamos.jobs.pods import seen
from dynamos.jobs.pods.api import Pods
from dynamos.jobs.pods.hails import HAIL_PORT, Hails
from dynamos.jobs.pods.seen import PodSeen
from dynamos.kit.errors import DynamosError, TimedOut, Unavailable

logger = logging.getLogger(__name__)

_AGAIN_SECONDS = (0.2, 5.0)


class Lookout:
    """Watches the pods of one agent, through every fault of the cluster. `strange` is told the name of each pod that is
    seen, and may know it or not."""

    def __init__(self, pods: Pods, party: str, *, scheduling: float) -> None:
        self._pods = pods
        self._party = party
        self._scheduling = scheduling
        self._seen: dict[str, PodSeen] = {}
        self._hailed: dict[str, str] = {}
        self._hails: Hails | None = None
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)
        self.strange: Callable[[str], object] = lambda _: None
        self._task = asyncio.create_task(self._watch())

    async def listen(self, address: str) -> None:
        """Hear from pods themselves that they are up, at an address of ours; at none they are not heard.

        Raises Unavailable.
        """
        if not address:
            return
        try:
            self._hails = await Hails.open(address, self.hailed)
        except OSError as error:
            raise Unavailable(f"nobody can hail us at port {HAIL_PORT}: {error.strerror}", where=address) from error

    def last(self, name: str) -> PodSeen:
        """Give what was last told of a pod."""
        return self._seen.get(name) or PodSeen(name)

    def forget(self, name: str) -> None:
        """Keep nothing of a pod any more."""
        self._seen.pop(name, None)
        self._hailed.pop(name, None)

    def hailed(self, name: str, address: str) -> None:
        """Take note of the address that a pod says to have. Counts only for one that is waited for."""
        if name in self._waiting and name not in self._hailed:
            self._hailed[name] = address
            self._wake(name)

    async def whereabouts(self, name: str) -> str:
        """Wait for an address at which a pod may be: the cluster tells it, or whoever says to be that pod."""
        while not (found := self.last(name).address or self._hailed.get(name, "")):
            await self._change(name)
        return found

    async def address(self, name: str) -> str:
        """Wait for the address that the cluster tells of a pod."""
        while not (found := self.last(name).address):
            await self._change(name)
        return found

    async def trouble(self, name: str, *, where: str) -> DynamosError:
        """Wait until it is known that a pod will not do its work, and say why. Waits for ever for one that does."""
        end = time.monotonic() + self._scheduling
        while True:
            pod = self.last(name)
            if (error := seen.trouble(pod, where=where)) is not None:
                return error
            late = not pod.node and time.monotonic() >= end
            if late and pod.unplaced:
                return seen.unplaced(pod, where=where, seconds=self._scheduling)
            with suppress(TimeoutError):
                async with asyncio.timeout(None if pod.node or late else max(0.0, end - time.monotonic()) + 0.01):
                    await self._change(name)

    async def ended(self, name: str, container: str, *, within: float) -> seen.Container:
        """Wait until the cluster tells how a container ended. Raises TimedOut."""
        try:
            async with asyncio.timeout(within):
                while (found := self.last(name).container(container)).exit is None:
                    await self._change(name)
        except TimeoutError:
            raise TimedOut(f"the cluster did not tell within {within:g} s how {container} ended") from None
        return found

    async def close(self) -> None:
        """Watch no more."""
        if self._hails is not None:
            self._hails.close()
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _change(self, name: str) -> None:
        event = asyncio.Event()
        self._waiting[name].add(event)
        try:
            await event.wait()
        finally:
            self._waiting[name].discard(event)
            if not self._waiting[name]:
                del self._waiting[name]

    async def _watch(self) -> None:
        pause, longest = _AGAIN_SECONDS
        while True:
            try:
                async for pod in self._pods.watch():
                    pause = _AGAIN_SECONDS[0]
                    self._told(pod)
            except DynamosError as error:
                logger.warning("pods.unseen", extra={"party": self._party, "error": str(error)})
            await asyncio.sleep(pause)
            pause = min(2 * pause, longest)

    def _told(self, pod: PodSeen) -> None:
        self._seen[pod.name] = pod
        if not pod.gone and not pod.leaving:
            self.strange(pod.name)
        self._wake(pod.name)
        if pod.gone and pod.name not in self._waiting:
            self.forget(pod.name)

    def _wake(self, name: str) -> None:
        for event in self._waiting.get(name, ()):
            event.set()
