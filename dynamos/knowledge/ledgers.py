"""The log over a JetStream stream from which nobody can delete or purge."""

from __future__ import annotations

import logging
from typing import Any

from nats.aio.msg import Msg

from dynamos.kit.errors import BadInput
from dynamos.knowledge import subjects
from dynamos.knowledge.connections import Connection
from dynamos.knowledge.envelopes import decode, encode
from dynamos.knowledge.streams import last_sequence, messages, sequence, store

_log = logging.getLogger(__name__)


class JetStreamLog:
    """One log."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self._name = name
        self._stream = subjects.LOGS[name][0]

    async def append(self, subject: str, record: dict[str, Any]) -> int:
        """Add the record and give its sequence number. Raises Refused, Unavailable, Full, TimedOut, BadInput."""
        place = subjects.logged(self._name, subjects.literal(subject))
        return await store(self._connection, place, encode(record, what=place))

    async def read(self, subject: str = ">", *, limit: int = 1000) -> list[dict[str, Any]]:
        """Give the newest records whose subject matches, oldest first. Raises Refused, Unavailable, TimedOut."""
        place = subjects.logged(self._name, subjects.pattern(subject))
        found: list[Msg] = []
        end = await last_sequence(self._connection, self._stream, place) + 1
        width = limit
        while end > 1 and len(found) < limit:
            first = max(1, end - width)
            got = await messages(self._connection, self._stream, place, first=first, limit=end - first)
            found = [*(message for message in got if sequence(message) < end), *found]
            end, width = first, 2 * width
        return [record for message in found[-limit:] if (record := self._record(message)) is not None]

    def _record(self, message: Msg) -> dict[str, Any] | None:
        try:
            return decode(message.data, what=self._name)
        except BadInput:
            _log.warning("log.malformed", extra={"log": self._name, "sequence": sequence(message)})
            return None
