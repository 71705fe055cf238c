"""The carrier: a process that carries a party's streams where the agent's own network does not reach.

gRPC opens its sockets in the network of its process, so a container's streams need a process in the container. It is
forked from the nursery, which was forked before there was any thread, and enters the container's namespaces before it
uses gRPC. It is given pipes by descriptor, and takes nobody's word: it checks each stream's grant itself. What it says
over its wire and is told there is in `Carried`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from dynamos.exchange.faults import pack, unpack
from dynamos.exchange.receivers import Receiver
from dynamos.exchange.senders import Sender
from dynamos.jobs import descriptors, linux, wires
from dynamos.kit.clocks import SystemClock
from dynamos.kit.credentials import Credentials
from dynamos.kit.errors import Broken, Cancelled, DynamosError
from dynamos.middleware.agent.exchanges import LocalExchange
from dynamos.middleware.agent.inbox import Inbox

log = logging.getLogger(__name__)
ACKNOWLEDGED_SECONDS = 15.0


def nurse(wire: socket.socket) -> NoReturn:
    """Live as the nursery: fork a carrier for each wire that comes, until the agent is gone."""
    try:
        os.setsid()
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how a carrier ended: its wire tells
        descriptors.keep_only([0, 1, 2, wire.fileno()])
        while (order := wires.receive(wire)) is not None:
            _bear(*order, nursery=wire)
    except BaseException:
        log.exception("nursery.broken")
    finally:
        os._exit(0)


def _bear(settings: dict[str, Any], fds: list[int], *, nursery: socket.socket) -> None:
    """Fork a carrier, born in the container's pid namespace: it ends with the container. `fds` are its wire, and the
    network and pid namespaces that it is to have."""
    wire, *spaces = fds
    home = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if spaces:
            linux.setns(spaces[1], linux.NEW_PID)
        if os.fork() == 0:
            nursery.close()
            _live(settings, socket.socket(fileno=wire), spaces)
    except OSError as error:
        log.warning("carrier.unborn", extra={"error": str(error)})
    finally:
        with suppress(OSError):
            linux.setns(home, linux.NEW_PID)
        wires.close_all([*fds, home])


def _live(settings: dict[str, Any], wire: socket.socket, spaces: list[int]) -> NoReturn:
    try:
        os.setsid()
        for number in (signal.SIGCHLD, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        if spaces:
            linux.setns(spaces[0], linux.NEW_NET)
            if os.geteuid() != 0:  # what it took to get in is not needed any more
                linux.set_no_capabilities()
        descriptors.keep_only([0, 1, 2, wire.fileno()])
        asyncio.run(Carrier(wire, settings).work())
    except BaseException:
        log.exception("carrier.broken")
    finally:
        os._exit(0)


class Carrier:
    """Does what the agent asks for over `wire`, until that ends."""

    def __init__(self, wire: socket.socket, settings: dict[str, Any]) -> None:
        self._wire = wire
        credentials = Credentials(*(Path(settings[name]) for name in ("certificate", "key", "authority")))
        inbox = Inbox(settings["party"], Path(settings["orchestrator"]), SystemClock())
        receiver = Receiver(credentials, host=settings["host"], port=settings["port"], admit=inbox.admit)
        self._exchange = LocalExchange(Sender(credentials), receiver, inbox)
        self._saying = threading.Lock()
        self._sends: dict[int, asyncio.Task[None]] = {}
        self._confirmations: dict[int, asyncio.Future[None]] = {}
        self._aborts: dict[int, threading.Event] = {}
        self._numbers = 0
        self._alone = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def work(self) -> None:
        """Listen, say where, and serve."""
        try:
            await self._exchange.start()
        except DynamosError as error:
            self._say({"failed": 0, "error": pack(error)})
            return
        self._say({"address": self._exchange.address})
        loop = asyncio.get_running_loop()
        orders: asyncio.Queue[tuple[dict[str, Any], list[int]] | None] = asyncio.Queue()
        hearing = threading.Thread(target=self._hear, args=(loop, orders), name="carrier-wire", daemon=True)
        hearing.start()
        while (order := await orders.get()) is not None:
            await self._obey(*order)
        # Without its agent it ends as it is: peers see a stream that broke, and whose agent is gone is found out
        # elsewhere. When a part has ended well there is nothing left to do.
        os._exit(0)

    def _hear(
        self, loop: asyncio.AbstractEventLoop, orders: asyncio.Queue[tuple[dict[str, Any], list[int]] | None]
    ) -> None:
        while (order := wires.receive(self._wire)) is not None:
            # Told at once: the event loop may wait for the thread that waits for this.
            if "acknowledged" in order[0]:
                if event := self._aborts.pop(order[0]["acknowledged"], None):
                    event.set()
            else:
                loop.call_soon_threadsafe(orders.put_nowait, order)
        self._alone = True
        for event in tuple(self._aborts.values()):
            event.set()
        loop.call_soon_threadsafe(orders.put_nowait, None)

    async def _obey(self, order: dict[str, Any], fds: list[int]) -> None:
        match order["do"]:
            case "expect":
                await self._expect(order["job"], dict(zip(order["edges"], fds, strict=True)))
                self._say({"done": order["number"]})
            case "forget":
                self._begin(self._forget(order))
            case "send":
                number = order["number"]
                self._sends[number] = self._begin(self._send(number, order, fds[0]))
            case "cancel":
                if task := self._sends.get(order["number"]):
                    task.cancel()
            case "confirm":
                self._confirm(order)

    def _begin(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _expect(self, job: str, pipes: dict[str, int]) -> None:
        def aborted(error: DynamosError) -> None:
            with self._saying:
                self._numbers += 1
                number = self._numbers
            event = self._aborts[number] = threading.Event()
            self._say({"aborted": number, "job": job, "error": pack(error)})
            if not self._alone and not event.wait(ACKNOWLEDGED_SECONDS):
                self._aborts.pop(number, None)
                log.warning("abort.unheard", extra={"job": job})

        await self._exchange.expect(job, pipes, aborted)

    async def _forget(self, order: dict[str, Any]) -> None:
        error = unpack(order["error"]) or Cancelled("the part has ended", code="ended")
        await self._exchange.forget(order["job"], error)
        self._say({"done": order["number"]})

    async def _send(self, number: int, order: dict[str, Any], source: int) -> None:
        confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def confirm() -> None:
            self._confirmations[number] = confirmed
            self._say({"confirm": number})
            await confirmed

        words = {name: order[name] for name in ("peer", "job", "edge", "grant", "compression")}
        try:
            transfer = await self._exchange.send(order["address"], source_fd=source, confirm=confirm, **words)
            self._say({"sent": number, "transfer": transfer.as_json()})
        except asyncio.CancelledError:
            self._say({"failed": number, "error": pack(Cancelled("the stream was cancelled"))})
        except DynamosError as error:
            self._say({"failed": number, "error": pack(error)})
        except Exception:
            log.exception("transfer.broken job=%s edge=%s", order["job"], order["edge"])
            defect = Broken("the carrier failed; the agent's log says how", where=order["edge"])
            self._say({"failed": number, "error": pack(defect)})
        finally:
            self._sends.pop(number, None)
            self._confirmations.pop(number, None)

    def _confirm(self, order: dict[str, Any]) -> None:
        waiting = self._confirmations.pop(order["number"], None)
        if waiting is None or waiting.done():
            return
        if "error" in order:
            waiting.set_exception(unpack(order["error"]) or Cancelled("the step failed"))
        else:
            waiting.set_result(None)

    def _say(self, message: dict[str, Any]) -> None:
        with self._saying, suppress(OSError):  # an agent that is gone is seen elsewhere
            wires.send(self._wire, message)
