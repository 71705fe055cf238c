"""Leaf nodes: a server at a site, which the site's units talk to and which talks to the hub for them.

Every unit keeps its own account through the leaf: for each there is one connection to the hub, with a certificate that
is good for that account and for nothing else. What a unit may say and hear is in the leaf's configuration, as a first
wall; at the hub the account's imports and exports are as for a unit that is there, so that a leaf that belongs to
somebody else by now can do what the site's units may, and no more.

Nothing is kept at a leaf. NATS lets nothing that begins with `$JS` or `$KV` through a leaf to a hub without a domain of
its own, so the leaf gives these another name on the way, and the hub imports them under that name too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dynamos.kit.credentials import Credentials
from dynamos.knowledge.accounts import LIMITS, account_of, permissions, services, subject_of
from dynamos.knowledge.envelopes import MAX_PAYLOAD
from dynamos.knowledge.permissions import BUS, Rights

RECONNECT = "1s"
PULSE = {"ping_interval": "2s", "ping_max": 2, "write_deadline": "10s"}
"""A link that loses everything in silence is noticed within six seconds."""
_TLS_SECONDS = 5
_CLOSED = "$"


@dataclass(frozen=True, slots=True)
class Leaf:
    """The server of one site: where it listens, who it is, and who it speaks for.

    `credentials` are those of the unit `server_of(site)`; `units` are the credentials of `remote_of(unit)` for each of
    the site's units.
    """

    site: str
    host: str
    port: int
    credentials: Credentials
    units: Mapping[str, Credentials]


def server_of(site: str) -> str:
    """Give the name in the certificate of a site's server. No unit can be called so, for its dot."""
    return f"{BUS}.{site}"


def remote_of(unit: str) -> str:
    """Give the name in the certificate with which a leaf speaks for a unit. No unit can be called so, for its dot."""
    return f"leaf.{unit}"


def listening(host: str, port: int, credentials: Credentials, units: Iterable[str], marketplace: str) -> dict[str, Any]:
    """Give what a hub's configuration says of leaves: which certificate is good for which account."""
    users = [{"user": subject_of(remote_of(unit), marketplace), "account": account_of(unit)} for unit in units]
    return {
        "listen": f"{host}:{port}",
        "tls": {**_tls(credentials), "verify_and_map": True},
        "authorization": {"timeout": _TLS_SECONDS, "users": users},
    }


def imports_of(rights: Rights) -> list[tuple[str, str]]:
    """Give what a unit behind a leaf is served, by the subject that it has and the one that it comes under."""
    return [(subject, travelling(subject)) for subject, _ in services(rights) if subject.startswith(_CLOSED)]


def travelling(subject: str) -> str:
    """Give the name under which a subject passes from a leaf to the hub."""
    return subject.replace(_CLOSED, "via.") if subject.startswith(_CLOSED) else subject


def config(leaf: Leaf, *, marketplace: str, table: Mapping[str, Rights], hub: str) -> str:
    """Give the text of a leaf's configuration file. `hub` is where the hub takes leaves, as "host:port"."""
    return json.dumps(
        {
            "server_name": server_of(leaf.site),
            "listen": f"{leaf.host}:{leaf.port}",
            "max_payload": MAX_PAYLOAD,
            "logtime_utc": True,
            **PULSE,
            "tls": {**_tls(leaf.credentials), "verify_and_map": True},
            "accounts": {account_of(unit): _account(unit, table[unit], marketplace) for unit in leaf.units},
            "leafnodes": {
                "reconnect": RECONNECT,
                "remotes": [
                    {"urls": [f"tls://{hub}"], "account": account_of(unit), "tls": _tls(credentials)}
                    for unit, credentials in leaf.units.items()
                ],
            },
        },
        indent=2,
    )


def _account(unit: str, rights: Rights, marketplace: str) -> dict[str, Any]:
    """Give a unit's account at a leaf: its user, and new names for what travels. The server asks for the right to say
    the new name, and says the old one where a unit has none."""
    allowed = permissions(unit, rights)
    renamed = dict(imports_of(rights))
    allowed["publish"] = {"allow": [renamed.get(subject, subject) for subject in allowed["publish"]["allow"]]}
    user = {"user": subject_of(unit, marketplace), "permissions": allowed}
    return {"users": [user], "limits": LIMITS, "mappings": renamed}


def _tls(credentials: Credentials) -> dict[str, Any]:
    return {
        "cert_file": str(credentials.certificate),
        "key_file": str(credentials.key),
        "ca_file": str(credentials.authority),
        "min_version": "1.3",
        "handshake_first": True,
        "timeout": _TLS_SECONDS,
    }
