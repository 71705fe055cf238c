"""The contract of a store: revisioned JSON values by key, with watches. One store is one bucket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Entry:
    """A value and its revision; `value` is None in a change that tells of a deletion."""

    key: str
    value: dict[str, Any] | None
    revision: int


class Store(Protocol):
    """Keys are dot-separated tokens of letters, digits, '-', '_', '/', '=' (as NATS KV has them)."""

    async def get(self, key: str) -> Entry | None:
        """Give the entry, or None where there is none."""
        ...

    async def put(self, key: str, value: dict[str, Any], *, revision: int | None = None) -> int:
        """Write the value and give its revision. With `revision`, only if that is still the last one (0: none yet).

        Raises Conflict where it is not, Refused where these credentials may not write, Unavailable, Full.
        """
        ...

    async def delete(self, key: str, *, revision: int | None = None) -> None:
        """Remove the key, if it is there."""
        ...

    async def entries(self, prefix: str = "") -> list[Entry]:
        """Give every entry whose key begins with the tokens of `prefix`, sorted by key."""
        ...

    def watch(self, prefix: str = "") -> AbstractAsyncContextManager[AsyncIterator[Entry]]:
        """Give what is there now, then every change, in order, without a gap. A reconnect goes on where it was."""
        ...
