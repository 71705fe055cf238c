"""The bus over NATS."""

from __future__ import annotations

import logging

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as NatsSubscription

from dynamos.knowledge.buses import Handler, Message
from dynamos.knowledge.connections import Connection
from dynamos.knowledge.envelopes import answer, encode, open_answer
from dynamos.knowledge.listeners import Workers
from dynamos.knowledge.subjects import literal, pattern

_log = logging.getLogger(__name__)
_WITHIN = 5.0


class NatsBus:
    """JSON messages over one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._listeners: set[Listener] = set()

    async def publish(self, subject: str, message: Message) -> None:
        """Tell everybody who listens now. Raises Refused, Unavailable, TimedOut, BadInput."""
        await self._connection.publish(literal(subject), encode(message, what=subject), within=_WITHIN)

    async def request(self, subject: str, message: Message, *, within: float) -> Message:
        """Ask, and give the answer. Raises the handler's DynamosError, Refused, Unavailable, TimedOut, BadInput."""
        given = await self._connection.request(literal(subject), encode(message, what=subject), within=within)
        return open_answer(given.data, what=subject)

    async def listen(self, subject: str, handler: Handler, *, queue: str = "") -> Listener:
        """Call `handler` for each message, concurrently, until the subscription is closed. Raises Refused."""
        listener = Listener(self._connection, handler, self._listeners)
        listener.subscription = await self._connection.subscribe(
            pattern(subject), listener.take, queue=queue, within=_WITHIN
        )
        self._listeners.add(listener)
        return listener

    async def close(self) -> None:
        """Listen no more, and cancel the handlers."""
        for listener in tuple(self._listeners):
            await listener.close()


class Listener:
    """One subscription and its handlers at work."""

    def __init__(self, connection: Connection, handler: Handler, among: set[Listener]) -> None:
        self.subscription: NatsSubscription | None = None
        self._connection = connection
        self._handler = handler
        self._workers = Workers()
        self._among = among

    async def take(self, message: Msg) -> None:
        """Begin the work on one message."""
        await self._workers.start(self._work(message))

    async def leave(self) -> None:
        """Hear nothing new, and return when what has come was answered."""
        if self.subscription is not None:
            await self._connection.leave(self.subscription)
        await self._workers.settle()

    async def close(self) -> None:
        """Listen no more, and cancel the handlers at work."""
        self._among.discard(self)
        if self.subscription is not None:
            await self._connection.unsubscribe(self.subscription)
        await self._workers.close()

    async def _work(self, message: Msg) -> None:
        given = await answer(self._handler, message.subject, message.data)
        if message.reply:
            try:
                await message.respond(given)
            except (nats.errors.Error, OSError) as error:
                _log.warning("bus.answer.lost", extra={"subject": message.subject, "error": repr(error)})
