"""The agent's end of a courier: the one connection by which a pod gets its work and tells how it goes."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from dynamos.jobs.specs import StepReport
from dynamos.kit.errors import Refused
from dynamos.kit.waits import bounded, until

_AGAIN_SECONDS = 0.01
_MOST_LINE = 1 << 20
_SILENT_MILLIS = 11_000
_IDLE_SECONDS, _EVERY_SECONDS, _TIMES = 3, 2, 4
_CLOSE_SECONDS = 2.0

Report = Callable[[str, StepReport], object]


class Courier:
    """One pod's courier. `report` is called for each step that has ended, `lost` for one whose container ended without
    a word, `gone` once when the connection ends before `close`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.waiting: set[str] = set()
        self.isolation: tuple[str, ...] = ()
        self.failed: StepReport | None = None
        self.report: Report = lambda _, report: self._keep(report)
        self.lost: Callable[[str], object] = lambda _: self._keep(StepReport(why="lost"))
        self.gone: Callable[[], object] = lambda: None
        self._reader, self._writer = reader, writer
        self.address: str = writer.get_extra_info("peername")[0]
        self.alive = True
        self._changed = asyncio.Event()
        self._hearing = asyncio.create_task(self._hear())

    @classmethod
    async def reach(cls, address: tuple[str, int], context: ssl.SSLContext, *, within: float) -> Courier:
        """Connect as soon as the courier listens. Raises TimedOut, and Refused where somebody else answers."""

        async def attempt() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            try:
                return await asyncio.open_connection(*address, ssl=context, limit=_MOST_LINE)
            except ssl.SSLCertVerificationError:
                raise Refused("who answers is not the courier of this pod", where=address[0], code="stranger") from None

        what = f"the courier of the pod at {address[0]} answers"
        work = until(what, attempt, within=within, every=_AGAIN_SECONDS)
        reader, writer = await bounded(what, work, within=within)
        _notice(writer.get_extra_info("socket"))
        courier = cls(reader, writer)
        courier._say({"control": True})
        return courier

    def assign(self, work: Mapping[str, Any]) -> None:
        """Give the pod its work, once."""
        self._say({"assign": work})

    def kill(self, slot: str, why: str = "killed") -> None:
        """End one step, or see that it never begins."""
        self._say({"kill": slot, "why": why})

    async def ready(self, slots: int, *, within: float) -> None:
        """Wait until the containers of so many slots wait for work. Raises TimedOut. Returns also when one has failed
        or the courier is gone: see `failed` and `alive`."""

        async def enough() -> bool:
            while self.alive and self.failed is None and len(self.waiting) < slots:
                self._changed.clear()
                await self._changed.wait()
            return True

        await bounded(f"{slots} containers wait for work", enough(), within=within)

    def let_go(self) -> None:
        """Let the pod go, without a wait: it ends when we do."""
        self.gone = lambda: None
        self._hearing.cancel()
        self._writer.close()

    async def close(self) -> None:
        """Let the pod go, and wait until it knows, for a while."""
        self.let_go()
        with suppress(OSError, TimeoutError, ssl.SSLError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._writer.wait_closed()

    def _say(self, message: Mapping[str, Any]) -> None:
        if not self._writer.is_closing():
            self._writer.write(json.dumps(message).encode() + b"\n")

    async def _hear(self) -> None:
        with suppress(OSError, ValueError):  # a connection that broke, a courier that talks nonsense
            while line := await self._reader.readline():
                self._told(json.loads(line))
        self.alive = False
        self._changed.set()
        self.gone()

    def _told(self, message: Mapping[str, Any]) -> None:
        slot = str(message.get("slot", ""))
        if message.get("waiting"):
            self.waiting.add(slot)
            held = tuple(map(str, message.get("isolation", ())))
            self.isolation = tuple(n for n in self.isolation if n in held) if self.isolation else held
        elif (ended := message.get("ended")) is not None:
            self.report(slot, report_of(ended, now=time.monotonic()))
        elif message.get("lost"):
            self.lost(slot)
        self._changed.set()

    def _keep(self, report: StepReport) -> None:
        self.failed = self.failed or report


def report_of(told: Mapping[str, Any], *, now: float) -> StepReport:
    """Read what a courier tells of a step that has ended, at `now` on our own monotonic clock."""
    return StepReport(
        status=told["status"],
        why=str(told["why"]),
        running=now - float(told["running_ago"]),
        ended=now - float(told["ended_ago"]),
        cpu=float(told["cpu"]),
        peak=int(told["peak"]),
        isolation=tuple(map(str, told["isolation"] or ())),
        log=str(told["log"]),
        error=str(told["error"]),
    )


def _notice(raw: socket.socket) -> None:
    """Have the connection end soon after a node has gone silent."""
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _IDLE_SECONDS)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _EVERY_SECONDS)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _TIMES)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENT_MILLIS)
