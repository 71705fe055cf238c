"""What a party tries that keeps to no rule of ours, with a connection of its own to the real server."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from dynamos.kit.credentials import Credentials
from dynamos.kit.errors import BadInput, Refused, Unauthenticated, Unavailable
from dynamos.kit.waits import bounded, until
from dynamos.knowledge.bases import bucket_of
from dynamos.knowledge.jetstream import connect
from dynamos.knowledge.permissions import BUS
from dynamos.knowledge.servers import Server, config, free_port
from support.buses import MARKETPLACE, Marketplace, TestAuthority, issued, marketplace

MINE = {"mine": True}


def against(tmp_path: Path, body: Callable[[Marketplace], Awaitable[None]]) -> None:
    async def main() -> None:
        async with marketplace("jetstream", tmp_path) as market:
            await body(market)

    asyncio.run(main())


async def victims_agreement(market: Marketplace) -> object:
    orchestrator = await market.connect("orchestrator")
    found = await orchestrator.store(bucket_of("VU")).get("agreement")
    return found.value if found else None


async def prepare(market: Marketplace) -> None:
    victim = await market.connect("VU")
    await victim.store(bucket_of("VU")).put("agreement", MINE)
    await victim.log("audit").append("VU.decision", {"n": 1})


KV, API = "$KV.party_VU", "$JS.API"
FORBIDDEN = [
    f"{KV}.agreement",
    "$KV.presence.VU.1",
    "$KV.presence.UVA",
    "$KV.presence.orchestrator.1",
    "$KV.presence.api.1",
    "$KV.shared.archetypes.a",
    "changes.party_VU.agreement",
    "changes.shared.x",
    f"{API}.DIRECT.GET.KV_party_VU",
    f"{API}.DIRECT.GET.KV_party_VU.{KV}.agreement",
    f"{API}.DIRECT.GET.AUDIT",
    f"{API}.STREAM.MSG.GET.KV_party_VU",
    f"{API}.STREAM.MSG.GET.KV_party_UVA",
    f"{API}.CONSUMER.CREATE.KV_party_VU",
    f"{API}.CONSUMER.CREATE.KV_party_VU.spy.{KV}.agreement",
    f"{API}.CONSUMER.CREATE.KV_shared.spy.$KV.shared.x",
    f"{API}.CONSUMER.DURABLE.CREATE.KV_party_VU.spy",
    f"{API}.CONSUMER.MSG.NEXT.KV_party_VU.spy",
    f"{API}.STREAM.NAMES",
    f"{API}.STREAM.INFO.KV_party_VU",
    f"{API}.STREAM.CREATE.MINE",
    f"{API}.STREAM.UPDATE.AUDIT",
    f"{API}.STREAM.DELETE.AUDIT",
    f"{API}.STREAM.PURGE.AUDIT",
    f"{API}.STREAM.MSG.DELETE.AUDIT",
    f"{API}.STREAM.PURGE.KV_party_UVA",
    f"{API}.STREAM.SNAPSHOT.KV_party_VU",
    f"{API}.INFO",
    "$JS.ACK.KV_party_VU.spy.1.1.1.1.1",
    "$JS.FC.KV_party_VU.spy.x",
    "$SYS.REQ.USER.INFO",
    "$SYS.REQ.SERVER.PING",
    "audit.VU.decision",
    "trace.VU",
    "report.VU",
    "agent.VU.start",
    "orchestrator.submit",
    "job.1",
    "_INBOX_VU.x",
    "_R_.x",
]
UNHEARD = [
    ">", "*", "*.>", "$KV.>", "$KV.party_VU.>", "changes.>", "changes.*.>", "changes.party_VU.>", "agent.>",
    "agent.VU.>", "agent.*.start", "report.*", "orchestrator.>", "_INBOX_VU.>", "_INBOX_orchestrator.>", "_INBOX.>",
    "_R_.>", "$JS.>", "$SYS.>", "audit.>",
]  # fmt: skip


def test_every_subject_that_is_not_a_partys_is_refused(tmp_path: Path) -> None:
    async def body(market: Marketplace) -> None:
        await prepare(market)
        party = await market.raw("UVA")
        for subject in FORBIDDEN:
            with pytest.raises(Refused):
                await bounded(subject, party.request(subject, b"{}", within=60), within=2)
        for subject in UNHEARD:
            with pytest.raises(Refused):
                await bounded(subject, party.subscribe(subject, hear_nothing, within=60), within=2)
        with pytest.raises(Refused):
            await bounded("queue", party.subscribe("orchestrator.>", hear_nothing, queue="q", within=60), within=2)
        assert await victims_agreement(market) == MINE
        orchestrator = await market.connect("orchestrator")
        assert await orchestrator.log("audit").read() == [{"n": 1}]

    against(tmp_path, body)


async def hear_nothing(message: Msg) -> None:
    raise AssertionError(message)


def test_a_reply_subject_carries_nothing_into_anothers_bucket(tmp_path: Path) -> None:
    """NATS checks no permission on reply subjects: in one account, the server itself would write there."""

    async def body(market: Marketplace) -> None:
        await prepare(market)
        party, orchestrator = await market.raw("UVA"), await market.connect("orchestrator")
        asked: list[str] = []

        async def note(subject: str, message: dict[str, object]) -> dict[str, object]:
            asked.append(subject)
            return {"evil": True}

        await orchestrator.bus.listen("report.*", note)
        reads = "$JS.API.DIRECT.GET.KV_party_UVA"
        attacks = [
            ("$KV.party_UVA.x", b'{"evil":1}'),
            (f"{reads}.$KV.party_UVA.x", b""),
            (reads, json.dumps({"seq": 1, "batch": 5, "next_by_subj": "$KV.party_UVA.>"}).encode()),
            ("audit.UVA.x", b"{}"),
            ("report.UVA", b"{}"),
        ]
        for reply in ("$KV.party_VU.agreement", "agent.VU.start", "job.1", "$KV.shared.x", "audit.VU.decision"):
            for subject, payload in attacks:
                await party.client.publish(subject, payload, reply=reply)
        await party.client.flush()
        await bounded("the reports", _settled(market, asked), within=5)
        assert await victims_agreement(market) == MINE
        assert await orchestrator.store("shared").entries() == []
        assert await orchestrator.log("audit").read("VU.>") == [{"n": 1}]

    against(tmp_path, body)


async def _settled(market: Marketplace, asked: list[str]) -> None:
    async def all_five() -> bool:
        return len(asked) >= 5

    await until("five reports", all_five, within=5)
    await (await market.connect("VU")).store(bucket_of("VU")).put("other", {})


def test_a_writer_cannot_purge_with_a_header(tmp_path: Path) -> None:
    async def body(market: Marketplace) -> None:
        await prepare(market)
        orchestrator, party = await market.connect("orchestrator"), await market.raw("UVA")
        victim = await market.connect("VU")
        await victim.store("presence").put("VU.1", {"here": True})
        for subject in ("audit.UVA.x", "$KV.presence.UVA.1"):
            for how in ("all", "sub"):
                given = await party.request(subject, b"{}", within=5, headers={"Nats-Rollup": how})
                assert "error" in json.loads(given.data)
        assert [entry.key for entry in await orchestrator.store("presence").entries()] == ["VU.1"]
        assert await orchestrator.log("audit").read() == [{"n": 1}]

    against(tmp_path, body)


def test_not_even_the_administrator_deletes_from_the_audit(tmp_path: Path) -> None:
    async def body(market: Marketplace) -> None:
        await prepare(market)
        admin = await market.raw("admin")
        for subject, ask in [
            ("STREAM.MSG.DELETE.AUDIT", {"seq": 1}),
            ("STREAM.PURGE.AUDIT", {}),
            ("STREAM.UPDATE.AUDIT", {"name": "AUDIT", "subjects": ["audit.>"], "deny_delete": False}),
        ]:
            given = await admin.request(f"$JS.API.{subject}", json.dumps(ask).encode(), within=5)
            assert "error" in json.loads(given.data), subject
        orchestrator = await market.connect("orchestrator")
        assert await orchestrator.log("audit").read() == [{"n": 1}]

    against(tmp_path, body)


def test_garbage_from_a_party_stops_no_reader(tmp_path: Path) -> None:
    async def body(market: Marketplace) -> None:
        party, orchestrator = await market.raw("UVA"), await market.connect("orchestrator")
        store = orchestrator.store(bucket_of("UVA"))
        async with store.watch() as entries:
            for rubbish in (b"\xff\x00", b"[1]", b"", b"[" * 100_000, b'{"a":', b"NaN"):
                await party.request("$KV.party_UVA.agreement", rubbish, within=5)
                await party.request("audit.UVA.x", rubbish, within=5)
            assert (await store.get("agreement") or None) is None
            await party.request("$KV.party_UVA.agreement", b'{"good":1}', within=5)
            entry = await bounded("the good value", anext(entries), within=5)
            while entry.value != {"good": 1}:
                entry = await bounded("the good value", anext(entries), within=5)
        assert await orchestrator.log("audit").read() == [{}]

        async def answer(message: Msg) -> None:
            await message.respond(b"rubbish")

        await party.subscribe("agent.UVA.>", answer, within=5)
        with pytest.raises(BadInput, match="not JSON"):
            await orchestrator.bus.request("agent.UVA.start", {}, within=5)

    against(tmp_path, body)


# --- who is let in --------------------------------------------------------------------------------------------------


def forged(tmp_path: Path) -> dict[str, Credentials]:
    """Give credentials that no bus of this marketplace may accept."""
    ours, units = issued()
    elsewhere = TestAuthority(tmp_path / "elsewhere", MARKETPLACE)
    stolen = elsewhere.issue("orchestrator")
    return {
        "from another authority": Credentials(stolen.certificate, stolen.key, ours.path),
        "of an unknown unit": ours.issue("mallory"),
        "of another marketplace": ours.issue("UVA", organisation="aviation"),
        "of a unit in other letters": ours.issue("uva"),
        "of the server": units[BUS],
        "with a unit's name as a DNS name": ours.issue("mallory2", names=("UVA", "orchestrator", "localhost")),
    }


def test_only_certificates_of_units_are_let_in(tmp_path: Path) -> None:
    async def body(market: Marketplace) -> None:
        for what, credentials in forged(tmp_path).items():
            with pytest.raises(Unauthenticated):
                await bounded(what, connect(market.server.url, credentials, "UVA", within=60), within=10)

    against(tmp_path, body)


def test_without_a_certificate_or_with_old_tls_nobody_is_let_in(tmp_path: Path) -> None:
    async def body(market: Marketplace) -> None:
        credentials = market.credentials("UVA")
        nameless = ssl.create_default_context(cafile=str(credentials.authority))
        old = credentials.client_context()
        old.minimum_version = ssl.TLSVersion.TLSv1_2
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        for context in (nameless, old):
            assert await outcome(market.server.url, tls=context) != "connected"
        assert await outcome(market.server.url.replace("tls", "nats")) != "connected"

    against(tmp_path, body)


def test_a_name_in_the_protocol_does_not_change_who_one_is(tmp_path: Path) -> None:
    async def body(market: Marketplace) -> None:
        context = market.credentials("UVA").client_context()
        assert await outcome(market.server.url, tls=context) == "connected"
        name = f"CN=orchestrator,O={MARKETPLACE}"
        assert await outcome(market.server.url, tls=context, user=name, password="x") != "connected"

    against(tmp_path, body)


async def outcome(url: str, **options: object) -> str:
    client = Client()

    async def ignore(error: Exception) -> None:
        pass

    try:
        await client.connect(
            url,
            tls_hostname=BUS,
            tls_handshake_first="tls" in options,
            allow_reconnect=False,
            error_cb=ignore,
            connect_timeout=1,
            **options,
        )  # type: ignore[arg-type]
    except Exception as error:  # noqa: BLE001 - whatever it is, it is no connection
        return repr(error)
    else:
        return "connected"
    finally:
        with suppress(TimeoutError):  # nats-py waits for the end of a handshake that failed
            async with asyncio.timeout(0.2):
                await client.close()


def test_a_party_cannot_pose_as_the_bus(tmp_path: Path) -> None:
    """A party's certificate is good for localhost too; a unit still wants the server that is called `bus`."""

    async def main() -> None:
        _, units = issued()
        port = free_port()
        folder = tmp_path / "fake"
        folder.mkdir()
        text = config(
            marketplace=MARKETPLACE, parties=["UVA"], credentials=units["SURF"], store=folder / "store", port=port
        )
        fake = Server(folder, f"tls://127.0.0.1:{port}", text)
        await fake.start()
        try:
            with pytest.raises(Unauthenticated, match="not this marketplace's bus"):
                await connect(fake.url, units["UVA"], "UVA")
        finally:
            await fake.stop()

    asyncio.run(main())


def test_no_bus_and_no_credentials_are_told_apart(tmp_path: Path) -> None:
    _, units = issued()
    nowhere = f"tls://127.0.0.1:{free_port()}"
    with pytest.raises(Unavailable, match="no bus at this address"):
        asyncio.run(connect(nowhere, units["UVA"], "UVA", within=0.2))
    missing = Credentials(tmp_path / "certificate.pem", tmp_path / "key.pem", units["UVA"].authority)
    with pytest.raises(BadInput, match="not there"):
        asyncio.run(connect(nowhere, missing, "UVA"))
    (tmp_path / "certificate.pem").write_text("rubbish")
    (tmp_path / "key.pem").write_text("rubbish")
    with pytest.raises(BadInput, match="cannot be used"):
        asyncio.run(connect(nowhere, missing, "UVA"))


def test_a_unit_is_who_its_certificate_says(tmp_path: Path) -> None:
    async def body(market: Marketplace) -> None:
        with pytest.raises(Unauthenticated, match="not that of 'VU'"):
            await connect(market.server.url, market.credentials("UVA"), "VU")

    against(tmp_path, body)
