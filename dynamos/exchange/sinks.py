"""Where admitted streams go."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from dynamos.exchange.pipes import PipeWriter
from dynamos.kit.errors import DynamosError


class PipeSink:
    """Writes the stream, as Arrow IPC, to a pipe that a local step reads. Owns the descriptor.

    A stream that breaks off is told to `on_abort` first; then the pipe closes in the middle of a frame, so that the
    step's reader fails too and cannot take a part for the whole.
    """

    def __init__(self, fd: int, *, on_abort: Callable[[DynamosError], None] | None = None) -> None:
        self._pipe = PipeWriter(fd)
        self._on_abort = on_abort
        self._writer: pa.RecordBatchStreamWriter | None = None

    def open(self, schema: pa.Schema) -> None:
        self._writer = pa.ipc.new_stream(pa.PythonFile(self._pipe, mode="w"), schema)
        self._pipe.flush()

    def write(self, batch: pa.RecordBatch) -> None:
        assert self._writer is not None, "written before it was opened"
        self._writer.write_batch(batch)
        self._pipe.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._pipe.flush()
        self._pipe.close()

    def abort(self, error: DynamosError) -> None:
        try:
            if self._on_abort is not None:
                self._on_abort(error)
        finally:
            self._pipe.break_off()


class CollectSink:
    """Keeps the stream in memory. For tests and small results."""

    def __init__(self) -> None:
        self.schema: pa.Schema | None = None
        self.batches: list[pa.RecordBatch] = []
        self.complete = False
        self.error: DynamosError | None = None

    def open(self, schema: pa.Schema) -> None:
        self.schema = schema

    def write(self, batch: pa.RecordBatch) -> None:
        self.batches.append(batch)

    def close(self) -> None:
        self.complete = True

    def abort(self, error: DynamosError) -> None:
        self.error = error

    def table(self) -> pa.Table:
        """Give everything as one table."""
        return pa.Table.from_batches(self.batches, self.schema)
