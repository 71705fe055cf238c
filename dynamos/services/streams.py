"""Arrow streams over file descriptors: what goes from one service to the next.

A stream is complete only with Arrow's end-of-stream marker. A writer that fails leaves the marker out, and a reader
that meets the end of the file without it raises, so that half a result never passes for a whole one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
from pyarrow import ipc

from dynamos.kit.errors import JobFailed

BATCH_ROWS = 65_536
BATCH_BYTES = 8 * 2**20
_AT_ONCE = 4 * BATCH_BYTES


class Channel:
    """A file descriptor as Arrow wants its files, without a buffer of its own.

    It may be closed more than once, and while a thread reads.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._busy = self.closed = False
        self.ended = False
        self.received = 0

    def read(self, size: int = -1) -> memoryview:
        """Read `size` bytes, fewer only at the end of the file."""
        room = bytearray(min(size, _AT_ONCE))
        filled = 0
        with self._lock:
            if self.closed:
                raise OSError("the stream is closed")
            self._busy = True
        try:
            while filled < size:
                if filled == len(room):  # only for what has really come: a size may be a lie
                    room.extend(bytes(min(size - filled, filled)))
                with memoryview(room) as view:
                    count = os.readv(self._descriptor, [view[filled:]])
                if not count:
                    self.ended = True
                    break
                filled += count
        finally:
            with self._lock:
                self._busy = False
                if self.closed:
                    os.close(self._descriptor)
        self.received += filled
        return memoryview(room)[:filled]

    read_buffer = read

    def write(self, data: bytes) -> int:
        view = memoryview(data).cast("B")
        written = 0
        while written < len(view):
            written += os.write(self._descriptor, view[written:])
        return written

    def close(self) -> None:
        """Close now, or as soon as the read that is under way returns."""
        with self._lock:
            if not self.closed:
                self.closed = True
                if not self._busy:
                    os.close(self._descriptor)

    def flush(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Stream:
    """Record batches and their schema, which is known before the first batch. Can be read once."""

    schema: pa.Schema
    batches: Iterable[pa.RecordBatch]

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return iter(self.batches)

    def close(self) -> None:
        """Let go of what the stream comes from, also in the middle of it."""
        if close := getattr(self.batches, "close", None):
            close()

    @classmethod
    def of(cls, source: pa.Table | pa.RecordBatchReader) -> Stream:
        """Give the stream of a table or of an Arrow reader."""
        return cls(source.schema, source.to_batches() if isinstance(source, pa.Table) else source)

    def map(self, function: Callable[[pa.RecordBatch], pa.RecordBatch]) -> Stream:
        """Give the stream with `function` applied to each batch. Its schema is what the function makes of no rows."""
        empty = pa.RecordBatch.from_arrays([pa.array([], field.type) for field in self.schema], schema=self.schema)
        return Stream(function(empty).schema, (function(batch) for batch in self.batches))


def read(channel: Channel, name: str) -> Stream:
    """Give the stream that arrives at `channel`, after waiting for its schema.

    The channel is closed at the end of the stream. Raises JobFailed (code "input-broken") for a stream that is not
    Arrow, or that ends before its end-of-stream marker: whoever writes it has failed.
    """
    try:
        reader = ipc.open_stream(pa.PythonFile(channel, mode="r"))
    except (pa.ArrowException, OSError) as error:
        raise _broken(name, "is not an Arrow stream" if channel.received else "ended before it began") from error
    return Stream(reader.schema, _Arriving(reader, channel, name))


def write(stream: Stream, channels: Iterable[Channel]) -> None:
    """Write the stream to every channel, each batch to all of them, and the end-of-stream marker when all is done.

    Raises BrokenPipeError where a reader has gone.
    """
    writers = [ipc.new_stream(pa.PythonFile(channel, mode="w"), stream.schema) for channel in channels]
    for batch in stream:
        for piece in pieces(batch):
            for writer in writers:
                writer.write_batch(piece)
    for writer in writers:
        writer.close()


def pieces(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Give the batch in pieces of a bounded number of bytes, so that nobody downstream must hold more at once."""
    parts = max(1, -(-batch.nbytes // BATCH_BYTES))
    rows = max(1, -(-batch.num_rows // parts))
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows)


class _Arriving:
    """The batches of a stream that arrives. Closes its descriptor at the end, or when told to."""

    def __init__(self, reader: ipc.RecordBatchStreamReader, channel: Channel, name: str) -> None:
        self._reader, self._channel, self._name = reader, channel, name

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self

    def __next__(self) -> pa.RecordBatch:
        try:
            batch = self._reader.read_next_batch()
            batch.validate()
        except StopIteration:
            if self._channel.ended:
                raise _broken(self._name, "broke off before its end") from None
            self.close()
            raise
        except (pa.ArrowException, OSError) as error:
            what = "broke off" if self._channel.ended else "holds bytes that are not Arrow"
            raise _broken(self._name, what) from error
        return batch

    def close(self) -> None:
        self._channel.close()


def _broken(name: str, what: str) -> JobFailed:
    return JobFailed(
        f"the input {name!r} {what}", code="input-broken", hint="the service that writes it has failed; see its error"
    )
