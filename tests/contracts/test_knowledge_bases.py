"""What every knowledge base does: the one in memory, and the one over NATS with mutual TLS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from dynamos.kit.errors import (
    BadInput,
    Broken,
    Conflict,
    DynamosError,
    Full,
    JobFailed,
    NotFound,
    Refused,
    TimedOut,
    Unavailable,
)
from dynamos.kit.waits import bounded
from dynamos.knowledge.bases import JOBS, PRESENCE, SHARED, bucket_of
from dynamos.knowledge.buses import Message
from dynamos.knowledge.stores import Entry
from support.buses import Marketplace, marketplace

Case = Callable[[Callable[[Marketplace], Awaitable[None]]], None]


@pytest.fixture(params=["memory", "jetstream"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    def case(body: Callable[[Marketplace], Awaitable[None]]) -> None:
        async def main() -> None:
            async with marketplace(request.param, tmp_path) as market:
                await body(market)

        asyncio.run(main())

    return case


async def following(entries: AsyncIterator[Entry]) -> Entry:
    return await bounded("the next change", anext(entries), within=5)


# --- stores ---------------------------------------------------------------------------------------------------------


def test_what_is_put_is_there_for_who_may_read_it(run: Case) -> None:
    async def body(market: Marketplace) -> None:
        party, orchestrator = await market.connect("UVA"), await market.connect("orchestrator")
        mine = party.store(bucket_of("UVA"))
        revision = await mine.put("agreement", {"relations": {"jo@x.nl": "één"}})
        for store in (mine, orchestrator.store(bucket_of("UVA"))):
            assert await store.get("agreement") == Entry("agreement", {"relations": {"jo@x.nl": "één"}}, revision)
        assert await mine.get("catalogue") is None

    run(body)


def test_a_revision_lets_only_the_first_of_two_writers_through(run: Case) -> None:
    async def body(market: Marketplace) -> None:
        store = (await market.connect("orchestrator")).store(SHARED)
        first = await store.put("archetypes.a", {"n": 1}, revision=0)
        with pytest.raises(Conflict):
            await store.put("archetypes.a", {"n": 2}, revision=0)
        second = await store.put("archetypes.a", {"n": 3}, revision=first)
        assert second > first
        with pytest.raises(Conflict):
            await store.put("archetypes.a", {"n": 4}, revision=first)
        with pytest.raises(Conflict):
            await store.delete("archetypes.a", revision=first)
        found = await store.get("archetypes.a")
        assert found == Entry("archetypes.a", {"n": 3}, second)

    run(body)


def test_of_many_writers_at_once_one_wins(run: Case) -> None:
    async def body(market: Marketplace) -> None:
        store = (await market.connect("orchestrator")).store(JOBS)

        async def claim(number: int) -> int | None:
            try:
                await store.put("claim", {"by": number}, revision=0)
            except Conflict:
                return None
            return number

        won = [number for number in await asyncio.gather(*map(claim, range(20))) if number is not None]
        assert len(won) == 1
        found = await store.get("claim")
        assert found
        assert found.value == {"by": won[0]}

    run(body)


def test_a_deleted_key_is_gone_and_can_be_made_again(run: Case) -> None:
    async def body(market: Marketplace) -> None:
        store = (await market.connect("orchestrator")).store(SHARED)
        await store.put("k", {"n": 1})
        await store.delete("k")
        await store.delete("k")
        await store.delete("never-there")
        assert await store.get("k") is None
        assert await store.entries() == []
        await store.put("k", {"n": 2}, revision=0)
        found = await store.get("k")
        assert found
        assert found.value == {"n": 2}

    run(body)


def test_entries_are_sorted_and_a_prefix_is_whole_tokens(run: Case) -> None:
    async def body(market: Marketplace) -> None:
        store = (await market.connect("orchestrator")).store(SHARED)
        for key in ("b", "a.z", "ab", "a", "a.y.x"):
            await store.put(key, {"key": key})
        await store.put("b", {"key": "b", "again": True})
        assert [entry.key for entry in await store.entries()] == ["a", "a.y.x", "a.z", "ab", "b"]
        assert [entry.key for entry in await store.entries("a")] == ["a", "a.y.x", "a.z"]
        assert await store.entries("nothing") == []

    run(body)


def test_more_entries_than_one_page_are_all_there(run: Case) -> None:
    async def body(market: Marketplace) -> None:
        store = (await market.connect("orchestrator")).store(JOBS)
        for start in range(0, 1100, 100):
            await asyncio.gather(*(store.put(f"job.{n:04}", {"n": n}) for n in range(start, start + 100)))
        found = await store.entries("job")
        assert [entry.value for entry in found] == [{"n": n} for n in range(1100)]

    run(body)


@pytest.mark.parametrize("key", ["", "a b", "a..b", ".a", "a.", "a*", "a.>", "é", "x" * 600])
def test_a_malformed_key_is_named(run: Case, key: str) -> None:
    async def body(market: Marketplace) -> None:
        store = (await market.connect("orchestrator")).store(SHARED)
        for attempt in (store.get(key), store.put(key, {}), store.delete(key)):
            with pytest.raises(BadInput, match="not a key"):
                await attempt

    run(body)


def test_what_is_no_json_or_too_large_is_refused_before_it_is_sent(run: Case) -> None:
    async def body(market: Marketplace) -> None:
        base = await market.connect("orchestrator")
        store = base.store(SHARED)
        with pytest.raises(BadInput, match="not JSON"):
            await store.put("k", {"when": object()})
        with pytest.raises(BadInput, match="more than"):
            await store.put("k", {"much": "x" * 9_000_000})
        with pytest.raises(BadInput, match="more than"):
            await base.bus.request("agent.UVA.start", {"much": "x" * 9_000_000}, within=1)
        await store.put("k", {"much": "x" * 7_000_000})
        found = await store.get("k")
        assert found
        assert found.value == {"much": "x" * 7_000_000}

    run(body)


def test_a_full_bucket_says_so_and_keeps_what_it_has(run: Case) -> None:
    async def body(market: Marketplace) -> None:
        store = (await market.connect("UVA")).store(bucket_of("UVA"))
        await store.put("kept", {"n": 1})
        for number in range(4):
            await store.put(f"big.{number}", {"much": "x" * 7_000_000})
        for number in range(4):
            await store.put(f"big.{number}", {"much": "x" * 7_000_000})
        with pytest.raises(Full):
            await store.put("big.4", {"much": "x" * 7_000_000})
        found = await store.get("kept")
        assert found
        assert found.value == {"n": 1}

    run(body)


# --- watches --------------------------------------------------------------------------------------------------------


def test_a_watch_gives_what_is_there_then_every_change_in_order(run: Case) -> None:
    async def body(market: Marketplace) -> None:
        orchestrator, api = await market.connect("orchestrator"), await market.connect("api")
        store = orchestrator.store(SHARED)
        await store.put("a", {"n": 1})
        await store.put("b", {"n": 2})
        await store.put("a", {"n": 3})
        await store.put("gone", {})
        await store.delete("gone")
        async with api.store(SHARED).watch() as entries:
            assert [(e.key, e.value) for e in [await following(entries), await following(entries)]] == [
                ("b", {"n": 2}),
                ("a", {"n": 3}),
            ]
            for number in range(200):
                await store.put("a", {"n": number})
            await store.delete("b")
            told = [await following(entries) for _ in range(201)]
        assert [entry.value for entry in told] == [*({"n": n} for n in range(200)), None]
        assert told[-1].key == "b"
        revisions = [entry.revision for entry in told]
        assert revisions == sorted(set(revisions))

    run(body)


def test_a_watch_of_a_prefix_tells_of_that_prefix_only(run: Case) -> None:
    async def body(market: Marketplace) -> None:
        store = (await market.connect("orchestrator")).store(SHARED)
        await store.put("x.one", {})
        async with store.watch("a") as entries:
            for key in ("a.one", "ab", "x.two", "a"):
                await store.put(key, {})
            assert [(await following(entries)).key for _ in range(2)] == ["a.one", "a"]

    run(body)


def test_a_watch_that_begins_while_others_write_misses_nothing(run: Case) -> None:
    async def body(market: Marketplace) -> None:
        orchestrator, api = await market.connect("orchestrator"), await market.connect("api")
        store = orchestrator.store(JOBS)

        async def write() -> None:
            for number in range(300):
                await store.put(f"job{number % 7}", {"n": number})

        writing = asyncio.create_task(write())
        last: dict[str, Any] = {}
        async with api.store(JOBS).watch() as entries:
            while max((value["n"] for value in last.values()), default=-1) < 299:
                entry = await following(entries)
                assert entry.value
                assert entry.value["n"] > last.get(entry.key, {"n": -1})["n"]
                last[entry.key] = entry.value
        await writing
        assert last == {f"job{n % 7}": {"n": n} for n in range(293, 300)}

    run(body)


def test_a_watch_ends_when_its_knowledge_base_is_closed(run: Case) -> None:
    async def body(market: Marketplace) -> None:
        base = await market.connect("api")
        async with base.store(SHARED).watch() as entries:
            waiting = asyncio.create_task(anext(entries, None))
            await base.close()
            assert await bounded("the end of the watch", waiting, within=5) is None

    run(body)


# --- bus ------------------------------------------------------------------------------------------------------------


def test_an_answer_comes_back(run: Case) -> None:
    async def body(market: Marketplace) -> None:
        party, orchestrator = await market.connect("UVA"), await market.connect("orchestrator")

        async def start(subject: str, message: Message) -> Message | None:
            return {"subject": subject, "got": message, "error": None} if message else None

        await party.bus.listen("agent.UVA.>", start)
        answered = await orchestrator.bus.request("agent.UVA.start", {"é": [1, None]}, within=5)
        assert answered == {"subject": "agent.UVA.start", "got": {"é": [1, None]}, "error": None}
        assert await orchestrator.bus.request("agent.UVA.start", {}, within=5) == {}

    run(body)


@pytest.mark.parametrize(
    "error",
    [
        Refused("no", where="UVA", hint="ask", reasons=[{"clause": "users"}]),
        JobFailed("step 2 crashed", code="service-crashed", step="avg"),
        TimedOut("no answer within 3 s"),
        Conflict("exists"),
    ],
)
def test_the_handlers_error_is_raised_at_the_asker(run: Case, error: DynamosError) -> None:
    async def body(market: Marketplace) -> None:
        api, orchestrator = await market.connect("api"), await market.connect("orchestrator")

        async def submit(subject: str, message: Message) -> Message | None:
            raise error

        await orchestrator.bus.listen("orchestrator.>", submit, queue="orchestrator")
        with pytest.raises(type(error)) as raised:
            await api.bus.request("orchestrator.submit", {}, within=5)
        assert type(raised.value) is type(error)
        assert raised.value.as_dict() == error.as_dict()
        assert raised.value.status == error.status

    run(body)


def test_a_defect_of_the_handler_is_told_without_what_it_knew(run: Case, caplog: pytest.LogCaptureFixture) -> None:
    async def body(market: Marketplace) -> None:
        party, orchestrator = await market.connect("UVA"), await market.connect("orchestrator")

        async def start(subject: str, message: Message) -> Message | None:
            raise ValueError("salary of Jo is 12")

        await party.bus.listen("agent.UVA.>", start)
        with pytest.raises(Broken) as raised:
            await orchestrator.bus.request("agent.UVA.start", {}, within=5)
        assert "Jo" not in str(raised.value.as_dict())

    run(body)
    assert "salary of Jo is 12" in caplog.text


def test_nobody_listens_is_known_at_once(run: Case) -> None:
    async def body(market: Marketplace) -> None:
        orchestrator, party = await market.connect("orchestrator"), await market.connect("UVA")
        with pytest.raises(Unavailable, match="nobody listens"):
            await bounded("the answer", orchestrator.bus.request("agent.UVA.start", {}, within=60), within=5)
        subscription = await party.bus.listen("agent.UVA.>", echo)
        await orchestrator.bus.request("agent.UVA.start", {}, within=5)
        await subscription.close()
        await party.store(SHARED).get("settled")
        with pytest.raises(Unavailable, match="nobody listens"):
            await bounded("the answer", orchestrator.bus.request("agent.UVA.start", {}, within=60), within=5)

    run(body)


def test_an_answer_that_does_not_come_has_a_bound(run: Case) -> None:
    async def body(market: Marketplace) -> None:
        party, orchestrator = await market.connect("UVA"), await market.connect("orchestrator")
        stopped = asyncio.Event()

        async def hang(subject: str, message: Message) -> Message | None:
            try:
                await asyncio.Event().wait()
            finally:
                stopped.set()
            return None

        await party.bus.listen("agent.UVA.>", hang)
        with pytest.raises(TimedOut, match=r"0\.1 s"):
            await orchestrator.bus.request("agent.UVA.start", {}, within=0.1)
        assert not stopped.is_set()
        await party.close()
        assert stopped.is_set(), "a closed knowledge base leaves no handler at work"

    run(body)


async def echo(subject: str, message: Message) -> Message | None:
    return message


def test_handlers_work_concurrently(run: Case) -> None:
    async def body(market: Marketplace) -> None:
        party, orchestrator = await market.connect("UVA"), await market.connect("orchestrator")
        everybody = asyncio.Barrier(20)

        async def meet(subject: str, message: Message) -> Message | None:
            await everybody.wait()
            return message

        await party.bus.listen("agent.UVA.>", meet)
        asked = [orchestrator.bus.request("agent.UVA.start", {"n": n}, within=10) for n in range(20)]
        assert await asyncio.gather(*asked) == [{"n": n} for n in range(20)]

    run(body)


def test_a_queue_shares_the_work_and_events_reach_everybody(run: Case) -> None:
    async def body(market: Marketplace) -> None:
        orchestrator, api = await market.connect("orchestrator"), await market.connect("api")
        worked: list[int] = []
        heard: asyncio.Queue[tuple[str, Message]] = asyncio.Queue()

        async def work(subject: str, message: Message) -> Message | None:
            worked.append(message["n"])
            return None

        async def hear(subject: str, message: Message) -> Message | None:
            heard.put_nowait((subject, message))
            return None

        for _ in range(2):
            await orchestrator.bus.listen("orchestrator.>", work, queue="orchestrator")
            await api.bus.listen("job.>", hear)
        for number in range(10):
            await api.bus.request("orchestrator.check", {"n": number}, within=5)
        assert sorted(worked) == list(range(10))
        await orchestrator.bus.publish("job.7", {"event": "done"})
        for _ in range(2):
            assert await bounded("the event", heard.get(), within=5) == ("job.7", {"event": "done"})

    run(body)


@pytest.mark.parametrize("subject", ["", "job.*", "job.>", "job. x", "job..x", "job.x\r\nPUB job.y 0"])
def test_a_malformed_subject_is_named(run: Case, subject: str) -> None:
    async def body(market: Marketplace) -> None:
        with pytest.raises(BadInput, match="not a subject"):
            await (await market.connect("orchestrator")).bus.publish(subject, {})

    run(body)


# --- logs -----------------------------------------------------------------------------------------------------------


def test_a_log_keeps_every_record_in_order(run: Case) -> None:
    async def body(market: Marketplace) -> None:
        party, other = await market.connect("UVA"), await market.connect("VU")
        orchestrator = await market.connect("orchestrator")
        for number in range(30):
            await (
                (party if number % 3 else other)
                .log("audit")
                .append(f"{'UVA' if number % 3 else 'VU'}.decision", {"n": number})
            )
        assert await orchestrator.log("audit").append("orchestrator", {"n": 30}) == 31
        log = orchestrator.log("audit")
        assert await log.read() == [{"n": n} for n in range(31)]
        assert await log.read("VU.>") == [{"n": n} for n in range(0, 30, 3)]
        assert await log.read("VU.>", limit=2) == [{"n": 24}, {"n": 27}]
        assert await log.read("*", limit=5) == [{"n": 30}]
        assert await log.read("SURF.>") == []
        api = await market.connect("api")
        await api.log("traces").append("api", {"span": 1})
        assert await api.log("traces").read() == [{"span": 1}]
        with pytest.raises(NotFound):
            api.log("nothing")

    run(body)


# --- rights: everything that is not given is refused, quickly ---------------------------------------------------------


async def refused(attempt: Awaitable[object]) -> None:
    with pytest.raises(Refused):
        await bounded("the refusal", attempt, within=2)


def test_a_party_can_neither_read_nor_write_what_is_anothers(run: Case) -> None:
    async def body(market: Marketplace) -> None:
        victim, party = await market.connect("VU"), await market.connect("UVA")
        await victim.store(bucket_of("VU")).put("agreement", {"mine": True})
        theirs = party.store(bucket_of("VU"))
        await refused(theirs.get("agreement"))
        await refused(theirs.entries())
        await refused(theirs.put("agreement", {"mine": False}))
        await refused(theirs.delete("agreement", revision=1))
        with pytest.raises(Refused):
            async with asyncio.timeout(2), theirs.watch():
                pass
        await party.store(PRESENCE).put("UVA.1", {})
        for key in ("VU", "VU.1", "UVA", "orchestrator.1", "api.1"):
            await refused(party.store(PRESENCE).put(key, {}))
        await refused(party.store(SHARED).put("archetypes.a", {}))
        await refused(party.store(JOBS).entries())
        await refused(party.log("audit").append("VU.decision", {}))
        await refused(party.log("audit").read())
        await refused(party.log("traces").read())
        found = await victim.store(bucket_of("VU")).get("agreement")
        assert found
        assert found.value == {"mine": True}

    run(body)


def test_a_party_can_neither_speak_nor_listen_for_another(run: Case) -> None:
    async def body(market: Marketplace) -> None:
        party = await market.connect("UVA")
        for subject in ("report.VU", "agent.VU.start", "agent.UVA.start", "orchestrator.submit", "job.1"):
            await refused(party.bus.publish(subject, {}))
            await refused(party.bus.request(subject, {}, within=60))
        for subject in ("agent.VU.>", "agent.>", "agent.*.start", ">", "*", "report.UVA", "job.>", "_INBOX_VU.>"):
            await refused(party.bus.listen(subject, echo))

    run(body)


def test_not_even_the_orchestrator_writes_an_agreement(run: Case) -> None:
    async def body(market: Marketplace) -> None:
        party, orchestrator = await market.connect("UVA"), await market.connect("orchestrator")
        await party.store(bucket_of("UVA")).put("agreement", {"mine": True})
        store = orchestrator.store(bucket_of("UVA"))
        assert await store.get("agreement")
        await refused(store.put("agreement", {}))
        await refused(orchestrator.store(PRESENCE).put("UVA.1", {}))
        await refused(orchestrator.log("audit").append("UVA.decision", {}))
        await refused(orchestrator.bus.publish("report.UVA", {}))

    run(body)


def test_the_api_reads_no_agreement_and_commands_no_agent(run: Case) -> None:
    async def body(market: Marketplace) -> None:
        api = await market.connect("api")
        await refused(api.store(bucket_of("UVA")).get("agreement"))
        await refused(api.store(JOBS).put("job", {}))
        await refused(api.store(SHARED).put("archetypes.a", {}))
        await refused(api.bus.request("agent.UVA.start", {}, within=60))
        await refused(api.bus.publish("job.1", {}))
        await refused(api.log("audit").read())

    run(body)
