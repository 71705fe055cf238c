"""The contract of the bus: JSON messages between units, with answers and errors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from dynamos.kit.errors import Unavailable

Message = dict[str, Any]
Handler = Callable[[str, Message], Awaitable[Message | None]]
"""Takes the subject and the message; what it gives is the answer. A DynamosError that it raises reaches the asker."""


class Unheard(Unavailable):
    """The bus did not bring an answer: nobody listens, or the server went away, maybe after it had passed the message
    on. What another unit raises itself is never this."""


class Subscription(Protocol):
    """Something that listens, until it is closed."""

    async def close(self) -> None: ...


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
