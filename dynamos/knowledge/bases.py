"""The contract of the knowledge base: what a unit holds to talk to the control plane."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from dynamos.knowledge.buses import Bus
from dynamos.knowledge.stores import Store

SHARED = "shared"
"""Archetypes, request types, services: read by all, written by the orchestrator."""
JOBS = "jobs"
"""Job records: written by the orchestrator, read by the API."""
PRESENCE = "presence"
"""Who is there: each party writes its own key, entries go after a few seconds without renewal."""

ADAPTATION = "adaptation"
"""What planners have learned (a bucket), and every decision of theirs with what came of it (a log): written by the
orchestrator."""


def bucket_of(party: str) -> str:
    """Give the bucket of one party: its agreement, its catalogue, its spent grants. Only that party writes it."""
    return f"party_{party}"


class Log(Protocol):
    """An append-only stream of JSON records: nobody can change or remove one.

    Subjects are relative to the log and begin with the name of the unit that writes: `UVA.decision`, not
    `audit.UVA.decision`.
    """

    async def append(self, subject: str, record: dict[str, Any]) -> int:
        """Add the record under the subject and give its sequence number."""
        ...

    async def read(self, subject: str = ">", *, limit: int = 1000) -> list[dict[str, Any]]:
        """Give the newest records whose subject matches, oldest first."""
        ...


class KnowledgeBase(Protocol):
    """The bus, the stores and the logs, under one unit's credentials."""

    bus: Bus

    def store(self, bucket: str) -> Store: ...

    def log(self, name: str) -> Log:
        """Give the log `audit`, `traces` or `adaptation`."""
        ...

    def on_reconnect(self, call: Callable[[], None]) -> None:
        """Call after the connection was lost and is back."""
        ...

    async def close(self) -> None: ...
