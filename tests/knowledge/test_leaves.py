"""Units behind a site's leaf: they have what they have at the hub, no more, also after the hub was away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dynamos.kit.errors import DynamosError, Refused, Unauthenticated, Unavailable
from dynamos.kit.waits import until
from dynamos.knowledge import leaves
from dynamos.knowledge.bases import SHARED, KnowledgeBase, bucket_of
from dynamos.knowledge.jetstream import connect
from dynamos.knowledge.leaves import Leaf
from dynamos.knowledge.permissions import rights
from dynamos.knowledge.provisioning import provision
from dynamos.knowledge.servers import Server, config, free_port
from support.buses import MARKETPLACE, PARTIES, issued

BEHIND = ("UVA", "VU")
SITE = "north"


class Sites:
    """A hub, a leaf with two of the parties, and whoever connects."""

    def __init__(self, hub: Server, leaf: Server) -> None:
        self.hub = hub
        self.leaf = leaf
        self._open: list[KnowledgeBase] = []

    async def at_hub(self, unit: str) -> KnowledgeBase:
        return await self._connect(self.hub.url, unit, "bus")

    async def at_leaf(self, unit: str, server: str = leaves.server_of(SITE)) -> KnowledgeBase:
        return await self._connect(self.leaf.url, unit, server)

    async def close(self) -> None:
        for base in self._open:
            await base.close()

    async def _connect(self, url: str, unit: str, server: str) -> KnowledgeBase:
        base = await connect(url, issued()[1][unit], unit, server=server)
        self._open.append(base)
        return base


@asynccontextmanager
async def sites(folder: Path) -> AsyncIterator[Sites]:
    authority, units = issued()
    hub_port, leaf_port, port = free_port(), free_port(), free_port()
    text = config(
        marketplace=MARKETPLACE, parties=PARTIES, credentials=units["bus"], store=folder / "store", port=hub_port,
        behind=BEHIND, leaf_port=leaf_port,
    )  # fmt: skip
    hub = Server(folder / "hub", f"tls://127.0.0.1:{hub_port}", text)
    own = leaves.server_of(SITE)
    leaf = Leaf(
        SITE,
        "127.0.0.1",
        port,
        authority.issue(own, names=(own.replace(".", "-"),)),
        {unit: authority.issue(leaves.remote_of(unit), names=(f"leaf-{unit.lower()}",)) for unit in BEHIND},
    )
    made = leaves.config(leaf, marketplace=MARKETPLACE, table=rights(PARTIES), hub=f"127.0.0.1:{leaf_port}")
    found = Sites(hub, Server(folder / "leaf", f"tls://127.0.0.1:{port}", made))
    try:
        await hub.start()
        await provision(hub.url, units["admin"], PARTIES)
        await found.leaf.start()
        yield found
    finally:
        await found.close()
        await found.leaf.stop()
        await hub.stop()


def against(tmp_path: Path, body: Callable[[Sites], Awaitable[None]]) -> None:
    async def main() -> None:
        async with sites(tmp_path) as found:
            await body(found)

    asyncio.run(main())


async def eventually(work: Callable[[], Awaitable[object]]) -> object:
    """Try until the hub answers."""
    given: list[object] = []

    async def tried() -> bool:
        try:
            given.append(await work())
        except (Unavailable, TimeoutError):
            return False
        return True

    await until("the hub answers through the leaf", tried, within=20)
    return given[0]


async def holds(condition: str, what: Callable[[], bool]) -> None:
    async def probe() -> bool:
        return what()

    await until(condition, probe, within=10)


async def told(subject: str, message: dict[str, object]) -> dict[str, object]:
    return {"heard": subject, **message}


def test_what_a_unit_has_at_the_hub_it_has_behind_a_leaf(tmp_path):
    async def body(found: Sites) -> None:
        party, orchestrator = await found.at_leaf("UVA"), await found.at_hub("orchestrator")
        own = party.store(bucket_of("UVA"))
        assert await eventually(lambda: own.put("agreement", {"mine": True})) == 1
        assert (await own.get("agreement")).value == {"mine": True}
        assert [entry.key for entry in await own.entries()] == ["agreement"]
        assert (await orchestrator.store(bucket_of("UVA")).get("agreement")).value == {"mine": True}
        assert await party.log("audit").append("UVA.job", {"n": 1}) == 1
        await orchestrator.bus.listen("report.*", told)
        await party.bus.listen("agent.UVA.start", told)
        assert await party.bus.request("report.UVA", {"n": 1}, within=5) == {"heard": "report.UVA", "n": 1}
        ask = lambda: orchestrator.bus.request("agent.UVA.start", {"n": 2}, within=5)  # noqa: E731
        assert await eventually(ask) == {"heard": "agent.UVA.start", "n": 2}

    against(tmp_path, body)


def test_nobody_has_more_behind_a_leaf_than_at_the_hub(tmp_path):
    async def body(found: Sites) -> None:
        party = await found.at_leaf("UVA")
        await eventually(lambda: party.store(bucket_of("UVA")).put("agreement", {}))
        for tried in (
            party.bus.request("agent.VU.start", {}, within=2),
            party.bus.request("report.VU", {}, within=2),
            party.bus.request("via.KV.party_VU.agreement", {}, within=2),
            party.store(bucket_of("VU")).put("agreement", {}),
            party.store(SHARED).put("services.x", {}),
            party.log("audit").append("VU.job", {}),
        ):
            try:
                await tried
            except Refused:
                continue
            raise AssertionError("that was not refused")
        for unit in ("SURF", "orchestrator"):
            try:
                await found.at_leaf(unit)
            except Unauthenticated:
                continue
            raise AssertionError(f"{unit} is not of this site")
        try:
            await found.at_leaf("UVA", server="bus")
        except Unauthenticated:
            return
        raise AssertionError("a leaf passed as the hub")

    against(tmp_path, body)


@pytest.mark.e2e
def test_a_leaf_that_lost_its_hub_recovers_and_its_watches_miss_nothing(tmp_path):
    async def body(found: Sites) -> None:
        party, orchestrator = await found.at_leaf("UVA"), await found.at_hub("orchestrator")
        await eventually(lambda: party.store(SHARED).get("x"))
        seen: dict[str, object] = {}

        async def follow() -> None:
            async with party.store(SHARED).watch() as changes:
                async for entry in changes:
                    seen[entry.key] = entry.value

        following = asyncio.create_task(follow())
        await orchestrator.store(SHARED).put("services.a", {"n": 1})
        await holds("the first change", lambda: "services.a" in seen)
        await found.hub.kill()
        try:
            await party.store(bucket_of("UVA")).put("beat", {})
        except DynamosError as error:
            assert isinstance(error, Unavailable | TimeoutError)  # noqa: PT017  both are right
        else:
            raise AssertionError("nobody could have answered")
        await found.hub.start()
        await eventually(lambda: orchestrator.store(SHARED).put("services.a", {"n": 2}))
        # What a unit's renewed presence does every second: the first answer of the hub ends the doubt.
        await eventually(lambda: party.store(bucket_of("UVA")).put("beat", {}))
        await holds("the change that was missed", lambda: seen["services.a"] == {"n": 2})
        following.cancel()

    against(tmp_path, body)
