"""Facts: what a cluster says of itself, as far as it matters before anything is made there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol


class Right(NamedTuple):
    """To do something to a kind of object, in one namespace or, where that is empty, to all of the cluster."""

    verb: str
    group: str
    resource: str
    namespace: str = ""

    def __str__(self) -> str:
        what = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{self.verb} {what}" + (f" in {self.namespace}" if self.namespace else "")


@dataclass(frozen=True, slots=True)
class Node:
    """A node: its site's label, whether it takes pods now, the images that it tells of having, and whether it has
    published a key of WireGuard, by which what its pods send to other nodes is encrypted."""

    name: str
    site: str
    ready: bool
    images: frozenset[str] = frozenset()
    encrypts: bool = False


@dataclass(frozen=True, slots=True)
class Questions:
    """What is to be found out: what we may do, whose these namespaces and priority classes are, which claims there
    are."""

    rights: Sequence[Right] = ()
    namespaces: Sequence[str] = ()
    priorities: Sequence[str] = ()
    claims: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """What a cluster says. `classes` are those of storage, and whether each is the default; `labels` are those of the
    namespaces and priority classes that are there, of those that were asked for."""

    version: tuple[int, int]
    nodes: tuple[Node, ...] = ()
    classes: Mapping[str, bool] = field(default_factory=dict)
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    priorities: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    claims: frozenset[tuple[str, str]] = frozenset()
    refused: tuple[Right, ...] = ()
    api_servers: tuple[tuple[str, int], ...] = ()


class Cluster(Protocol):
    """A cluster that can be asked."""

    def look(self, questions: Questions) -> Facts:
        """Raises Unavailable where it does not answer, Unauthenticated where it does not know us."""
        ...

    def api_servers(self) -> tuple[tuple[str, int], ...]:
        """Give the addresses and ports at which pods reach its API server."""
        ...
