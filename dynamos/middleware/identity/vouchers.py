"""Vouchers: the API's signed word on who asks for one thing.

A bearer token makes its holder the user, so it goes no further than the API, which checks it. Everybody behind it gets
a voucher instead: it names the user and the one thing that was asked for, and is of no use for anything else.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from dynamos.kit.clocks import Clock
from dynamos.kit.digests import digest
from dynamos.kit.errors import Refused, Unauthenticated
from dynamos.middleware.identity.seals import seal, unseal
from dynamos.model.requests import Request
from dynamos.model.values import Value

TYPE = "dynamos-voucher+jwt"
LIFETIME = timedelta(minutes=30)
"""As long as a job may wait for its place: it is checked when a part starts."""


class Voucher(Value):
    """That `user`, who may change what belongs to the names in `admin_of`, asked for `purpose`."""

    user: str
    admin_of: tuple[str, ...] = ()
    purpose: str
    expires: datetime


def to_run(job: str, request: Request) -> str:
    """Name the purpose of running a request as this job."""
    return digest({"run": request.as_json(), "job": job})


def to_check(request: Request) -> str:
    """Name the purpose of asking whether a request would run."""
    return digest({"check": request.as_json()})


def to_change(kind: str, name: str, value: dict[str, Any] | None, revision: int | None) -> str:
    """Name the purpose of writing one value."""
    return digest({"change": value, "kind": kind, "name": name, "revision": revision})


def to_rehearse(party: str, value: dict[str, Any], past: int) -> str:
    """Name the purpose of asking what another agreement would do. It changes nothing."""
    return digest({"rehearse": value, "party": party, "past": past})


def to_watch(what: str) -> str:
    """Name the purpose of asking what is monitored, or what can be set."""
    return digest({"watch": what})


def to_steer(message: dict[str, Any]) -> str:
    """Name the purpose of setting what adaptation does; the message is taken without its voucher."""
    return digest({"steer": {name: value for name, value in message.items() if name != "voucher"}})


def sign(user: str, admin_of: tuple[str, ...], purpose: str, key_path: Path, clock: Clock) -> str:
    """Give a voucher, signed with the key of the API's certificate."""
    voucher = Voucher(user=user, admin_of=admin_of, purpose=purpose, expires=clock.now() + LIFETIME)
    return seal(voucher, key_path, TYPE)


def verify(text: str, api_certificate: Path, *, purpose: str, clock: Clock) -> Voucher:
    """Give the voucher, if the API signed it for this purpose and it has not expired.

    Raises Unauthenticated with code voucher-forged or voucher-expired, Refused with code voucher-for-another.
    """
    forged = Unauthenticated("this is no voucher that the API signed", code="voucher-forged")
    voucher = unseal(text, api_certificate, TYPE, Voucher, forged=forged)
    if voucher.expires.tzinfo is None:
        raise forged
    if voucher.purpose != purpose:
        raise Refused("the voucher is for something else than this", code="voucher-for-another")
    if clock.now() >= voucher.expires:
        raise Unauthenticated(f"the voucher expired at {voucher.expires.isoformat()}", code="voucher-expired")
    return voucher
