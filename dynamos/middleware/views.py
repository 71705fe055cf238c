"""Live views of the knowledge base: what a unit knows without asking."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

from dynamos.kit.errors import DynamosError, Unavailable
from dynamos.knowledge.bases import SHARED, KnowledgeBase, bucket_of
from dynamos.knowledge.shelves import Shelf
from dynamos.model.agreements import Agreement
from dynamos.model.archetypes import Archetype
from dynamos.model.datasets import DataSet
from dynamos.model.request_types import RequestType
from dynamos.model.services import Service
from dynamos.model.values import Value

log = logging.getLogger(__name__)
T = TypeVar("T", bound=Value)
Work = Callable[[], Coroutine[Any, Any, None]]

ARCHETYPES, REQUEST_TYPES, SERVICES = "archetypes", "requestTypes", "microservices"
RETRY_SECONDS = 0.5


class Mirror(Generic[T]):
    """The values of a shelf, by name, kept current by `follow`. `told` hears the name of each that has changed."""

    def __init__(self, shelf: Shelf[T], told: Callable[[str], None] = lambda _: None) -> None:
        self._shelf = shelf
        self._told = told
        self.values: dict[str, T] = {}
        self.revisions: dict[str, int] = {}

    async def follow(self) -> None:
        """Take over what is there and every change, until cancelled."""
        while True:
            try:
                async with self._shelf.watch() as items:
                    async for item in items:
                        self._take(item.name, item.value, item.revision)
            except Unavailable as error:
                log.warning("watch.broken error=%s", error)
            await asyncio.sleep(RETRY_SECONDS)

    def _take(self, name: str, value: T | None, revision: int) -> None:
        if value is None:
            self.values.pop(name, None)
            self.revisions.pop(name, None)
        else:
            self.values[name] = value
            self.revisions[name] = revision
        self._told(name)


class SharedView:
    """What the marketplace shares: archetypes, request types and services. `works` keep it current; `told` hears the
    name of each that has changed."""

    def __init__(self, kb: KnowledgeBase, told: Callable[[str], None] = lambda _: None) -> None:
        store = kb.store(SHARED)
        self.told = told
        archetypes = Mirror(Shelf(store, ARCHETYPES, Archetype), self._tell)
        request_types = Mirror(Shelf(store, REQUEST_TYPES, RequestType), self._tell)
        services = Mirror(Shelf(store, SERVICES, Service), self._tell)
        self.archetypes = archetypes.values
        self.request_types = request_types.values
        self.services = services.values
        self._mirrors: dict[str, Mirror[Any]] = {
            ARCHETYPES: archetypes,
            REQUEST_TYPES: request_types,
            SERVICES: services,
        }
        self.works: list[Work] = [mirror.follow for mirror in self._mirrors.values()]

    def _tell(self, name: str) -> None:
        self.told(name)

    def revision(self, kind: str, name: str) -> int:
        """Give the revision of one value, 0 where there is none."""
        return self._mirrors[kind].revisions.get(name, 0)


def agreements_of(kb: KnowledgeBase, party: str) -> Shelf[Agreement]:
    """Give the shelf in the party's own bucket that holds its agreement, under the party's name."""
    return Shelf(kb.store(bucket_of(party)), "agreements", Agreement)


def catalogue_of(kb: KnowledgeBase, party: str) -> Shelf[DataSet]:
    """Give the shelf in the party's own bucket that holds its data sets, with the columns they really have."""
    return Shelf(kb.store(bucket_of(party)), "catalogue", DataSet)


@asynccontextmanager
async def background(*works: Work) -> AsyncIterator[asyncio.TaskGroup]:
    """Run endless works beside the block; they are cancelled when it ends, and end it when one of them fails.

    What the block or one work raises is raised as it is; only several errors are a group.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work()) for work in works]
            try:
                yield group
            finally:
                for task in tasks:
                    task.cancel()
    except ExceptionGroup as failed:
        if len(failed.exceptions) > 1:
            raise
        raise failed.exceptions[0] from None


def error_facts(error: DynamosError) -> dict[str, object]:
    """Give an error as it is kept in reports and records: its members and its class's HTTP status.

    Not the end of a service's log: that may hold a party's rows, and stays with the party.
    """
    told = {name: value for name, value in error.as_dict().items() if name != "log"}
    return {**told, "status": error.status, "kind": error.code}
