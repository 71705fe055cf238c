"""One unit's connection to the server: mutual TLS, for ever reconnecting, with refusals where they belong.

NATS tells of a forbidden subject by a message of its own, later and elsewhere. Here whoever waits on that subject gets
it as Refused; whoever waits when the connection is lost gets Unavailable.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from dynamos.kit.errors import BadInput, DynamosError, Refused, TimedOut
from dynamos.knowledge.buses import Nobody, Unheard
from dynamos.knowledge.subjects import inbox

T = TypeVar("T")

_log = logging.getLogger(__name__)
_VIOLATION = re.compile(r"permissions violation for (publish|subscription) to \"([^\"]*)\"")


class Connection:
    """A connection to the server. Every call is bounded by its `within`, in seconds."""

    def __init__(self, url: str, unit: str, client: Client) -> None:
        self.url = url
        self.unit = unit
        self.client = client
        self._echoes: dict[bytes, asyncio.Event] = {}
        self._waiting: dict[tuple[str, str], set[asyncio.Future[DynamosError]]] = {}
        self._up = asyncio.Event()
        self._closed = False
        self._distant = False
        self._calls: dict[str, list[Callable[[], None]]] = {"back": [], "closed": []}

    async def request(
        self, subject: str, payload: bytes = b"", *, within: float, headers: dict[str, str] | None = None
    ) -> Msg:
        """Ask and give the one answer. Raises Refused, Unavailable (nobody listens, the server is away), TimedOut."""
        await self.ready(within)
        work = self.client.request(subject, payload, timeout=within + 1, headers=headers)
        return await self._guarded("publish", subject, work, within)

    async def fetch(self, subject: str, payload: bytes, *, within: float) -> list[Msg]:
        """Ask and give the answers of a batch, up to the message that ends it, which is the last one given."""
        await self.ready(within)
        return await self._guarded("publish", subject, self._batch(subject, payload), within)

    async def publish(self, subject: str, payload: bytes, *, within: float) -> None:
        """Send, and return when the server has taken it. Raises Refused, Unavailable, TimedOut."""

        async def work() -> None:
            await self.client.publish(subject, payload)
            await self._echo()

        await self.ready(within)
        await self._guarded("publish", subject, work(), within)

    async def subscribe(
        self, subject: str, call: Callable[[Msg], Awaitable[None]], *, queue: str = "", within: float
    ) -> Subscription:
        """Listen, and return when the server has taken it. The subscription outlives a reconnect. Raises Refused."""
        sub: Subscription | None = None

        async def work() -> Subscription:
            nonlocal sub
            sub = await self.client.subscribe(subject, queue=queue, cb=call)
            await self._echo()
            return sub

        await self.ready(within)
        try:
            return await self._guarded("subscription", subject, work(), within)
        except BaseException:
            if sub is not None:
                await self.unsubscribe(sub)
            raise

    async def unsubscribe(self, sub: Subscription) -> None:
        """Listen no more; without a server there is nothing to do."""
        with suppress(nats.errors.Error, OSError):
            await sub.unsubscribe()

    async def leave(self, sub: Subscription) -> None:
        """Listen no more, and return when everything that came before has been handed on."""
        with suppress(nats.errors.Error, OSError):
            await sub.drain()  # type: ignore[no-untyped-call]

    async def ready(self, within: float) -> None:
        """Wait until the server is there. Raises Unavailable if it is not within `within` seconds."""
        end = time.monotonic() + within
        while not self.client.is_connected:
            if self.closed:
                raise Unheard("the connection to the bus is closed", where=self.url)
            self._up.clear()
            try:
                async with asyncio.timeout(end - time.monotonic()):
                    await self._up.wait()
            except TimeoutError:
                raise Unheard(f"the bus did not come back within {within:g} s", where=self.url) from None

    @property
    def several(self) -> bool:
        """Whether the bus has more than one server, as far as we know."""
        return len(self.client.servers) > 1

    @property
    def closed(self) -> bool:
        """Whether there will be no more connection."""
        return self._closed or self.client.is_closed

    def reached(self, *, hub: bool) -> None:
        """Take note whether the hub answered. A leaf that lost its hub keeps our connection, and says nothing: when the
        hub answers again, that counts as a reconnect."""
        back, self._distant = hub and self._distant, not hub
        if back:
            self._tell_back()

    def on_reconnect(self, call: Callable[[], None]) -> Callable[[], None]:
        """Call after each reconnect; the function given back ends that."""
        return self._on("back", call)

    def on_close(self, call: Callable[[], None]) -> Callable[[], None]:
        """Call when the connection is closed for good; the function given back ends that."""
        return self._on("closed", call)

    async def close(self, *, within: float = 5.0) -> None:
        """Close the connection; who waits gets Unavailable."""
        if not self._closed:
            self._end()
        with suppress(nats.errors.Error, OSError, TimeoutError):
            async with asyncio.timeout(within):
                await self.client.close()

    def _on(self, event: str, call: Callable[[], None]) -> Callable[[], None]:
        calls = self._calls[event]
        calls.append(call)
        return lambda: calls.remove(call) if call in calls else None

    async def introduce(self, within: float) -> None:
        """Begin to hear our own echoes. Raises Refused where the certificate is another unit's."""

        async def heard(message: Msg) -> None:
            if echo := self._echoes.get(message.data):
                echo.set()

        await self.subscribe(f"{inbox(self.unit)}.echo", heard, within=within)

    async def _echo(self) -> None:
        """Wait until the server has done all that we sent: it does it in order, and our own message comes last.

        nats-py's `flush` does not tell that: its ping overtakes what waits to be sent.
        """
        mark = secrets.token_bytes(12)
        self._echoes[mark] = asyncio.Event()
        try:
            await self.client.publish(f"{inbox(self.unit)}.echo", mark)
            await self._echoes[mark].wait()
        finally:
            del self._echoes[mark]

    async def _batch(self, subject: str, payload: bytes) -> list[Msg]:
        arrived: asyncio.Queue[Msg] = asyncio.Queue()
        sub = await self.client.subscribe(place := self.client.new_inbox(), cb=arrived.put)
        try:
            await self.client.publish(subject, payload, reply=place)
            messages = [await arrived.get()]
            while "Status" not in (messages[-1].headers or {}):
                messages.append(await arrived.get())
            return messages
        finally:
            await self.unsubscribe(sub)

    async def _guarded(self, kind: str, subject: str, work: Coroutine[Any, Any, T], within: float) -> T:
        task = asyncio.ensure_future(work)
        async with self._trouble(kind, subject) as trouble:
            try:
                await asyncio.wait((task, trouble), timeout=within, return_when=asyncio.FIRST_COMPLETED)
                if trouble.done():
                    raise trouble.result()
                if task.done():
                    return task.result()
                raise TimedOut(f"no answer within {within:g} s", where=subject)
            except (nats.errors.Error, OSError) as error:
                raise _ours(error, subject, within) from None
            finally:
                task.cancel()
                await asyncio.wait((task,))
                if not task.cancelled():
                    task.exception()

    @asynccontextmanager
    async def _trouble(self, kind: str, subject: str) -> AsyncIterator[asyncio.Future[DynamosError]]:
        place = (kind, subject.lower())
        future: asyncio.Future[DynamosError] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(place, set()).add(future)
        try:
            yield future
        finally:
            self._waiting[place].discard(future)
            if not self._waiting[place]:
                del self._waiting[place]

    def _fail_all(self, error: DynamosError) -> None:
        for future in [future for futures in self._waiting.values() for future in futures]:
            if not future.done():
                future.set_result(error)

    async def failed(self, error: Exception) -> None:
        """Take an error that NATS tells of: give it to whoever waits on that subject, else log it."""
        found = _VIOLATION.search(str(error).lower())
        if not found:
            _log.warning("bus.trouble", extra={"unit": self.unit, "error": repr(error)})
            return
        kind, subject = found[1], found[2]
        _log.warning("bus.refused", extra={"unit": self.unit, "what": kind, "subject": subject})
        for future in tuple(self._waiting.get((kind, subject), ())):
            if not future.done():
                verb = "publish on" if kind == "publish" else "listen to"
                future.set_result(Refused(f"{self.unit} may not {verb} this subject", where=subject))

    async def lost(self) -> None:
        """Take note that the connection is lost."""
        if not self._closed:
            _log.warning("bus.lost", extra={"unit": self.unit, "bus": self.url})
        self._fail_all(Unheard("the connection to the bus was lost", where=self.url))

    async def back(self) -> None:
        """Take note that the connection is back."""
        self._up.set()
        self._tell_back()

    async def ended(self) -> None:
        """Take note that there will be no more connection: the server threw us out, if we did not close it."""
        if not self._closed:
            _log.error("bus.ended", extra={"unit": self.unit, "bus": self.url, "error": repr(self.client.last_error)})
            self._end()

    def _tell_back(self) -> None:
        _log.info("bus.back", extra={"unit": self.unit, "bus": self.url})
        for call in tuple(self._calls["back"]):
            call()

    def _end(self) -> None:
        self._closed = True
        self._up.set()
        self._fail_all(Unheard("the connection to the bus was closed", where=self.url))
        for call in tuple(self._calls["closed"]):
            call()


def _ours(error: Exception, subject: str, within: float) -> DynamosError:
    """Give an error of nats-py as ours."""
    match error:
        case DynamosError():
            return error
        case nats.errors.NoRespondersError():
            return Nobody("nobody listens", where=subject)
        case nats.errors.TimeoutError():
            return TimedOut(f"no answer within {within:g} s", where=subject)
        case nats.errors.MaxPayloadError():
            return BadInput("the message is too large for the bus", where=subject, code="too-large")
    return Unheard(f"the bus is away: {error!r}", where=subject)
