"""The warm pool: pods that have started and wait for a job. Each is taken once, and replaced at once."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from functools import partial

from dynamos.jobs.pods.api import WARM
from dynamos.jobs.pods.couriers import Courier
from dynamos.jobs.pods.makers import Made, Maker
from dynamos.jobs.pods.shapes import Shape
from dynamos.kit.errors import Conflict, DynamosError, Unavailable

logger = logging.getLogger(__name__)

READY_SECONDS = 60.0
_AGAIN_SECONDS = (1.0, 30.0)
_BACKSTOP_SECONDS = 86_400.0
"""A warm pod has a long deadline of its own, which the job that takes it makes shorter. It cannot be made longer."""


@dataclass(slots=True, eq=False)
class Warm:
    """A pod whose containers all wait for work."""

    made: Made
    courier: Courier


@dataclass(slots=True)
class _Shelf:
    wanted: int = 0
    ready: list[Warm] = field(default_factory=list)
    works: set[asyncio.Task[None]] = field(default_factory=set)


class Pool:
    """Keeps as many warm pods of each shape as `size` says."""

    def __init__(self, maker: Maker, *, most: int, longest: float) -> None:
        self._maker = maker
        self._most = most
        self._longest = longest
        self._shelves: dict[Shape, _Shelf] = {}
        self._closed = False

    def size(self, shape: Shape, count: int) -> None:
        """Keep `count` warm pods of this shape, but never more than the profile allows. 0 ends those that wait."""
        if self._closed:
            return
        shelf = self._shelves.setdefault(shape, _Shelf())
        shelf.wanted = max(0, min(count, self._most))
        while len(shelf.ready) > shelf.wanted:
            self._drop(shelf.ready.pop(0))
        self._fill(shape, shelf)

    @property
    def facts(self) -> dict[str, dict[str, int]]:
        """By shape, how many pods are wanted, wait, and are being made."""
        return {
            shape.key: {"wanted": shelf.wanted, "ready": len(shelf.ready), "coming": len(shelf.works)}
            for shape, shelf in self._shelves.items()
            if shelf.wanted or shelf.ready or shelf.works
        }

    async def take(self, shape: Shape, *, seconds: float) -> Warm | None:
        """Take a warm pod of this shape, which the cluster ends after `seconds` from now. None: there is none."""
        shelf = self._shelves.get(shape)
        while shelf is not None and shelf.ready:
            warm = shelf.ready.pop(0)
            if not warm.courier.alive:
                self._drop(warm)
                continue
            age = time.monotonic() - warm.made.born
            try:
                await self._maker.pods.take(warm.made.name, seconds=age + seconds)
            except Conflict as error:
                logger.warning("pod.taken-already", extra={"pod": warm.made.name, "error": str(error)})
                self._drop(warm)
            except BaseException:
                self._drop(warm)
                raise
            else:
                return warm
        return None

    def replace(self, shape: Shape) -> None:
        """Make what is missing of this shape, and of no other."""
        if shape in self._shelves and not self._closed:
            self._fill(shape, self._shelves[shape])

    def renew(self) -> None:
        """Replace pods that have waited too long, one of each shape at a time; forget what nobody wants."""
        now = time.monotonic()
        for shape, shelf in list(self._shelves.items()):
            for warm in [each for each in shelf.ready if not each.courier.alive]:
                shelf.ready.remove(warm)
                self._drop(warm)
            old = [warm for warm in shelf.ready if now - warm.made.born > self._longest]
            for warm in old[:1]:
                shelf.ready.remove(warm)
                self._drop(warm)
            self._fill(shape, shelf)
            if not shelf.wanted and not shelf.works and not shelf.ready:
                del self._shelves[shape]

    async def close(self) -> None:
        """End every pod that waits or is being made."""
        self._closed = True
        works = [task for shelf in self._shelves.values() for task in shelf.works]
        for task in works:
            task.cancel()
        await asyncio.gather(*works, return_exceptions=True)
        for shelf in self._shelves.values():
            for warm in shelf.ready:
                await warm.courier.close()
                self._maker.end(warm.made.name)
            shelf.ready.clear()

    def _fill(self, shape: Shape, shelf: _Shelf) -> None:
        for _ in range(shelf.wanted - len(shelf.ready) - len(shelf.works)):
            task = asyncio.create_task(self._add(shape, shelf))
            shelf.works.add(task)
            task.add_done_callback(shelf.works.discard)

    async def _add(self, shape: Shape, shelf: _Shelf) -> None:
        """Make one pod and wait until it is warm; where the cluster does not let us, try again later and later."""
        pause, longest = _AGAIN_SECONDS
        while len(shelf.ready) < shelf.wanted and not self._closed:
            try:
                warm = await warmed(self._maker, shape, pool=WARM)
            except DynamosError as error:
                logger.warning("pool.not-filled", extra={"shape": shape.key, "error": str(error)})
                await asyncio.sleep(pause)
                pause = min(2 * pause, longest)
                continue
            if len(shelf.ready) < shelf.wanted:
                shelf.ready.append(warm)
                warm.courier.gone = partial(self._lost, shape, shelf, warm)
                logger.info("pool.warm", extra={"shape": shape.key, "pod": warm.made.name})
            else:
                self._drop(warm)
            return

    def _lost(self, shape: Shape, shelf: _Shelf, warm: Warm) -> None:
        """Replace a pod that went while it waited."""
        if warm in shelf.ready:
            shelf.ready.remove(warm)
            logger.warning("pool.lost", extra={"shape": shape.key, "pod": warm.made.name})
            self._drop(warm)
            if not self._closed:
                self._fill(shape, shelf)

    def _drop(self, warm: Warm) -> None:
        warm.courier.let_go()
        self._maker.end(warm.made.name)


async def warmed(maker: Maker, shape: Shape, *, pool: str) -> Warm:
    """Make a pod and wait until all its containers wait for work. Nothing is left of one that does not come so far."""
    async with maker.starting:
        return await _warmed(maker, shape, pool=pool)


async def _warmed(maker: Maker, shape: Shape, *, pool: str) -> Warm:
    where = maker.home.party
    made = await maker.make(shape, pool=pool, seconds=_BACKSTOP_SECONDS)
    courier = None
    try:
        courier = await maker.reach(made, within=READY_SECONDS, where=where)
        await maker.unless_trouble(made, courier.ready(len(shape.slots), within=READY_SECONDS), where=where)
        _see_well(courier, where)
    except BaseException:
        if courier is not None:
            await courier.close()
        maker.end(made.name)
        raise
    return Warm(made, courier)


def _see_well(courier: Courier, where: str) -> None:
    """Raises Unavailable where a container, or the pod, has ended before it had work."""
    if courier.failed is not None:
        why, log = courier.failed.why, courier.failed.log.strip()
        raise Unavailable(f"a container ended before it had work: {why}", where=where, code="start-failed", log=log)
    if not courier.alive:
        raise Unavailable("the pod ended before it had work", where=where, code="runner-lost")
