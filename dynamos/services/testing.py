"""Run a service in a test as a runner would: its whole program, over real pipes, with a thread at each far end."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
from pyarrow import ipc

from dynamos.services import catalogue
from dynamos.services.kit import Program

Rows: TypeAlias = pa.Table | Sequence[pa.RecordBatch] | bytes

_PATIENCE_SECONDS = 60


@dataclass(slots=True)
class Ran:
    """What a service did: its exit code, its error, and the bytes of each output."""

    code: int = -1
    error: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, bytes] = field(default_factory=dict)

    def table(self, output: str = "out") -> pa.Table:
        """Give the rows of an output. Raises AssertionError with the service's error where it failed."""
        assert self.code == 0, self.error
        return ipc.open_stream(self.outputs[output]).read_all()

    def rows(self, output: str = "out") -> list[dict[str, Any]]:
        """Give the rows of an output as Python values."""
        found: list[dict[str, Any]] = self.table(output).to_pylist()
        return found

    def shape(self) -> str:
        """Give what the result says it is: "table", "record", "chart", or "" where it says nothing."""
        return str((self.table().schema.metadata or {}).get(b"dynamos.shape", b"").decode())

    def complete(self, output: str = "out") -> bool:
        """Tell whether the output ends with Arrow's end-of-stream marker."""
        return self.outputs[output].endswith(b"\xff\xff\xff\xff\x00\x00\x00\x00")


def stream_of(rows: Rows) -> bytes:
    """Give the bytes of an Arrow stream; bytes are given as they are."""
    if isinstance(rows, bytes):
        return rows
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_batches(rows)
    sink = pa.BufferOutputStream()
    with ipc.new_stream(sink, table.schema) as writer:
        for batch in table.to_batches():
            writer.write_batch(batch)
    return bytes(sink.getvalue())


def run(
    service: str | Program | Sequence[str],
    inputs: Mapping[str, Rows] | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    outputs: Sequence[str] = ("out",),
    data: Path | None = None,
    scratch: Path | None = None,
) -> Ran:
    """Run a service to its end, with pipes to threads that write its inputs and read its outputs.

    A service is an installed one's name, a decorated function, or the command line of a program in any language. An
    input is a table, record batches, or the bytes of a stream, which may be broken.
    """
    ran = Ran()
    threads: list[threading.Thread] = []
    reads, writes = dict[str, int](), dict[str, int]()
    for name, rows in (inputs or {}).items():
        reads[name], theirs = os.pipe()
        threads.append(threading.Thread(target=_feed, args=(theirs, stream_of(rows))))
    for name in outputs:
        ours, writes[name] = os.pipe()
        threads.append(threading.Thread(target=_collect, args=(ours, ran.outputs, name)))
    error, told = os.pipe()
    for thread in threads:
        thread.start()
    job = {"job": "j1", "party": "UVA", "service": "s", "options": options or {}, "deadline": 60.0, "provider": None}
    environment = {
        "DYNAMOS_JOB": json.dumps(job),
        "DYNAMOS_INPUTS": ",".join(f"{name}={fd}" for name, fd in reads.items()),
        "DYNAMOS_OUTPUTS": ",".join(f"{name}={fd}" for name, fd in writes.items()),
        "DYNAMOS_ERROR": str(told),
        **({"DYNAMOS_DATA": str(data)} if data else {}),
        **({"TMPDIR": str(scratch)} if scratch else {}),
    }
    if isinstance(service, str):
        ran.code = catalogue.find(service)(environment)
    elif isinstance(service, Program):
        ran.code = service.main(environment)
    else:
        ran.code = _execute(service, environment, [*reads.values(), *writes.values()], told)
    os.close(told)
    for thread in threads:
        thread.join(_PATIENCE_SECONDS)
        assert not thread.is_alive(), "the service holds a stream open"
    with os.fdopen(error, "rb") as file:
        ran.error = json.loads(file.read() or b"{}")
    return ran


def _execute(command: Sequence[str], environment: Mapping[str, str], streams: list[int], told: int) -> int:
    try:
        environment = {"PATH": os.defpath, **environment}
        done = subprocess.run(
            command, env=environment, pass_fds=[*streams, told], timeout=_PATIENCE_SECONDS, check=False
        )
    finally:
        for descriptor in streams:
            os.close(descriptor)
    return done.returncode


def _feed(descriptor: int, content: bytes) -> None:
    with suppress(BrokenPipeError), os.fdopen(descriptor, "wb", buffering=0) as file:  # it may not want the rest
        view = memoryview(content)
        while view:
            view = view[file.write(view) or 0 :]


def _collect(descriptor: int, outputs: dict[str, bytes], name: str) -> None:
    with os.fdopen(descriptor, "rb") as file:
        outputs[name] = file.read()
