"""Live views of the knowledge base: what a unit knows without asking."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

from dynamos.kit.errors import DynamosError, Unavailable
from dynamos.knowledge.stores import Entry, Store
from dynamos.model.archetypes import Archetype
from dynamos.model.request_types import RequestType
from dynamos.model.services import Service
from dynamos.model.values import Value

log = logging.getLogger(__name__)
T = TypeVar("T", bound=Value)

ARCHETYPES, REQUEST_TYPES, SERVICES = "archetypes", "requestTypes", "microservices"
RETRY_SECONDS = 0.5


async def follow(store: Store, prefix: str, apply: Callable[[Entry], None]) -> None:
    """Call `apply` with every entry under `prefix`, now and whenever one changes, until cancelled."""
    while True:
        try:
            async with store.watch(prefix) as changes:
                async for entry in changes:
                    apply(entry)
        except Unavailable as error:
            log.warning("watch.broken prefix=%s error=%s", prefix, error)
        await asyncio.sleep(RETRY_SECONDS)


class Shelf(Generic[T]):
    """The values of one kind under `prefix`, by name. What does not validate is left out and logged."""

    def __init__(self, prefix: str, model: type[T]) -> None:
        self.prefix = prefix
        self.model = model
        self.values: dict[str, T] = {}

    def key(self, name: str) -> str:
        return f"{self.prefix}.{name}"

    def apply(self, entry: Entry) -> None:
        """Take over one entry of the store."""
        name = entry.key.removeprefix(f"{self.prefix}.")
        if entry.value is None:
            self.values.pop(name, None)
            return
        try:
            self.values[name] = self.model.model_validate(entry.value)
        except ValueError as error:
            log.warning("view.invalid key=%s error=%s", entry.key, error)


class SharedView:
    """What the marketplace shares: archetypes, request types and services."""

    def __init__(self) -> None:
        self._archetypes = Shelf(ARCHETYPES, Archetype)
        self._request_types = Shelf(REQUEST_TYPES, RequestType)
        self._services = Shelf(SERVICES, Service)

    @property
    def archetypes(self) -> dict[str, Archetype]:
        return self._archetypes.values

    @property
    def request_types(self) -> dict[str, RequestType]:
        return self._request_types.values

    @property
    def services(self) -> dict[str, Service]:
        return self._services.values

    def apply(self, entry: Entry) -> None:
        """Take over one entry of the bucket `shared`."""
        for shelf in (self._archetypes, self._request_types, self._services):
            if entry.key.startswith(f"{shelf.prefix}."):
                shelf.apply(entry)


@asynccontextmanager
async def background(*works: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[asyncio.TaskGroup]:
    """Run endless works beside the block; they are cancelled when it ends, and end it when one of them fails."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work()) for work in works]
        try:
            yield group
        finally:
            for task in tasks:
                task.cancel()


def error_facts(error: DynamosError) -> dict[str, object]:
    """Give an error as it is kept in reports and records: its members and its class's HTTP status."""
    return {**error.as_dict(), "status": error.status, "kind": error.code}
