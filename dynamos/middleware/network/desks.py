"""The desk of a network helper: a socket at the site, one for each party, where its agent asks for its container.

The agent shows the grant of a part; the helper checks it, opens just the ways that the part needs, and hands over the
container's network by descriptor. Ways are open as long as the agent is there and has not closed them; an agent whose
helper was started again opens them again by itself.

    agent -> helper   {number, do: "seat"}   {number, do: "open", grant}   {number, do: "close", job}
    helper -> agent   {number, answer} + descriptors of the network and pid namespaces, or {number, error}
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import shutil
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dynamos.exchange.faults import pack, unpack
from dynamos.jobs import wires
from dynamos.kit.errors import Broken, DynamosError, TimedOut, Unavailable

log = logging.getLogger(__name__)
SOCKET = "desk.sock"
ANSWER_SECONDS = 20.0
_PAUSE, _LONGEST_PAUSE = 0.05, 2.0


@dataclass(slots=True)
class Given:
    """What the desk gave: words, and descriptors that are the taker's."""

    words: dict[str, Any]
    fds: list[int] = field(default_factory=list)

    def close(self) -> None:
        wires.close_all(self.fds)
        self.fds = []


Serve = Callable[[str, dict[str, Any]], Awaitable[Given]]
"""Does what the agent of a party asks for. Raises DynamosError."""


class Desk:
    """The helper's side: serves the agent of one party at `folder`. `gone` is called when a caller is gone. Where the
    agent runs as a `user` of its own, the socket is that user's; the folder lets nobody else in, and nobody write."""

    def __init__(
        self, folder: Path, party: str, serve: Serve, gone: Callable[[str], Awaitable[None]], *, user: str = ""
    ) -> None:
        self._folder = folder
        self._user = user
        self._party = party
        self._serve = serve
        self._gone = gone
        self._listener: socket.socket | None = None
        self._callers: set[socket.socket] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Listen."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self._folder / SOCKET).unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        _at(self._folder, listener.bind)
        if self._user:
            self._folder.chmod(0o710)
            shutil.chown(self._folder, group=self._user)
            shutil.chown(self._folder / SOCKET, self._user, self._user)
        listener.listen(16)
        listener.setblocking(False)
        self._listener = listener
        asyncio.get_running_loop().add_reader(listener.fileno(), self._accept)

    async def close(self) -> None:
        loop = asyncio.get_running_loop()
        for sock in (*self._callers, self._listener):
            if sock is not None:
                loop.remove_reader(sock.fileno())
                sock.close()
        self._callers.clear()
        self._listener = None
        for task in self._tasks:
            task.cancel()

    def _accept(self) -> None:
        assert self._listener is not None
        with suppress(BlockingIOError):
            caller, _ = self._listener.accept()
            self._callers.add(caller)
            asyncio.get_running_loop().add_reader(caller.fileno(), self._hear, caller)

    def _hear(self, caller: socket.socket) -> None:
        heard = wires.receive(caller)
        if heard is None:
            asyncio.get_running_loop().remove_reader(caller.fileno())
            self._callers.discard(caller)
            caller.close()
            self._begin(self._gone(self._party))
            return
        message, fds = heard
        wires.close_all(fds)
        self._begin(self._answer(caller, message))

    def _begin(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, caller: socket.socket, message: dict[str, Any]) -> None:
        number = message.get("number", 0)
        given = Given({})
        try:
            given = await self._serve(self._party, message)
            said: dict[str, Any] = {"number": number, "answer": given.words}
        except DynamosError as error:
            said = {"number": number, "error": pack(error)}
        except Exception:
            log.exception("desk.broken", extra={"party": self._party})
            said = {"number": number, "error": pack(Broken("the network helper failed; its log says how"))}
        with suppress(OSError):
            wires.send(caller, said, given.fds)
        given.close()


class Customer:
    """The agent's side of its desk."""

    def __init__(self, folder: Path, party: str) -> None:
        self._folder = folder
        self._party = party
        self._numbers = itertools.count(1)
        self._wire: socket.socket | None = None
        self._waiting: dict[int, asyncio.Future[Given]] = {}
        self._open: dict[str, str] = {}
        self._again: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()

    async def start(self, *, within: float = ANSWER_SECONDS) -> None:
        """Connect, unless we are. Raises Unavailable where there is no helper within the bound."""
        end = asyncio.get_running_loop().time() + within
        pause = _PAUSE
        async with self._starting:
            while self._wire is None:
                try:
                    self._connect()
                except OSError as error:
                    if asyncio.get_running_loop().time() + pause > end:
                        what = f"the site's network helper is away: {error}"
                        raise Unavailable(what, where=self._party) from None
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE)

    async def seat(self) -> Given:
        """Give the party's own container: its `address`, and descriptors of its network and pid namespaces."""
        return await self._ask({"do": "seat"})

    async def open(self, job: str, grant: str) -> Given:
        """Open the ways of a part, and give the container that it is in. Raises what the helper raises."""
        self._open[job] = grant
        try:
            return await self._ask({"do": "open", "grant": grant})
        except BaseException:
            self._open.pop(job, None)
            raise

    async def shut(self, job: str) -> dict[str, Any]:
        """Close the ways of a part again, and give what passed."""
        self._open.pop(job, None)
        return (await self._ask({"do": "close", "job": job})).words

    def close(self) -> None:
        """Leave: all ways close."""
        if self._again:
            self._again.cancel()
        if self._wire:
            asyncio.get_running_loop().remove_reader(self._wire.fileno())
            self._wire.close()
            self._wire = None

    def _connect(self) -> None:
        wire = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            _at(self._folder, wire.connect)
        except OSError:
            wire.close()
            raise
        self._wire = wire
        asyncio.get_running_loop().add_reader(wire.fileno(), self._hear)

    async def _ask(self, message: dict[str, Any]) -> Given:
        if self._wire is None:
            await self.start()
        assert self._wire is not None
        number = next(self._numbers)
        answer: asyncio.Future[Given] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            wires.send(self._wire, {**message, "number": number})
            async with asyncio.timeout(ANSWER_SECONDS):
                return await answer
        except TimeoutError:
            raise TimedOut(f"the network helper did not answer within {ANSWER_SECONDS:g} s") from None
        except OSError:
            raise Unavailable("the site's network helper is away", where=self._party) from None
        finally:
            self._waiting.pop(number, None)

    def _hear(self) -> None:
        assert self._wire is not None
        heard = wires.receive(self._wire)
        if heard is None:
            self._lost()
            return
        said, fds = heard
        answer = self._waiting.get(said["number"])
        if answer is None or answer.done():
            wires.close_all(fds)
        elif "error" in said:
            wires.close_all(fds)
            answer.set_exception(unpack(said["error"]) or Broken("the helper told of an error that nobody knows"))
        else:
            answer.set_result(Given(said["answer"], fds))

    def _lost(self) -> None:
        assert self._wire is not None
        asyncio.get_running_loop().remove_reader(self._wire.fileno())
        self._wire.close()
        self._wire = None
        log.warning("desk.lost", extra={"party": self._party})
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(Unavailable("the site's network helper went away", where=self._party))
        self._again = asyncio.create_task(self._reopen(), name="ways opened again")

    async def _reopen(self) -> None:
        """Find the helper again, and open again what should be open."""
        while True:
            try:
                await self.start()
                for grant in list(self._open.values()):
                    (await self._ask({"do": "open", "grant": grant})).close()
            except DynamosError as error:
                log.warning("desk.not-reopened", extra={"party": self._party, "error": str(error)})
                await asyncio.sleep(_LONGEST_PAUSE)
            else:
                log.info("desk.reopened", extra={"party": self._party, "jobs": len(self._open)})
                return


def _at(folder: Path, work: Callable[[str], None]) -> None:
    """Bind or connect in a folder, however long its path is."""
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        work(f"/proc/self/fd/{fd}/{SOCKET}")
    finally:
        os.close(fd)
