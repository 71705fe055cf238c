"""A cluster's NetworkPolicies in memory, and a wall that lets through what they open: fakes of a cluster's network."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from dynamos.kit.errors import DynamosError, Refused
from dynamos.middleware.network.messages import EXCHANGE_PORT
from dynamos.middleware.network.openings import Home, Opening, denies_all, labels, manifest, receivers_of

NAMESPACES = {"united": "flights-united", "clearing": "flights-clearing", "klm": "flights-klm"}
DENIES = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def home(party: str, pod: str = "agent-0", uid: str = "1", namespaces: dict[str, str] | None = None) -> Home:
    return Home(party, "flights", namespaces or NAMESPACES, pod, uid)


class MemoryPolicies:
    """What all namespaces have, by namespace and name."""

    def __init__(self, *, denied: bool = True) -> None:
        self.policies: dict[str, dict[str, dict[str, Any]]] = {}
        self.changed: list[Callable[[], None]] = []
        for namespace in NAMESPACES.values():
            self.policies[namespace] = {"deny": {"metadata": {"labels": {}}, "spec": DENIES}} if denied else {}

    def openings(self, party: str) -> list[str]:
        return [name for name in self.policies[NAMESPACES[party]] if name.startswith("way-")]

    def tell(self) -> None:
        for told in self.changed:
            told()


class MemoryOpenings:
    """The openings of one agent. Raises each of `errors`, in turn, instead of doing what it is asked to; one of `lost`
    after it has done it."""

    def __init__(self, home: Home, policies: MemoryPolicies) -> None:
        self._home = home
        self._all = policies
        self.errors: list[DynamosError] = []
        self.lost: list[DynamosError] = []
        self.closed = False

    @property
    def _own(self) -> dict[str, dict[str, Any]]:
        return self._all.policies[self._home.namespace]

    async def put(self, opening: Opening) -> None:
        self._fail(self.errors)
        self._own.setdefault(opening.name, manifest(opening, self._home))
        self._all.tell()
        self._fail(self.lost)

    async def remove(self, name: str) -> None:
        self._fail(self.errors)
        self._own.pop(name, None)
        self._all.tell()

    async def names(self) -> tuple[str, ...]:
        self._fail(self.errors)
        found = ((name, each["metadata"].get("ownerReferences", ())) for name, each in self._labelled())
        return tuple(name for name, owners in found if any(owner["name"] == self._home.pod for owner in owners))

    async def receivers(self) -> frozenset[str]:
        self._fail(self.errors)
        return frozenset(peer for _, each in self._labelled() for peer in receivers_of(each["spec"]))

    async def denies(self) -> bool:
        self._fail(self.errors)
        return any(denies_all(each["spec"]) for each in self._own.values())

    async def close(self) -> None:
        self.closed = True

    def _labelled(self) -> list[tuple[str, dict[str, Any]]]:
        wanted = labels(self._home).items()
        return [(name, each) for name, each in self._own.items() if wanted <= each["metadata"]["labels"].items()]

    @staticmethod
    def _fail(errors: list[DynamosError]) -> None:
        if errors:
            raise errors.pop(0)


class Wall:
    """Stands before the receiver at `port` of a party, and answers as long as the policies of both ends let connections
    of `source` in. What was open is cut when they do no more. `late` is how long it takes to see that they do."""

    def __init__(self, policies: MemoryPolicies, source: str, target: str, port: int, *, late: float = 0.0) -> None:
        self._policies = policies
        self._source, self._target, self._port, self._late = source, target, port, late
        self._server: asyncio.Server | None = None
        self.cables: set[asyncio.Task[None]] = set()
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._own = 0
        self.knocks = 0
        self.enforced = True
        self.shut = asyncio.Event()
        self.shut.set()

    async def start(self) -> str:
        """Take a port, and give the address that senders are told."""
        probe = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self._own = probe.sockets[0].getsockname()[1]
        probe.close()
        await probe.wait_closed()
        self._policies.changed.append(self.look)
        return f"grpc+tls://127.0.0.1:{self._own}"

    def look(self) -> None:
        task = asyncio.create_task(self._follow())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def permits(self) -> bool:
        """Tell whether both ends have opened the way."""
        out = self._ends(self._source, "egress", "to", self._target)
        return not self.enforced or (out and self._ends(self._target, "ingress", "from", self._source))

    async def close(self) -> None:
        for task in (*self.cables, *self._tasks):
            task.cancel()
        if self._server:
            self._server.close()

    def _ends(self, party: str, kind: str, words: str, peer: str) -> bool:
        rules = (
            rule
            for each in self._policies.policies[NAMESPACES[party]].values()
            for rule in each["spec"].get(kind) or ()
            if rule["ports"] == [{"protocol": "TCP", "port": EXCHANGE_PORT}]
        )
        wanted = {"kubernetes.io/metadata.name": NAMESPACES[peer]}
        return any(each["namespaceSelector"]["matchLabels"] == wanted for rule in rules for each in rule[words])

    async def _follow(self) -> None:
        async with self._lock:
            if self.permits() and self._server is None:
                await asyncio.sleep(self._late)
                self._server = await asyncio.start_server(self._take, "127.0.0.1", self._own)
                self.shut.clear()
            elif not self.permits() and self._server is not None:
                self._server.close()
                for cable in self.cables:
                    cable.cancel()
                self._server = None
                self.shut.set()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.knocks += 1
        task = asyncio.current_task()
        assert task is not None
        self.cables.add(task)
        writers = [writer]
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
            writers.append(far_writer)
            async with asyncio.TaskGroup() as group:
                group.create_task(_pour(reader, far_writer))
                group.create_task(_pour(far_reader, writer))
        except (OSError, ExceptionGroup, asyncio.CancelledError):
            pass
        finally:
            for each in writers:
                each.transport.abort()
            self.cables.discard(task)


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while block := await reader.read(1 << 16):
            writer.write(block)
            await writer.drain()
        writer.write_eof()


def forbidden() -> Refused:
    return Refused("networkpolicies is forbidden", code="cluster-refuses")
