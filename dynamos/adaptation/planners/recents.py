"""Recents: what a planner remembers by name, of the names that it met last. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

V = TypeVar("V")

MOST = 1024
"""A name is a request type with an option, or with providers: a marketplace has few of the first, and many of these."""


class Recent(Generic[V]):
    """Values by name. With more than `most` names, that which was set longest ago is forgotten."""

    def __init__(self, values: Mapping[str, V] | None = None, *, most: int = MOST) -> None:
        self._most = most
        self._values: dict[str, V] = {}
        for name, value in (values or {}).items():
            self.set(name, value)

    def get(self, name: str) -> V | None:
        return self._values.get(name)

    def set(self, name: str, value: V) -> None:
        self._values.pop(name, None)
        self._values[name] = value
        while len(self._values) > self._most:
            del self._values[next(iter(self._values))]

    def as_dict(self) -> dict[str, V]:
        """Give them, that which was set longest ago first: a `Recent` of it forgets in the same order."""
        return dict(self._values)
