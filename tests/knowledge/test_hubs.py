"""A bus of three servers: whichever of them dies, units go on with the others, and what was kept is there."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from dynamos.kit.errors import BadInput, Conflict, DynamosError
from dynamos.kit.waits import bounded, until
from dynamos.knowledge.bases import JOBS, SHARED, KnowledgeBase, bucket_of
from dynamos.knowledge.buses import Message
from dynamos.knowledge.dials import _Choice, addresses
from dynamos.knowledge.jetstream import connect
from dynamos.knowledge.permissions import ADMIN, BUS
from support.buses import MARKETPLACE, PARTIES, issued
from support.hubs import Hub, hub

BACK = 30.0
"""Seconds within which the bus has to work again after one of its servers died: an election takes up to 10."""


def run(folder: Path, play) -> None:
    async def main() -> None:
        _, units = issued()
        async with hub(folder, marketplace=MARKETPLACE, parties=PARTIES, bus=units[BUS], admin=units[ADMIN]) as it:
            await play(it, units)

    asyncio.run(main())


async def echo(subject: str, message: Message) -> Message | None:
    return message


async def works(base: KnowledgeBase, number: int) -> None:
    async def written() -> bool:
        try:
            await base.store(JOBS).put("probe", {"n": number})
        except DynamosError:
            return False
        return True

    await until("the bus works", written, within=BACK)


@pytest.mark.xdist_group("hub")
@pytest.mark.parametrize("of", ["the leader", pytest.param("another", marks=pytest.mark.e2e)])
def test_a_server_that_is_killed_takes_nothing_with_it_and_nobody_stays_away(tmp_path: Path, of: str) -> None:
    async def play(it: Hub, units) -> None:
        party = await connect(it.url, units["UVA"], "UVA")
        orchestrators = [await connect(server.url + "," + it.url, units["orchestrator"], "orchestrator")
                         for server in it.servers]  # fmt: skip
        await party.bus.listen("agent.UVA.1.>", echo)
        store = orchestrators[0].store(JOBS)
        kept = await store.put("job-1", {"n": 1})
        await party.log("audit").append("UVA.x", {"n": 1})
        leader = await asyncio.to_thread(it.leader, JOBS)
        victim = leader if of == "the leader" else (leader + 1) % len(it.servers)
        async with orchestrators[1].store(JOBS).watch() as entries:
            assert (await bounded("the first value", anext(entries), within=5)).value == {"n": 1}
            await it.servers[victim].kill()
            await asyncio.gather(*(works(base, number) for number, base in enumerate(orchestrators)))
            assert (await orchestrators[2].store(JOBS).get("job-1")).revision == kept
            with pytest.raises(Conflict):
                await orchestrators[2].store(JOBS).put("job-1", {"n": 2}, revision=kept - 1)
            await store.put("job-1", {"n": 3}, revision=kept)
            seen: dict[str, object] = {}
            while seen.get("job-1") != {"n": 3}:
                entry = await bounded("the change", anext(entries), within=BACK)
                seen[entry.key] = entry.value

        async def heard() -> bool:
            try:
                return await orchestrators[2].bus.request("agent.UVA.1.start", {"n": 7}, within=5) == {"n": 7}
            except DynamosError:
                return False

        await until("the party hears again", heard, within=BACK)
        await party.store(bucket_of("UVA")).put("grant.1", {"n": 1}, revision=0)
        assert await orchestrators[0].log("audit").read("UVA.>") == [{"n": 1}]
        await it.servers[victim].start()
        await asyncio.gather(*(base.close() for base in (party, *orchestrators)))

    run(tmp_path, play)


@pytest.mark.e2e
@pytest.mark.xdist_group("hub")
def test_what_is_kept_while_the_leader_dies_is_kept_once_and_every_watch_tells_it(tmp_path: Path) -> None:
    async def play(it: Hub, units) -> None:
        writer, watcher = [await connect(it.url, units["orchestrator"], "orchestrator") for _ in range(2)]
        store = writer.store(SHARED)
        await store.put("k0", {"n": 0})
        last: dict[str, object] = {}
        writing = [asyncio.create_task(store.put(f"k{number}", {"n": number}, revision=0)) for number in range(1, 20)]
        async with watcher.store(SHARED).watch() as entries:
            await it.servers[await asyncio.to_thread(it.leader, SHARED)].kill()
            told = await asyncio.gather(*writing, return_exceptions=True)
            assert [each for each in told if isinstance(each, BaseException)] == []
            while len(last) < 20:
                entry = await bounded("a change", anext(entries), within=BACK)
                last[entry.key] = entry.value
        assert last == {f"k{number}": {"n": number} for number in range(20)}
        await asyncio.gather(writer.close(), watcher.close())

    run(tmp_path, play)


class _Server:
    def __init__(self, netloc: str, reconnects: int = 0) -> None:
        self.uri = type("Uri", (), {"netloc": netloc})
        self.reconnects = reconnects


def test_the_next_attempt_goes_to_another_server_than_the_one_that_was_lost():
    choice = _Choice()
    choice._last = "a"
    assert choice.next([_Server("a"), _Server("b", 1), _Server("c")])[0].uri.netloc == "c"
    assert choice.next([_Server("a"), _Server("b", 1), _Server("c", 1)])[0].uri.netloc == "a"
    found, pause = choice.next([_Server("a", 20), _Server("b", 20)])
    assert found.uri.netloc == "b"
    assert pause <= 2.0


def test_an_address_of_the_bus_may_be_several_and_not_none():
    assert addresses("tls://a:1, tls://b:2,") == ["tls://a:1", "tls://b:2"]
    with pytest.raises(BadInput):
        addresses(" , ")
