"""The frames of an Arrow IPC stream that a service writes to a pipe, read with bounds before Arrow sees them.

A service may be anybody's program, so nothing that it writes is believed: a frame says how long it is, and a length
beyond the limit is refused before memory is taken for it; compressed buffers are refused, because a few bytes could
unfold to any size. What the frames hold is checked after Arrow has decoded it (see `checked`).
Format: https://arrow.apache.org/docs/format/Columnar.html#encapsulated-message-format
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator

import pyarrow as pa

from dynamos.exchange.pipes import PipeReader
from dynamos.kit.errors import JobFailed

_CONTINUATION = b"\xff\xff\xff\xff"
_PREFIX = 8
_METADATA_LIMIT = 16 * 1024 * 1024
_DICTIONARY, _BATCH = 2, 3


class Frames:
    """A file as Arrow wants it, that gives one well-formed frame after the other from a pipe.

    A frame body is read once into one buffer, which Arrow's columns then point into.
    Raises JobFailed: `not-arrow` for rubbish, `truncated` for an end inside a frame, `too-large` beyond `limit` bytes.
    """

    closed = False

    def __init__(self, pipe: PipeReader, *, limit: int) -> None:
        self._pipe = pipe
        self._limit = limit
        self._ready: deque[memoryview] = deque()
        self._ended = False

    def batches(self) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """Give the schema, once it is there, and the batches as they come, each checked in full."""
        try:
            reader = pa.ipc.open_stream(pa.PythonFile(self, mode="r"))
        except (pa.ArrowException, OSError) as error:
            raise _not_arrow(str(error)) from None
        return reader.schema, _checked(reader)

    def read(self, size: int) -> memoryview:
        """Give the next `size` bytes, fewer at the end. Arrow asks for exactly what a frame has."""
        while not self._ready and not self._ended:
            self._next()
        if not self._ready:
            return memoryview(b"")
        front = self._ready.popleft()
        if len(front) > size:
            self._ready.appendleft(front[size:])
            return front[:size]
        if len(front) < size and self._ready:
            return memoryview(bytes(front) + bytes(self.read(size - len(front))))
        return front

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True

    def _next(self) -> None:
        prefix = self._pipe.read(_PREFIX)
        if not prefix or bytes(prefix) == _CONTINUATION + bytes(4):
            self._ended = True
            self._ready.append(prefix)
            return
        if len(prefix) < _PREFIX or prefix[:4] != _CONTINUATION:
            raise _not_arrow("it does not begin with an Arrow message")
        (size,) = struct.unpack_from("<i", prefix, 4)
        if not 0 < size <= _METADATA_LIMIT:
            raise _not_arrow(f"a message says that its head has {size} bytes")
        head = self._whole(size)
        try:
            length, compressed = _look(head)
        except (struct.error, IndexError):
            raise _not_arrow("a message has a broken head") from None
        if compressed:
            raise JobFailed("the step wrote compressed Arrow", code="not-arrow", hint="write it without compression")
        if length > self._limit:
            hint = f"write batches of less than {self._limit} bytes"
            raise JobFailed(f"the step wrote a batch of {length} bytes", code="too-large", hint=hint)
        if length < 0:
            raise _not_arrow(f"a message says that it has {length} bytes")
        self._ready += [prefix, head]
        if length:
            self._ready.append(self._whole(length))

    def _whole(self, size: int) -> memoryview:
        content = self._pipe.read(size)
        if len(content) < size:
            raise JobFailed("the step's stream ends in the middle of a batch", code="truncated")
        return content


def checked(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Give the batch after a full look at its offsets, indices and texts. Raises JobFailed (not-arrow).

    Without it, a forged offset would let Arrow read this process's own memory and send it on.
    """
    try:
        batch.validate(full=True)
    except pa.ArrowException as error:
        raise _not_arrow(str(error)) from None
    return batch


def _checked(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    while True:
        try:
            batch = reader.read_next_batch()
        except StopIteration:
            return
        except (pa.ArrowException, OSError) as error:
            raise _not_arrow(str(error)) from None
        yield checked(batch)


def _look(head: memoryview) -> tuple[int, bool]:
    """Give the length of the body and whether it is compressed, from the flatbuffer (Message.fbs) of a frame."""
    (message,) = struct.unpack_from("<I", head, 0)
    place = _field(head, message, 3)
    (length,) = struct.unpack_from("<q", head, place) if place else (0,)
    place = _field(head, message, 1)
    kind = head[place] if place else 0
    table = _table(head, message, 2)
    if kind == _DICTIONARY and table:
        table = _table(head, table, 1)
    elif kind != _BATCH:
        table = 0
    return length, bool(table and _field(head, table, 3))


def _field(head: memoryview, table: int, index: int) -> int:
    """Give where the field of a flatbuffer table is, or 0 where it has none."""
    (back,) = struct.unpack_from("<i", head, table)
    vtable = table - back
    if vtable < 0:
        raise IndexError(vtable)
    (size,) = struct.unpack_from("<H", head, vtable)
    at = 4 + 2 * index
    if at + 2 > size:
        return 0
    (offset,) = struct.unpack_from("<H", head, vtable + at)
    return table + offset if offset else 0


def _table(head: memoryview, table: int, index: int) -> int:
    place = _field(head, table, index)
    if not place:
        return 0
    (offset,) = struct.unpack_from("<I", head, place)
    return int(place + offset)


def _not_arrow(reason: str) -> JobFailed:
    hint = "each output carries one Arrow IPC stream; print nothing else to it"
    return JobFailed(f"the step's output is not an Arrow stream: {reason}", code="not-arrow", hint=hint)
