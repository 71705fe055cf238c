"""The contract of the bus: JSON messages between units, with answers and errors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from dynamos.kit.errors import Unavailable

Message = dict[str, Any]
Handler = Callable[[str, Message], Awaitable[Message | None]]
"""Takes the subject and the message; what it gives is the answer. A DynamosError that it raises reaches the asker."""


log = logging.getLogger(__name__)
LEAVE_SECONDS = 10.0


class Unheard(Unavailable):
    """The bus did not bring an answer: nobody listens, or the server went away, maybe after it had passed the message
    on. What another unit raises itself is never this."""


class Nobody(Unheard):
    """Nobody listens: the message reached no one."""


class Subscription(Protocol):
    """Something that listens, until it is closed."""

    async def leave(self) -> None:
        """Hear nothing new, and return when what has come was answered: nothing that was sent here is lost."""
        ...

    async def close(self) -> None:
        """Hear nothing new, and cancel the handlers at work."""
        ...


class Bus(Protocol):
    """Subjects are dot-separated; `*` stands for one token and `>` for the rest when listening."""

    async def publish(self, subject: str, message: Message) -> None:
        """Tell everybody who listens now."""
        ...

    async def request(self, subject: str, message: Message, *, within: float) -> Message:
        """Ask, and give the answer. Raises the handler's DynamosError, Unavailable if nobody listens, TimedOut."""
        ...

    async def listen(self, subject: str, handler: Handler, *, queue: str = "") -> Subscription:
        """Call `handler` for each message, concurrently. With `queue`, each message goes to one listener of that
        queue."""
        ...


async def leave(*subscriptions: Subscription, within: float = LEAVE_SECONDS) -> None:
    """Have all of these hear nothing new, and what came to them answered, at most `within` seconds."""
    try:
        async with asyncio.timeout(within):
            await asyncio.gather(*(each.leave() for each in subscriptions))
    except TimeoutError:
        log.warning("bus.left-unanswered within=%g", within)
