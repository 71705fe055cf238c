"""Runs the program of a service as a runner would: real pipes, one thread at each far end."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import ipc

from dynamos.services import catalogue
from dynamos.services.kit import Program

Rows = pa.Table | Sequence[pa.RecordBatch] | bytes


@dataclass
class Ran:
    """What a service did: its exit code, its error, and the bytes of each output."""

    code: int = -1
    error: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, bytes] = field(default_factory=dict)

    def table(self, output: str = "out") -> pa.Table:
        """Give the rows of an output. Fails the test where the service failed."""
        assert self.code == 0, self.error
        return ipc.open_stream(self.outputs[output]).read_all()

    def rows(self, output: str = "out") -> list[dict[str, Any]]:
        return self.table(output).to_pylist()

    def shape(self) -> str:
        return (self.table().schema.metadata or {}).get(b"dynamos.shape", b"").decode()

    def complete(self, output: str = "out") -> bool:
        """Whether the output ends with Arrow's end-of-stream marker."""
        return self.outputs[output].endswith(b"\xff\xff\xff\xff\x00\x00\x00\x00")


def stream_of(rows: Rows) -> bytes:
    """Give the bytes of an Arrow stream; bytes are given as they are."""
    if isinstance(rows, bytes):
        return rows
    batches = rows.to_batches() if isinstance(rows, pa.Table) else rows
    schema = rows.schema if isinstance(rows, pa.Table) else rows[0].schema
    sink = pa.BufferOutputStream()
    with ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def run(
    service: str | Program,
    inputs: Mapping[str, Rows] | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    outputs: Sequence[str] = ("out",),
    data: Path | None = None,
    scratch: Path | None = None,
) -> Ran:
    """Run a service in this thread, with pipes to threads that write its inputs and read its outputs."""
    ran = Ran()
    threads: list[threading.Thread] = []
    ends: dict[str, dict[str, int]] = {"inputs": {}, "outputs": {}}
    for name, rows in (inputs or {}).items():
        ends["inputs"][name], theirs = os.pipe()
        threads.append(threading.Thread(target=_feed, args=(theirs, stream_of(rows))))
    for name in outputs:
        ours, ends["outputs"][name] = os.pipe()
        threads.append(threading.Thread(target=_collect, args=(ours, ran.outputs, name)))
    error, told = os.pipe()
    for thread in threads:
        thread.start()
    main = catalogue.find(service) if isinstance(service, str) else service.main
    job = {"job": "j1", "party": "UVA", "service": "s", "options": options or {}, "deadline": 60.0, "provider": None}
    environment = {
        "DYNAMOS_JOB": json.dumps(job),
        "DYNAMOS_INPUTS": ",".join(f"{name}={fd}" for name, fd in ends["inputs"].items()),
        "DYNAMOS_OUTPUTS": ",".join(f"{name}={fd}" for name, fd in ends["outputs"].items()),
        "DYNAMOS_ERROR": str(told),
        **({"DYNAMOS_DATA": str(data)} if data else {}),
        **({"TMPDIR": str(scratch)} if scratch else {}),
    }
    ran.code = main(environment)
    os.close(told)
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    with os.fdopen(error, "rb") as file:
        ran.error = json.loads(file.read() or b"{}")
    return ran


def _feed(descriptor: int, content: bytes) -> None:
    with suppress(BrokenPipeError), os.fdopen(descriptor, "wb", buffering=0) as file:  # it may not want the rest
        view = memoryview(content)
        while view:
            view = view[file.write(view) or 0 :]


def _collect(descriptor: int, outputs: dict[str, bytes], name: str) -> None:
    with os.fdopen(descriptor, "rb") as file:
        outputs[name] = file.read()
