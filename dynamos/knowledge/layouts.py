"""Which buckets and logs there are, and how long and how much they keep. Pure; `provisioning` makes them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dynamos.knowledge.bases import ADAPTATION, JOBS, PRESENCE, SHARED, bucket_of
from dynamos.knowledge.permissions import checked

HEARTBEAT = 1.0
"""Seconds between two renewals of a presence."""
PRESENCE_AGE = 3.0
"""Seconds after which a presence that was not renewed goes."""

_MIB = 2**20
_DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket: seconds that an entry lives without being written again (0: for ever), and bytes."""

    name: str
    max_bytes: int
    max_age: float = 0.0


@dataclass(frozen=True, slots=True)
class Ledger:
    """A log. `whole` keeps what is there when it is full, and refuses more; otherwise the oldest records go."""

    name: str
    max_bytes: int
    max_age: float = 0.0
    whole: bool = True


LEDGERS = (
    Ledger("audit", max_bytes=1024 * _MIB),
    Ledger("traces", max_bytes=256 * _MIB, max_age=7 * _DAY, whole=False),
    Ledger(ADAPTATION, max_bytes=512 * _MIB, max_age=30 * _DAY, whole=False),
)
"""The logs of a marketplace."""


def buckets(parties: Iterable[str]) -> tuple[Bucket, ...]:
    """Give the buckets of a marketplace with these parties."""
    return (
        Bucket(SHARED, max_bytes=64 * _MIB),
        Bucket(JOBS, max_bytes=512 * _MIB, max_age=7 * _DAY),
        Bucket(ADAPTATION, max_bytes=32 * _MIB),
        Bucket(PRESENCE, max_bytes=8 * _MIB, max_age=PRESENCE_AGE),
        *(Bucket(bucket_of(party), max_bytes=32 * _MIB) for party in checked(parties)),
    )
