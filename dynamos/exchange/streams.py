"""The contract of the exchange: one Arrow stream goes from one party to another, once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from dynamos.kit.errors import DynamosError


@dataclass(frozen=True, slots=True)
class Arrival:
    """A stream that somebody wants to hand in: the peer is the name in its certificate, the grant is its proof."""

    job: str
    edge: str
    peer: str
    grant: str


class Sink(Protocol):
    """Where an admitted stream goes. Called from one thread at a time, never from the event loop's. May block: that is
    the back-pressure."""

    def open(self, schema: pa.Schema) -> None: ...

    def write(self, batch: pa.RecordBatch) -> None: ...

    def close(self) -> None:
        """The stream is complete: the sender has confirmed it."""
        ...

    def abort(self, error: DynamosError) -> None:
        """The stream broke off; what was written so far must not count."""
        ...


Admit = Callable[[Arrival], Sink]
"""Gives the sink for an arrival, once, or raises Refused, Unauthenticated or NotFound. Called from a receiver's
thread."""
