"""The table of rights, and the accounts that NATS gets from it. Pure: no server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dynamos.kit.credentials import Credentials
from dynamos.kit.errors import BadInput, NotFound
from dynamos.knowledge import servers
from dynamos.knowledge.accounts import KNOWLEDGE, accounts
from dynamos.knowledge.layouts import LEDGERS, buckets
from dynamos.knowledge.permissions import rights, rights_of
from dynamos.knowledge.provisioning import bucket_config, ledger_config
from dynamos.knowledge.subjects import covers, narrower

PARTIES = ("UVA", "VU")


@pytest.mark.parametrize(
    ("wide", "narrow", "expected"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.c", False),
        ("a.*", "a.b", True),
        ("a.*", "a.b.c", False),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        ("a.*", "a.*", True),
        ("a.b", "a.*", False),
        ("a.*", "a.>", False),
        ("a.*.>", "a.b.c", True),
        ("a.*.>", "a.>", False),
        (">", "a", True),
        (">", ">", True),
        ("*", ">", False),
        ("report.UVA", "report.UVA.more", False),
    ],
)
def test_a_pattern_covers_what_it_means(wide: str, narrow: str, expected: bool) -> None:
    assert covers(wide, narrow) is expected


def test_of_two_patterns_the_narrower_is_taken() -> None:
    assert narrower("agent.*.>", "agent.UVA.>") == "agent.UVA.>"
    assert narrower("report.UVA", "report.*") == "report.UVA"
    assert narrower("job.>", "report.*") == ""


@pytest.mark.parametrize(
    "parties",
    [
        ["api"], ["API"], ["Orchestrator"], ["BUS"], ["admin"], ["UVA", "uva"], ["A_B", "a-b"], ["UVA.VU"], ["UVA>"],
        ["*"], ["a b"], [""], ["é"],
    ],
)  # fmt: skip
def test_a_party_with_a_dangerous_name_is_not_let_in(parties: list[str]) -> None:
    with pytest.raises(BadInput):
        rights(parties)


def test_an_unknown_unit_has_no_rights() -> None:
    with pytest.raises(NotFound):
        rights_of("SURF", PARTIES)


def test_no_two_units_write_the_same() -> None:
    table = rights(PARTIES)
    writers: dict[str, str] = {}
    for unit, its in table.items():
        for right in (*its.writes, *its.appends, *its.answers):
            for other, theirs in writers.items():
                assert not covers(other, right), (unit, theirs, right)
                assert not covers(right, other), (unit, theirs, right)
        writers.update(dict.fromkeys((*its.writes, *its.appends, *its.answers), unit))


def test_a_partys_account_imports_what_it_may_use_and_nothing_else() -> None:
    account = accounts(rights(PARTIES), "wage-gap")["unit_UVA"]
    assert account["users"][0]["user"] == "CN=UVA,O=wage-gap"
    reads = ["KV_party_UVA", "KV_shared", "KV_presence"]
    assert sorted(entry["service"]["subject"] for entry in account["imports"] if "service" in entry) == sorted([
        "report.UVA",
        "$KV.party_UVA.>",
        "$KV.presence.UVA.>",
        *(f"{log}.UVA{rest}" for log in ("audit", "trace") for rest in ("", ".>")),
        *(f"$JS.API.DIRECT.GET.{stream}" for stream in reads),
        *(f"$JS.API.DIRECT.GET.{stream}.$KV.{stream[3:]}.>" for stream in reads),
    ])  # fmt: skip
    assert sorted(entry["stream"]["subject"] for entry in account["imports"] if "stream" in entry) == [
        "changes.party_UVA.>",
        "changes.presence.>",
        "changes.shared.>",
    ]
    assert [(entry["service"], entry["accounts"]) for entry in account["exports"]] == [
        ("agent.UVA.>", ["unit_orchestrator"])
    ]


def test_every_import_is_exported_to_exactly_who_imports_it() -> None:
    made = accounts(rights(PARTIES), "wage-gap")
    for name, account in made.items():
        for entry in account.get("imports", []):
            ((kind, source),) = entry.items()
            exported = [
                export
                for export in made[source["account"]]["exports"]
                if kind in export and covers(export[kind], source["subject"])
            ]
            assert any(name in export["accounts"] for export in exported), (name, entry)
    for account in made.values():
        assert all(export["accounts"] for export in account["exports"]), "an export without a list is for everybody"


def test_only_the_knowledge_has_streams_and_only_the_administrator_is_in_it() -> None:
    made = accounts(rights(PARTIES), "wage-gap")
    assert [name for name, account in made.items() if "jetstream" in account] == [KNOWLEDGE]
    assert made[KNOWLEDGE]["users"] == [{"user": "CN=admin,O=wage-gap"}]


def test_logs_and_buckets_are_closed_to_tampering() -> None:
    for ledger in LEDGERS:
        made = ledger_config(ledger)
        assert (made.deny_delete, made.deny_purge, made.allow_rollup_hdrs) == (True, True, False)
    for bucket in buckets(PARTIES):
        made = bucket_config(bucket)
        assert (made.max_msgs_per_subject, made.allow_rollup_hdrs) == (1, False)


def test_the_servers_configuration_has_no_password_and_no_other_port(tmp_path: Path) -> None:
    credentials = Credentials(tmp_path / "certificate.pem", tmp_path / "key.pem", tmp_path / "authority.pem")
    text = servers.config(
        marketplace="wage-gap", parties=PARTIES, credentials=credentials, store=tmp_path / "store", port=4222
    )
    made = json.loads(text)
    assert made["listen"] == "127.0.0.1:4222"
    assert made["tls"]["verify_and_map"] is True
    assert made["tls"]["min_version"] == "1.3"
    assert not {"http", "http_port", "https", "cluster", "leafnodes", "websocket", "no_auth_user"} & made.keys()
    assert "password" not in text
    assert text == servers.config(
        marketplace="wage-gap", parties=reversed(PARTIES), credentials=credentials, store=tmp_path / "store", port=4222
    )


def test_a_missing_server_program_has_a_hint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotFound, match=r"dynamos\[local\]"):
        servers.command(tmp_path / "bus.json")
