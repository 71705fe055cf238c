"""What sender and receiver say to each other, around the batches of one stream.

    sender                                        receiver
      descriptor [job, edge], the grant      ->
                                             <-   admitted (or an error, and nothing was read from the source)
      schema, batches ...                    ->
      complete {rows, batches}  or  abort    ->
                                             <-   received {rows, batches}, after the sink has closed

This is one Flight DoExchange, not a DoPut: only there can a caller whose write is held up by back-pressure be cancelled
from another thread. The grant is in a message and not in a header, because gRPC allows headers of 8 KiB only. An end
without `complete` is an abort, whatever the reason: a broken connection looks like an end to a Flight server.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from dynamos.exchange.faults import pack, unpack
from dynamos.kit.errors import DynamosError, JobFailed

Say = Literal["admitted", "complete", "abort", "received"]
# gRPC's own limits (Flight switches them off); what bounds memory are the sizes of batches.
BATCH_LIMIT = 64 * 1024 * 1024
PIECE = 4 * 1024 * 1024


@dataclass(slots=True)
class Tally:
    """What has passed so far. `bytes` are those of the columns in memory."""

    rows: int = 0
    batches: int = 0
    bytes: int = 0

    def add(self, batch: pa.RecordBatch) -> None:
        self.rows += batch.num_rows
        self.batches += 1
        self.bytes += batch.nbytes

    def agrees(self, message: dict[str, Any]) -> bool:
        """Whether the other side has counted the same."""
        return (message.get("rows"), message.get("batches")) == (self.rows, self.batches)


def say(word: Say, tally: Tally | None = None, error: DynamosError | None = None) -> bytes:
    """Give the message for the wire."""
    message: dict[str, Any] = {"say": word}
    if tally is not None:
        message |= {"rows": tally.rows, "batches": tally.batches}
    if error is not None:
        message["error"] = pack(error)
    return json.dumps(message, default=str).encode()


def heard(content: pa.Buffer | None, *words: Say) -> dict[str, Any]:
    """Give the message, if it says one of `words`. Raises the error of an abort; JobFailed for anything else."""
    try:
        message = json.loads(bytes(content)) if content is not None else None
    except ValueError:
        message = None
    if isinstance(message, dict):
        if message.get("say") in words:
            return message
        if message.get("say") == "abort":
            reason = unpack(message.get("error"))
            raise reason or JobFailed("the sender gave up", code="stream-broke")
    raise JobFailed(f"the peer did not say {' or '.join(words)}", code="protocol")


def pieces(batch: pa.RecordBatch, size: int = PIECE) -> Iterator[pa.RecordBatch]:
    """Give the batch in pieces of about `size` bytes, and of one row at least."""
    if batch.nbytes <= size or batch.num_rows <= 1:
        yield batch
        return
    rows = max(1, batch.num_rows * size // batch.nbytes)
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows)
