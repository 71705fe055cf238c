"""Services that behave in every way a runner must cope with, and chains of them.

The module is what a zygote takes as its `programs`: it has `find` and `preload`.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
from pyarrow import ipc

from dynamos.jobs.runners import Assignment, Outcome, Runner
from dynamos.kit.errors import NotFound
from dynamos.model.plans import REQUESTOR, Edge, Part, Step
from dynamos.model.services import Limits, Service

PARTY = "UVA"
SCHEMA = pa.schema([("n", pa.int64())])
Program = Callable[[Mapping[str, str]], int]
_PROGRAMS: dict[str, Program] = {}


def find(name: str) -> Program:
    """Find a service of these tests, or an attempt of the hostile ones."""
    if name in _PROGRAMS:
        return _PROGRAMS[name]
    raise NotFound(f"there is no service {name!r}")


def preload(*, forks: bool = True) -> None:
    """Import what the services use."""
    from support import attempts  # noqa: F401, PLC0415  registers its own


def prepare(name: str) -> Callable[[], None]:
    """Find one service, as a process does that runs no other."""
    find(name)
    return lambda: None


def program(function: Program) -> Program:
    """Make a function a service under its own name."""
    _PROGRAMS[function.__name__.replace("_", "-")] = function
    return function


def options(env: Mapping[str, str]) -> dict[str, Any]:
    return json.loads(env["DYNAMOS_JOB"])["options"]


def streams(env: Mapping[str, str], which: str) -> dict[str, int]:
    return {name: int(fd) for name, fd in (pair.rsplit("=", 1) for pair in env[which].split(",") if pair)}


@contextmanager
def read(env: Mapping[str, str]) -> Iterator[list[ipc.RecordBatchStreamReader]]:
    """Open every input, and close all of them at the end."""
    with ExitStack() as stack:
        files = [stack.enter_context(os.fdopen(fd, "rb")) for fd in streams(env, "DYNAMOS_INPUTS").values()]
        yield [stack.enter_context(ipc.open_stream(file)) for file in files]


def fail(env: Mapping[str, str], **error: str) -> int:
    os.write(int(env["DYNAMOS_ERROR"]), json.dumps(error).encode())
    return 3


class Output:
    """Writes batches to every output, and closes all of them."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._files = [os.fdopen(fd, "wb") for fd in streams(env, "DYNAMOS_OUTPUTS").values()]
        self._writers = [ipc.new_stream(file, SCHEMA) for file in self._files]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for writer, file in zip(self._writers, self._files, strict=True):
            writer.close()
            file.close()

    def write(self, numbers: Any) -> None:
        for writer in self._writers:
            writer.write_batch(pa.record_batch([pa.array(numbers, pa.int64())], SCHEMA))


@program
def numbers(env: Mapping[str, str]) -> int:
    """Write 0..rows-1 in batches of 10,000."""
    rows = options(env).get("rows", 10)
    with Output(env) as output:
        for start in range(0, rows, 10_000):
            output.write(range(start, min(rows, start + 10_000)))
    return 0


@program
def double(env: Mapping[str, str]) -> int:
    with read(env) as (rows,), Output(env) as output:
        for batch in rows:
            output.write([2 * n for n in batch.column(0).to_pylist()])
    return 0


@program
def total(env: Mapping[str, str]) -> int:
    """Write the sum over all inputs."""
    with read(env) as inputs, Output(env) as output:
        output.write([sum(sum(batch.column(0).to_pylist()) for rows in inputs for batch in rows)])
    return 0


@program
def zeros(env: Mapping[str, str]) -> int:
    """Write `bytes` zero bytes' worth of rows, quickly."""
    batch = pa.record_batch([pa.array([0] * 131_072, pa.int64())], SCHEMA)
    (fd,) = streams(env, "DYNAMOS_OUTPUTS").values()
    with os.fdopen(fd, "wb") as file, ipc.new_stream(file, SCHEMA) as writer:
        for _ in range(options(env)["bytes"] // batch.nbytes):
            writer.write_batch(batch)
    return 0


@program
def count(env: Mapping[str, str]) -> int:
    with read(env) as (rows,), Output(env) as output:
        output.write([sum(batch.num_rows for batch in rows)])
    return 0


@program
def fails(env: Mapping[str, str]) -> int:
    print("it cannot be done", file=sys.stderr, flush=True)
    return fail(env, code="no-such-column", message="there is no column 'x'", hint="did you mean 'n'?")


@program
def exits(env: Mapping[str, str]) -> int:
    return options(env)["code"]


@program
def raises(env: Mapping[str, str]) -> int:
    raise ValueError("a defect")


@program
def crashes(env: Mapping[str, str]) -> int:
    """Die of a signal, as a defect in native code does."""
    os.kill(os.getpid(), getattr(signal, options(env)["signal"]))
    return 0


@program
def reads_nowhere(env: Mapping[str, str]) -> int:
    ctypes.string_at(0)
    return 0


@program
def stubborn(env: Mapping[str, str]) -> int:
    """Ignore every signal that can be ignored, and never end."""
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        with suppress(ValueError):  # not in a thread
            signal.signal(number, signal.SIG_IGN)
    while True:
        time.sleep(60)


@program
def waits(env: Mapping[str, str]) -> int:
    """Read every input to its end and write nothing: ends when somebody upstream does."""
    for fd in streams(env, "DYNAMOS_INPUTS").values():
        with os.fdopen(fd, "rb") as file:
            while file.read(65_536):
                pass
    return 0


@program
def says_so(env: Mapping[str, str]) -> int:
    """Write something at once, which tells that it runs, then wait for the end of every input."""
    for fd in streams(env, "DYNAMOS_OUTPUTS").values():
        os.write(fd, b"it runs")
    return waits(env)


@program
def hoards(env: Mapping[str, str]) -> int:
    """Take memory until there is none."""
    kept = []
    while True:
        kept.append(os.urandom(1 << 20) * 8)


@program
def rubbish(env: Mapping[str, str]) -> int:
    for fd in streams(env, "DYNAMOS_OUTPUTS").values():
        with os.fdopen(fd, "wb") as file:
            file.write(b"this is no Arrow stream\n" * 1000)
    return 0


@program
def reads_strictly(env: Mapping[str, str]) -> int:
    """Say of an input that is not Arrow what the kit says."""
    try:
        with read(env) as inputs:
            for rows in inputs:
                for _ in rows:
                    pass
    except (pa.ArrowException, OSError):
        return fail(env, code="input-broken", message="the input is not an Arrow stream")
    return 0


@program
def talks(env: Mapping[str, str]) -> int:
    """Print far more than anybody will keep."""
    for _ in range(64):
        sys.stderr.write("x" * 65_536)
    print("the last line", file=sys.stderr, flush=True)
    return options(env).get("code", 0)


@program
def speaks_rubbish(env: Mapping[str, str]) -> int:
    for _ in range(1000):
        os.write(int(env["DYNAMOS_ERROR"]), b"{ no JSON " * 100)
    return 3


@program
def tells(env: Mapping[str, str]) -> int:
    """Write what it was told as its error: the tests read it there."""
    names = sorted(env)
    job = json.loads(env["DYNAMOS_JOB"])
    return fail(env, code="told", message=json.dumps({"names": names, "job": job}))


@program
def lists_data(env: Mapping[str, str]) -> int:
    folder = env.get("DYNAMOS_DATA", "")
    texts = {path.name: path.read_text() for path in Path(folder).iterdir()} if folder else None
    return fail(env, code="told", message=json.dumps(texts))


# chains of services


def step(name: str, service: str | None = None, party: str = PARTY) -> Step:
    return Step(id=name, party=party, service=service or name, label="dataProvider")


def part(steps: list[Step], joined: list[tuple[str, str]], *, reads: Mapping[str, str] | None = None) -> Part:
    """Make a part. `joined` has (from, to) pairs, to "" for a stream that leaves; `reads` maps streams from outside."""
    edges = [
        Edge(
            name=f"{source}-{target or 'out'}", source_party=PARTY, source=source,
            target_party=PARTY if target else REQUESTOR, target=target,
        )
        for source, target in joined
    ]  # fmt: skip
    for name, target in (reads or {}).items():
        edges.append(Edge(name=name, source_party="VU", source="other", target_party=PARTY, target=target))
    return Part(job="job-1", party=PARTY, role="all", archetype="computeToData", steps=tuple(steps), edges=tuple(edges))


def chain(*services: str) -> Part:
    """Make a part of services one after the other; the last one's output leaves, as "<service>-out"."""
    steps = [step(service) for service in services]
    return part(steps, [*pairwise(services), (services[-1], "")])


def assignment(
    piece: Part,
    *,
    limits: Limits | None = None,
    deadline: float = 20.0,
    commands: Mapping[str, tuple[str, ...]] | None = None,
    images: Mapping[str, str] | None = None,
    data: Mapping[str, Path] | None = None,
    **per_step: Mapping[str, Any],
) -> Assignment:
    """Assign a part. Options are given by step id, '-' written as '_'."""
    services = {
        s.service: Service(
            name=s.service, label="dataProvider", limits=limits or Limits(),
            command=(commands or {}).get(s.service, ()), image=(images or {}).get(s.service, ""),
        )
        for s in piece.steps
    }  # fmt: skip
    return Assignment(
        part=piece,
        services=services,
        options={s.id: per_step[s.id.replace("-", "_")] for s in piece.steps if s.id.replace("-", "_") in per_step},
        data=data or {},
        deadline=deadline,
        trace={"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
    )


async def finish(
    runner: Runner, work: Assignment, inputs: Mapping[str, bytes] | None = None
) -> tuple[Outcome, dict[str, bytes]]:
    """Run a part to its end; give the outcome and what left it, by edge."""
    reading, outputs, feeds, incoming = {}, {}, [], {}
    for edge in work.part.outgoing:
        reading[edge.name], outputs[edge.name] = os.pipe()
    for name, data in (inputs or {}).items():
        incoming[name], writing = os.pipe()
        feeds.append(asyncio.to_thread(_feed, writing, data))
    drains: list[Awaitable[bytes]] = [asyncio.to_thread(_drain, fd) for fd in reading.values()]
    gathered = asyncio.gather(*drains, *feeds)
    running = await runner.start(work, incoming, outputs)
    outcome = await running.wait()
    results = await gathered
    return outcome, dict(zip(reading, results, strict=False))


def rows(data: bytes) -> list[int]:
    """Give the numbers of an Arrow stream."""
    return ipc.open_stream(data).read_all().column("n").to_pylist()


def stream(numbers: list[int]) -> bytes:
    """Make an Arrow stream of numbers."""
    sink = pa.BufferOutputStream()
    with ipc.new_stream(sink, SCHEMA) as writer:
        writer.write_batch(pa.record_batch([pa.array(numbers, pa.int64())], SCHEMA))
    return sink.getvalue().to_pybytes()


def _feed(fd: int, data: bytes) -> None:
    with os.fdopen(fd, "wb") as file:
        file.write(data)


def _drain(fd: int) -> bytes:
    with os.fdopen(fd, "rb") as file:
        return file.read()
