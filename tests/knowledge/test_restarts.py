"""The server is killed and comes back; it has no room; it was replaced by an empty one."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from dynamos.kit.errors import DynamosError, Full, TimedOut, Unavailable
from dynamos.kit.waits import bounded, until
from dynamos.knowledge import servers, streams
from dynamos.knowledge.bases import SHARED, KnowledgeBase, bucket_of
from dynamos.knowledge.buses import Message
from dynamos.knowledge.kvstores import JetStreamStore
from dynamos.knowledge.permissions import ADMIN, BUS
from dynamos.knowledge.provisioning import provision
from dynamos.knowledge.servers import serve
from support.buses import MARKETPLACE, PARTIES, issued, marketplace


async def echo(subject: str, message: Message) -> Message | None:
    return message


async def back(base: KnowledgeBase) -> None:
    """Wait until the knowledge base works again."""

    async def works() -> bool:
        try:
            await base.store(SHARED).get("anything")
        except DynamosError:
            return False
        return True

    await until("the bus back", works, within=20)


def test_after_a_kill_nothing_is_lost_and_everything_goes_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with marketplace("jetstream", tmp_path) as market:
            party, orchestrator = await market.connect("UVA"), await market.connect("orchestrator")
            reconnected = asyncio.Event()
            party.on_reconnect(reconnected.set)
            await party.bus.listen("agent.UVA.>", echo)
            mine = party.store(bucket_of("UVA"))
            revision = await mine.put("agreement", {"n": 1})
            await party.log("audit").append("UVA.decision", {"n": 1})
            async with orchestrator.store(bucket_of("UVA")).watch() as entries:
                assert (await bounded("the first value", anext(entries), within=5)).value == {"n": 1}
                await market.server.kill()
                await market.server.start()
                await back(party)
                await bounded("the call after a reconnect", reconnected.wait(), within=10)
                found = await mine.get("agreement")
                assert found
                assert (found.value, found.revision) == ({"n": 1}, revision)
                for number in range(2, 50):
                    await mine.put("agreement", {"n": number})
                last = 1
                while last < 49:
                    entry = await bounded("the next value", anext(entries), within=10)
                    assert entry.value
                    assert entry.value["n"] > last
                    last = entry.value["n"]
            await back(orchestrator)
            assert await orchestrator.log("audit").read() == [{"n": 1}]
            assert await orchestrator.bus.request("agent.UVA.start", {"n": 7}, within=10) == {"n": 7}

    asyncio.run(main())


def test_a_watch_tells_what_changed_while_it_was_away(tmp_path: Path) -> None:
    """Only the watcher is cut off: what others write meanwhile, it gets after it is back, once, deletions too."""

    async def main() -> None:
        async with marketplace("jetstream", tmp_path) as market:
            orchestrator, watcher = await market.connect("orchestrator"), await market.raw("api")
            store = orchestrator.store(SHARED)
            for key in ("kept", "changed", "deleted"):
                await store.put(key, {"n": 1})
            async with JetStreamStore(watcher, SHARED).watch() as entries:
                for _ in range(3):
                    await bounded("what is there", anext(entries), within=5)
                gone = asyncio.Event()
                hold = asyncio.Event()
                reconnect = watcher.client._attempt_reconnect

                async def held() -> None:
                    gone.set()
                    await hold.wait()
                    await reconnect()

                watcher.client._attempt_reconnect = held
                await watcher.client.force_reconnect()
                await bounded("the loss", gone.wait(), within=5)
                watcher.client._transport.close()
                await store.put("changed", {"n": 2})
                await store.put("changed", {"n": 3})
                await store.delete("deleted")
                await store.put("new", {"n": 1})
                hold.set()
                told = [await bounded("a change", anext(entries), within=10) for _ in range(3)]
                await store.put("kept", {"n": 2})
                told.append(await bounded("a change", anext(entries), within=10))
            assert [(entry.key, entry.value) for entry in told] == [
                ("changed", {"n": 3}),
                ("deleted", None),
                ("new", {"n": 1}),
                ("kept", {"n": 2}),
            ]

    asyncio.run(main())


def test_who_waits_when_the_server_dies_is_told_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with marketplace("jetstream", tmp_path) as market:
            party, orchestrator = await market.connect("UVA"), await market.connect("orchestrator")
            begun = asyncio.Event()

            async def hang(subject: str, message: Message) -> Message | None:
                begun.set()
                await asyncio.Event().wait()
                return None

            await party.bus.listen("agent.UVA.>", hang)
            asking = asyncio.create_task(orchestrator.bus.request("agent.UVA.start", {}, within=60))
            await begun.wait()
            await market.server.kill()
            with pytest.raises(Unavailable, match="lost"):
                await bounded("the error", asking, within=5)
            with pytest.raises(Unavailable):
                await bounded("the error", orchestrator.bus.request("agent.UVA.start", {}, within=0.2), within=5)

    asyncio.run(main())


def test_a_request_that_failed_is_not_sent_later(tmp_path: Path) -> None:
    async def main() -> None:
        async with marketplace("jetstream", tmp_path) as market:
            party, orchestrator = await market.connect("UVA"), await market.connect("orchestrator")
            started: list[int] = []

            async def start(subject: str, message: Message) -> Message | None:
                started.append(message["n"])
                return None

            await party.bus.listen("agent.UVA.>", start)
            await market.server.kill()
            with pytest.raises(Unavailable):
                await orchestrator.bus.request("agent.UVA.start", {"n": 1}, within=0.2)
            await market.server.start()
            await back(party)
            await back(orchestrator)
            await orchestrator.bus.request("agent.UVA.start", {"n": 2}, within=10)
            assert started == [2]

    asyncio.run(main())


def test_a_watch_notices_a_server_that_lost_everything(tmp_path: Path) -> None:
    async def main() -> None:
        async with marketplace("jetstream", tmp_path) as market:
            _, units = issued()
            orchestrator = await market.connect("orchestrator")
            store = orchestrator.store(SHARED)
            for number in range(5):
                await store.put(f"k{number % 2}", {"n": number})
            async with store.watch() as entries:
                before = [await bounded("a value", anext(entries), within=5) for _ in range(2)]
                assert {entry.key for entry in before} == {"k0", "k1"}
                await market.server.kill()
                shutil.rmtree(tmp_path / "bus" / "store")
                await market.server.start()
                await provision(market.server.url, units[ADMIN], PARTIES)
                await back(orchestrator)
                await store.put("k0", {"n": 9})
                last: dict[str, object] = {entry.key: entry.value for entry in before}
                while last != {"k0": {"n": 9}, "k1": None}:
                    entry = await bounded("a change", anext(entries), within=10)
                    last[entry.key] = entry.value

    asyncio.run(main())


def test_provisioning_again_changes_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with marketplace("jetstream", tmp_path) as market:
            _, units = issued()
            store = (await market.connect("UVA")).store(bucket_of("UVA"))
            await store.put("agreement", {"n": 1})
            await provision(market.server.url, units[ADMIN], PARTIES)
            assert await store.get("agreement")

    asyncio.run(main())


def on_a_small_disk(disk: Path, command: list[str]) -> list[str]:
    """Give the command that runs `command` with 3 MB of disk mounted at `disk`, seen by nobody else."""
    script = f"mount -t tmpfs -o size=3m small {shlex.quote(str(disk))} && exec {shlex.join(command)}"
    return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]


@pytest.mark.sandbox
def test_a_full_disk_is_told_within_a_bound_and_reading_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmp_path / "bus" / "store"
    disk.mkdir(parents=True)
    try:
        subprocess.run(on_a_small_disk(disk, ["true"]), check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no user and mount namespaces here: {error}")
    started = servers.command
    monkeypatch.setattr(servers, "command", lambda path: on_a_small_disk(disk, started(path)))
    monkeypatch.setattr(streams, "STORE_WITHIN", 1.0)

    async def fill(base: KnowledgeBase) -> None:
        for number in range(20):
            await base.log("audit").append("UVA.decision", {"n": number, "much": "x" * 400_000})

    async def main() -> None:
        async with marketplace("jetstream", tmp_path) as market:
            party, orchestrator = await market.connect("UVA"), await market.connect("orchestrator")
            await party.log("audit").append("UVA.decision", {"first": True})
            with pytest.raises((TimedOut, Full, Unavailable), match=r"disk|room"):
                await bounded("the error", fill(party), within=30)
            records = await orchestrator.log("audit").read()
            assert records[0] == {"first": True}
            assert [record["n"] for record in records[1:]] == list(range(len(records) - 1))

    asyncio.run(main())


def test_a_server_with_too_little_room_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        _, units = issued()
        async with serve(
            tmp_path / "bus",
            marketplace=MARKETPLACE,
            parties=PARTIES,
            credentials=units[BUS],
            admin=units[ADMIN],
            disk=2**20,
        ):
            raise AssertionError("there is no room for the buckets")

    with pytest.raises(Full, match="storage"):
        asyncio.run(main())


def test_what_is_kept_while_the_server_restarts_is_kept_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with marketplace("jetstream", tmp_path) as market:
            party = await market.connect("UVA")
            mine, log = party.store(bucket_of("UVA")), party.log("audit")
            await market.server.kill()
            writing = asyncio.gather(log.append("UVA.decision", {"n": 1}), mine.put("grant", {"n": 1}, revision=0))
            await market.server.start()
            await bounded("both kept", writing, within=20)
            reader = await market.connect("orchestrator")
            assert await reader.log("audit").read("UVA.>") == [{"n": 1}]
            found = await mine.get("grant")
            assert found
            assert found.value == {"n": 1}

    asyncio.run(main())
