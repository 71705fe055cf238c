"""The agent's side of a carrier: an exchange whose streams another process carries.

agent -> carrier   expect {number, job, edges} + a pipe for each;  forget {number, job, error};
                   send {number, address, peer, job, edge, grant} + the pipe;  cancel {number};
                   confirm {number, error?};  acknowledged
carrier -> agent   address;  done {number};  confirm {number};  sent {number, transfer};  failed {number, error};
                   aborted {number, job, error}
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import socket
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from dynamos.exchange.faults import pack, unpack
from dynamos.jobs import wires
from dynamos.jobs.zygotes import count_threads
from dynamos.kit.credentials import Credentials
from dynamos.kit.errors import Broken, Cancelled, DynamosError, TimedOut, Unavailable
from dynamos.middleware.agent.carriers import nurse
from dynamos.middleware.agent.exchanges import Aborted
from dynamos.model.jobs import Transfer
from dynamos.model.plans import Compression

log = logging.getLogger(__name__)
READY_SECONDS = 10.0
ANSWER_SECONDS = 15.0


class Nursery:
    """Where carriers come from: a process forked from this one, before there is any thread."""

    def __init__(self, wire: socket.socket) -> None:
        self._wire = wire
        self._asking = threading.Lock()

    @classmethod
    def fork(cls) -> Self:
        """Fork it. Raises Broken where this process has more than one thread."""
        if (threads := count_threads()) > 1:
            raise Broken(f"this process has {threads} threads; the nursery has to be forked before")
        ours, theirs = wires.pair()
        if os.fork() == 0:
            ours.close()
            nurse(theirs)
        theirs.close()
        return cls(ours)

    async def carrier(self, settings: Settings, spaces: Sequence[int] = ()) -> Carried:
        """Give a fresh carrier that listens. `spaces` are descriptors of the network and the pid namespace that it is
        to live in, which stay the caller's; without them it lives where we do.

        Raises Unavailable where it cannot listen, TimedOut.
        """
        ours, theirs = wires.pair()
        try:
            with self._asking:
                wires.send(self._wire, settings.as_json(), [theirs.fileno(), *spaces])
        except OSError:
            ours.close()
            raise Unavailable("there is no nursery of carriers any more", where=settings.party) from None
        finally:
            theirs.close()
        carried = Carried(ours)
        try:
            async with asyncio.timeout(READY_SECONDS):
                await carried.listening
        except TimeoutError:
            await carried.close()
            raise TimedOut(f"no carrier within {READY_SECONDS:g} s", where=settings.party) from None
        except BaseException:
            await carried.close()
            raise
        return carried

    def close(self) -> None:
        """Let it end, and its carriers when their wires end."""
        self._wire.close()


@dataclass(frozen=True, slots=True)
class Settings:
    """Who a carrier works for, and where it listens."""

    party: str
    credentials: Credentials
    orchestrator: os.PathLike[str]
    host: str
    port: int

    def as_json(self) -> dict[str, Any]:
        paths = {name: str(getattr(self.credentials, name)) for name in ("certificate", "key", "authority")}
        return {
            **paths,
            "party": self.party,
            "orchestrator": str(self.orchestrator),
            "host": self.host,
            "port": self.port,
        }


class Carried:
    """An Exchange. Where the carrier is gone, everything raises Unavailable (carrier-lost)."""

    def __init__(self, wire: socket.socket) -> None:
        self._wire = wire
        self._loop = asyncio.get_running_loop()
        self.listening: asyncio.Future[str] = self._loop.create_future()
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._confirms: dict[int, Callable[[], Awaitable[None]]] = {}
        self._aborted: dict[str, Aborted] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._sending = threading.Lock()
        self._lost = False
        self._hearing = threading.Thread(target=self._hear, name="carrier-wire", daemon=True)
        self._hearing.start()

    @property
    def address(self) -> str:
        return self.listening.result()

    @property
    def lost(self) -> bool:
        """Whether the carrier is gone."""
        return self._lost

    async def expect(self, job: str, pipes: Mapping[str, int], aborted: Aborted) -> None:
        self._aborted[job] = aborted
        await self._ask({"do": "expect", "job": job, "edges": list(pipes)}, list(pipes.values()))

    async def forget(self, job: str, error: DynamosError) -> None:
        self._aborted.pop(job, None)
        with suppress(Unavailable):  # with the carrier, its pipes are gone
            await self._ask({"do": "forget", "job": job, "error": pack(error)})

    async def send(
        self,
        address: str,
        *,
        peer: str,
        job: str,
        edge: str,
        grant: str,
        source_fd: int,
        confirm: Callable[[], Awaitable[None]],
        compression: Compression = "none",
    ) -> Transfer:
        number = next(self._numbers)
        self._confirms[number] = confirm
        words = {"address": address, "peer": peer, "job": job, "edge": edge, "grant": grant, "compression": compression}
        try:
            given = await self._ask({"do": "send", **words}, [source_fd], number=number, within=None)
        except asyncio.CancelledError:
            with suppress(DynamosError):
                await self._say({"do": "cancel", "number": number})
            raise
        finally:
            self._confirms.pop(number, None)
        return Transfer.model_validate(given)

    async def close(self) -> None:
        """End the carrier: it ends its streams when the wire ends."""
        with suppress(OSError):
            self._wire.shutdown(socket.SHUT_RDWR)
        await asyncio.to_thread(self._hearing.join, ANSWER_SECONDS)
        self._wire.close()

    async def _ask(
        self,
        order: dict[str, Any],
        fds: Sequence[int] = (),
        *,
        number: int | None = None,
        within: float | None = ANSWER_SECONDS,
    ) -> Any:
        """Give an order, with descriptors that are the carrier's then, and wait for what comes of it."""
        number = number or next(self._numbers)
        answer = self._answers[number] = self._loop.create_future()
        try:
            try:
                await self._say({**order, "number": number}, fds)
            finally:
                wires.close_all(fds)
            async with asyncio.timeout(within):
                return await answer
        except TimeoutError:
            raise TimedOut(f"the carrier did not {order['do']} within {within:g} s") from None
        finally:
            self._answers.pop(number, None)

    async def _say(self, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
        def work() -> None:
            with self._sending:
                wires.send(self._wire, message, fds)

        if self._lost:
            raise _gone()
        try:
            work()
        except OSError:
            raise _gone() from None

    def _hear(self) -> None:
        """Take what the carrier says, in a thread of its own."""
        while (said := wires.receive(self._wire)) is not None:
            self._loop.call_soon_threadsafe(self._take, said[0])
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._end)

    def _take(self, said: dict[str, Any]) -> None:
        if "address" in said:
            self.listening.set_result(said["address"])
        elif "confirm" in said:
            self._begin(self._confirm(said["confirm"]))
        elif "aborted" in said:
            self._begin(self._abort(said))
        elif said.get("failed") == 0:
            self.listening.set_exception(_error(said))
        else:
            answer = self._answers.get(next(said[word] for word in ("done", "sent", "failed") if word in said))
            if answer is None or answer.done():
                return
            if "failed" in said:
                answer.set_exception(_error(said))
            else:
                answer.set_result(said.get("transfer"))

    def _begin(self, work: Any) -> None:
        task: asyncio.Task[None] = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _confirm(self, number: int) -> None:
        """Ask whoever sends whether the stream counts."""
        confirm = self._confirms.get(number)
        told: dict[str, Any] = {"do": "confirm", "number": number}
        try:
            if confirm is None:
                raise Cancelled("the stream was cancelled")  # noqa: TRY301
            await confirm()
        except DynamosError as error:
            told["error"] = pack(error)
        except Exception:
            log.exception("confirm.broken")
            told["error"] = pack(Broken("the step's end could not be told"))
        with suppress(Unavailable):
            await self._say(told)

    async def _abort(self, said: dict[str, Any]) -> None:
        if aborted := self._aborted.get(said["job"]):
            try:
                await asyncio.to_thread(aborted, _error(said))
            except Exception:
                log.exception("abort.broken job=%s", said["job"])
        with suppress(Unavailable):
            await self._say({"acknowledged": said["aborted"]})

    def _end(self) -> None:
        """The wire has ended: whoever waits learns it, and so do the parts whose streams were arriving."""
        self._lost = True
        if not self.listening.done():
            self.listening.set_exception(_gone())
            self.listening.exception()  # seen, also where nobody waits for it
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(_gone())
        for job, aborted in list(self._aborted.items()):
            self._begin(asyncio.to_thread(aborted, _gone()))
            log.warning("carrier.lost", extra={"job": job})
        self._aborted.clear()


def _gone() -> Unavailable:
    return Unavailable("the process that carries the streams has ended", code="carrier-lost")


def _error(said: dict[str, Any]) -> DynamosError:
    return unpack(said["error"]) or Broken("the carrier told of an error that nobody knows")
