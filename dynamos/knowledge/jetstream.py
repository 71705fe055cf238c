"""The knowledge base over NATS and JetStream, under one unit's certificate."""

from __future__ import annotations

from collections.abc import Callable

from dynamos.kit.credentials import Credentials
from dynamos.kit.errors import NotFound
from dynamos.knowledge import subjects
from dynamos.knowledge.bases import KnowledgeBase, Log
from dynamos.knowledge.buses import Bus
from dynamos.knowledge.connections import Connection
from dynamos.knowledge.dials import dial
from dynamos.knowledge.kvstores import JetStreamStore
from dynamos.knowledge.ledgers import JetStreamLog
from dynamos.knowledge.messaging import NatsBus
from dynamos.knowledge.permissions import BUS
from dynamos.knowledge.stores import Store


async def connect(
    url: str, credentials: Credentials, unit: str, *, within: float = 10.0, server: str = BUS
) -> KnowledgeBase:
    """Connect `unit` to the bus at `url` (tls://host:port, or several with commas between them), trying for `within`
    seconds, then reconnecting for ever, to whichever of its servers is there.

    The server takes the unit from the certificate, and must be `server` by its own. Raises Unavailable, BadInput, and
    Unauthenticated also where the certificate is another unit's.
    """
    return JetStreamKnowledgeBase(await dial(url, credentials, subjects.token(unit), within=within, server=server))


class JetStreamKnowledgeBase:
    """The bus, the stores and the logs over one connection. What is not this unit's raises Refused when it is tried."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._nats = NatsBus(connection)
        self.bus: Bus = self._nats

    def store(self, bucket: str) -> Store:
        return JetStreamStore(self._connection, subjects.bucket(bucket))

    def log(self, name: str) -> Log:
        """Give the log `audit` or `traces`. Raises NotFound for another name."""
        if name not in subjects.LOGS:
            raise NotFound(f"there is no log {name!r}", hint=f"there are {', '.join(subjects.LOGS)}")
        return JetStreamLog(self._connection, name)

    def on_reconnect(self, call: Callable[[], None]) -> None:
        """Call after the connection was lost and is back."""
        self._connection.on_reconnect(call)

    async def close(self) -> None:
        """Cancel the handlers and close the connection."""
        await self._nats.close()
        await self._connection.close()
