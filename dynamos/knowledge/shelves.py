"""A typed view of a store: the values of one model below one prefix."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import ValidationError

from dynamos.kit.errors import BadInput
from dynamos.knowledge.stores import Entry, Store
from dynamos.model.values import Value

T = TypeVar("T", bound=Value)

_log = logging.getLogger(__name__)
_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


@dataclass(frozen=True, slots=True)
class Item(Generic[T]):
    """A value under its name; `value` is None in a change that tells of a deletion."""

    name: str
    value: T | None
    revision: int


def escaped(name: str) -> str:
    """Give `name` as one token of a key: ASCII letters, digits, '-', '_' stay, other bytes become '=' and hex."""
    if not name:
        raise BadInput("a name is not empty", code="bad-key")
    return "".join(chr(byte) if chr(byte) in _SAFE else f"={byte:02X}" for byte in name.encode())


def unescaped(token: str) -> str:
    """Give the name whose token this is. Raises ValueError for a token that `escaped` does not make."""
    head, *rest = token.split("=")
    return b"".join([head.encode(), *(bytes.fromhex(part[:2]) + part[2:].encode() for part in rest)]).decode()


class Shelf(Generic[T]):
    """The values of one model in a store, each under `<prefix>.<name>`, or under its name alone.

    What is there but is no such value (another unit wrote rubbish) counts as not there, and is logged.
    """

    def __init__(self, store: Store, prefix: str, model: type[T]) -> None:
        self._store = store
        self._prefix = prefix
        self._model = model

    async def get(self, name: str) -> Item[T] | None:
        """Give the value, or None where there is none."""
        entry = await self._store.get(self._key(name))
        item = self._item(entry) if entry else None
        return item if item and item.value is not None else None

    async def put(self, name: str, value: T, *, revision: int | None = None) -> int:
        """Write the value and give its revision; with `revision`, only if that is still the last one (0: none yet).

        Raises what the store's `put` raises.
        """
        return await self._store.put(self._key(name), value.as_json(), revision=revision)

    async def delete(self, name: str, *, revision: int | None = None) -> None:
        """Remove the value, if it is there."""
        await self._store.delete(self._key(name), revision=revision)

    async def all(self) -> list[Item[T]]:
        """Give every value, sorted by name."""
        items = [self._item(entry) for entry in await self._store.entries(self._prefix)]
        return sorted((item for item in items if item and item.value is not None), key=lambda item: item.name)

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[AsyncIterator[Item[T]]]:
        """Give what is there now, then every change, in order. A value that became rubbish is told as a deletion."""
        async with self._store.watch(self._prefix) as entries:

            async def items() -> AsyncGenerator[Item[T], None]:
                async for entry in entries:
                    if (item := self._item(entry)) is not None:
                        yield item

            async with aclosing(items()) as found:
                yield found

    def _key(self, name: str) -> str:
        return f"{self._prefix}.{escaped(name)}" if self._prefix else escaped(name)

    def _item(self, entry: Entry) -> Item[T] | None:
        """Give the entry as an item; None where its key is not ours."""
        token = entry.key.removeprefix(f"{self._prefix}.") if self._prefix else entry.key
        try:
            name = unescaped(token)
        except ValueError:
            return None
        if self._key(name or "-") != entry.key:
            return None
        if entry.value is None:
            return Item(name, None, entry.revision)
        try:
            return Item(name, self._model.model_validate(entry.value), entry.revision)
        except ValidationError as error:
            _log.warning("shelf.malformed", extra={"key": entry.key, "mistakes": error.error_count()})
            return Item(name, None, entry.revision)
