"""The table of rights as NATS accounts: one account for each unit, and one that keeps the knowledge.

Permissions on subjects alone do not separate units that share an account: NATS does not check the reply subject of a
message, so whoever may write its own bucket could have the server's acknowledgement written into somebody else's.
Between accounts only imports pass, and replies go back to the account that asked. Permissions stay as a second wall.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dynamos.knowledge import subjects
from dynamos.knowledge.permissions import ADMIN, Rights

KNOWLEDGE = "knowledge"
ANSWER_WITHIN = "10m"
"""How long an answer may take before the server forgets who asked."""

LIMITS = {"max_connections": 16, "max_subscriptions": 4096}


def accounts(
    table: Mapping[str, Rights], marketplace: str, *, renamed: Mapping[str, Mapping[str, str]] | None = None
) -> dict[str, Any]:
    """Give the `accounts` of a server's configuration. A unit's user name is the subject of its certificate.

    `renamed` gives, for units behind a leaf, other names under which the knowledge serves them too.
    """
    made: dict[str, Any] = {
        KNOWLEDGE: {
            "jetstream": "enabled",
            "users": [{"user": subject_of(ADMIN, marketplace)}],
            "exports": _knowledge_exports(table),
        }
    }
    for unit, rights in table.items():
        made[account_of(unit)] = {
            "users": [{"user": subject_of(unit, marketplace), "permissions": permissions(unit, rights)}],
            "limits": LIMITS,
            "exports": _unit_exports(unit, table),
            "imports": [
                *_knowledge_imports(rights),
                *_unit_imports(unit, table),
                *(
                    {"service": {"account": KNOWLEDGE, "subject": subject}, "to": name}
                    for subject, name in (renamed or {}).get(unit, {}).items()
                ),
            ],
        }
    return made


def account_of(unit: str) -> str:
    """Give the account of a unit; the prefix keeps a party from being called like the account of the knowledge."""
    return f"unit_{unit}"


def subject_of(unit: str, marketplace: str) -> str:
    """Give the subject that a unit's certificate must have, which is its user name (RFC 4514)."""
    return f"CN={unit},O={marketplace}"


def permissions(unit: str, rights: Rights) -> dict[str, Any]:
    """Give the subjects on which a unit may publish and subscribe, inside its own account."""
    own = f"{subjects.inbox(unit)}.>"
    served = [subject for subject, _ in services(rights)]
    listens = [*rights.answers, *rights.hears, *(subjects.changed(bucket) for bucket in rights.reads)]
    made: dict[str, Any] = {
        "publish": {"allow": [*rights.asks, *rights.tells, *served, own]},
        "subscribe": {"allow": [*listens, own]},
    }
    if rights.answers:
        made["allow_responses"] = {"max": 1, "expires": ANSWER_WITHIN}
    return made


def services(rights: Rights) -> Iterator[tuple[str, bool]]:
    """Give what the knowledge answers to this unit, and whether an answer is a stream of messages."""
    for right in rights.writes:
        bucket, _, keys = right.partition(".")
        yield subjects.written(bucket, keys), False
    for right in rights.appends:
        log, _, rest = right.partition(".")
        yield subjects.logged(log, rest), False
    for bucket in rights.reads:
        stream = subjects.bucket_stream(bucket)
        yield subjects.fetched(stream), True
        yield subjects.last(stream, subjects.written(bucket)), False
    for log in rights.inspects:
        yield subjects.fetched(subjects.LOGS[log][0]), True


def _knowledge_exports(table: Mapping[str, Rights]) -> list[dict[str, Any]]:
    takers: dict[tuple[str, str, bool], list[str]] = {}
    for unit, rights in table.items():
        for subject, many in services(rights):
            takers.setdefault(("service", subject, many), []).append(account_of(unit))
        for bucket in rights.reads:
            takers.setdefault(("stream", subjects.changed(bucket), False), []).append(account_of(unit))
    return [
        {kind: subject, "accounts": units, **({"response_type": "stream"} if many else {})}
        for (kind, subject, many), units in takers.items()
    ]


def _knowledge_imports(rights: Rights) -> list[dict[str, Any]]:
    served = [{"service": {"account": KNOWLEDGE, "subject": subject}} for subject, _ in services(rights)]
    streams = [{"stream": {"account": KNOWLEDGE, "subject": subjects.changed(bucket)}} for bucket in rights.reads]
    return [*served, *streams]


def _unit_exports(unit: str, table: Mapping[str, Rights]) -> list[dict[str, Any]]:
    mine = table[unit]
    others = [(name, theirs) for name, theirs in table.items() if name != unit]
    made: list[dict[str, Any]] = []
    for subject in mine.answers:
        askers = [account_of(name) for name, theirs in others if _meets(subject, theirs.asks)]
        made.append({"service": subject, "accounts": askers, "response_threshold": ANSWER_WITHIN})
    for subject in mine.tells:
        hearers = [account_of(name) for name, theirs in others if _meets(subject, theirs.hears)]
        made.append({"stream": subject, "accounts": hearers})
    return made


def _unit_imports(unit: str, table: Mapping[str, Rights]) -> list[dict[str, Any]]:
    """Give what a unit takes from others. Another life of itself is in the same account, and needs no import."""
    mine = table[unit]
    return [
        {kind: {"account": account_of(name), "subject": met}}
        for name, theirs in table.items()
        if name != unit
        for kind, wants, gives in (("service", mine.asks, theirs.answers), ("stream", mine.hears, theirs.tells))
        for given in gives
        for met in _meets(given, wants)
    ]


def _meets(given: str, wanted: tuple[str, ...]) -> list[str]:
    return [met for want in wanted if (met := subjects.narrower(given, want))]
