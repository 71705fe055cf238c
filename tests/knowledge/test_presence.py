"""Who is there: announced, renewed, gone by saying so, gone by silence."""

from __future__ import annotations

import asyncio
from pathlib import Path

from dynamos.kit.clocks import ManualClock
from dynamos.kit.errors import Unavailable
from dynamos.kit.waits import bounded, until
from dynamos.knowledge.bases import PRESENCE
from dynamos.knowledge.memory import MemoryCluster
from dynamos.knowledge.presence import Presences, announce
from dynamos.knowledge.shelves import Item
from dynamos.model.values import Value
from support.buses import marketplace


class Here(Value):
    instance: str


async def seen(presences: Presences[Here], *names: str) -> None:
    async def as_wanted() -> bool:
        return tuple(presences.online()) == names

    await until(f"{names} to be there", as_wanted, within=10)


def test_who_announces_is_there_and_who_leaves_is_gone() -> None:
    async def main() -> None:
        cluster = MemoryCluster(["UVA", "VU"])
        uva, vu = (cluster.connect(name).store(PRESENCE) for name in ("UVA", "VU"))
        async with (
            Presences(cluster.connect("orchestrator").store(PRESENCE), Here) as presences,
            presences.changes() as changes,
            announce(vu, "VU.1", Here(instance="1")),
        ):
            async with announce(uva, "UVA.1", Here(instance="1")) as announcement:
                await seen(presences, "UVA.1", "VU.1")
                await announcement.update(Here(instance="2"))
                await announcement.renew()
            await seen(presences, "VU.1")
            told = [await bounded("a change", anext(changes), within=5) for _ in range(4)]
        assert [(item.name, item.value and item.value.instance) for item in told] == [
            ("VU.1", "1"),
            ("UVA.1", "1"),
            ("UVA.1", "2"),
            ("UVA.1", None),
        ]

    asyncio.run(main())


def test_who_is_silent_is_gone_though_the_bucket_tells_nothing() -> None:
    async def main() -> None:
        clock = ManualClock()
        cluster = MemoryCluster(["UVA", "VU"], clock)
        uva, vu = (cluster.connect(name).store(PRESENCE) for name in ("UVA", "VU"))
        await uva.put("UVA.1", {"instance": "1"})
        await vu.put("VU.1", {"instance": "1"})
        async with (
            Presences(cluster.connect("orchestrator").store(PRESENCE), Here, clock=clock) as presences,
            presences.changes() as changes,
        ):
            await seen(presences, "UVA.1", "VU.1")
            clock.advance(2.5)
            await vu.put("VU.1", {"instance": "1"})
            for _ in range(2):
                await bounded("the ones that came", anext(changes), within=5)
            await renewed(presences, clock)
            clock.advance(1.0)
            assert list(presences.online()) == ["VU.1"]
            gone = await bounded("the one that went", anext(changes), within=5)
            assert (gone.name, gone.value) == ("UVA.1", None)
            clock.advance(2.5)
            assert presences.online() == {}
            await uva.put("UVA.1", {"instance": "2"})
            await seen(presences, "UVA.1")

    asyncio.run(main())


async def renewed(presences: Presences[Here], clock: ManualClock) -> None:
    async def noticed() -> bool:
        return any(sight.at == clock.monotonic() for sight in presences._seen.values())

    await until("the renewal", noticed, within=5)


def test_who_comes_late_to_the_changes_first_gets_who_is_there() -> None:
    async def main() -> None:
        cluster = MemoryCluster(["UVA"])
        store = cluster.connect("UVA").store(PRESENCE)
        await store.put("UVA.1", {"instance": "1"})
        async with Presences(store, Here) as presences:
            await seen(presences, "UVA.1")
            async with presences.changes() as changes:
                assert await bounded("who is there", anext(changes), within=5) == Item("UVA.1", Here(instance="1"), 1)

    asyncio.run(main())


def test_rubbish_counts_as_gone() -> None:
    async def main() -> None:
        cluster = MemoryCluster(["UVA"])
        store = cluster.connect("UVA").store(PRESENCE)
        await store.put("UVA.1", {"instance": "1"})
        async with Presences(store, Here) as presences:
            await seen(presences, "UVA.1")
            await store.put("UVA.1", {"instances": 7})
            await seen(presences)

    asyncio.run(main())


class Flaky:
    """A store that is away for a while."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.puts = asyncio.Semaphore(0)

    async def put(self, key: str, value: dict[str, object], *, revision: int | None = None) -> int:
        self.puts.release()
        if self.failures:
            self.failures -= 1
            raise Unavailable("the bus is away")
        return 1

    async def delete(self, key: str, *, revision: int | None = None) -> None:
        raise Unavailable("the bus is away")


def test_a_bus_that_is_away_does_not_end_the_announcement() -> None:
    async def main() -> None:
        store = Flaky(failures=0)
        async with announce(store, "UVA.1", Here(instance="1"), every=0):  # type: ignore[arg-type]
            store.failures = 3
            for _ in range(6):
                await bounded("another renewal", store.puts.acquire(), within=5)

    asyncio.run(main())


def test_over_nats_a_crashed_party_goes_by_itself_and_comes_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with marketplace("jetstream", tmp_path) as market:
            orchestrator, party = await market.connect("orchestrator"), await market.connect("UVA")
            async with Presences(orchestrator.store(PRESENCE), Here, age=0.5) as presences:
                async with announce(party.store(PRESENCE), "UVA.1", Here(instance="1"), every=0.05):
                    await seen(presences, "UVA.1")
                    await market.server.kill()
                    await seen(presences)
                    await market.server.start()
                    await seen(presences, "UVA.1")
                await seen(presences)

    asyncio.run(main())


def test_time_in_which_nobody_looked_counts_against_nobody() -> None:
    async def main() -> None:
        clock = ManualClock()
        cluster = MemoryCluster(["UVA", "VU"], clock)
        uva, vu = (cluster.connect(name).store(PRESENCE) for name in ("UVA", "VU"))
        await uva.put("UVA.1", {"instance": "1"})
        await vu.put("VU.1", {"instance": "1"})
        store = cluster.connect("orchestrator").store(PRESENCE)
        async with Presences(store, Here, clock=clock, awake=clock.monotonic) as presences:
            await seen(presences, "UVA.1", "VU.1")
            clock.advance(60.0)  # of a machine that had other things to do
            assert list(presences.online()) == ["UVA.1", "VU.1"]
            for _ in range(16):
                clock.advance(0.25)
                presences.sweep()
            assert presences.online() == {}

    asyncio.run(main())
