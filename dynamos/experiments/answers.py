"""Answers: one request as an experiment sees it: what came back, how long it took, and where the time went."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from dynamos.kit.errors import DynamosError, TimedOut
from dynamos.middleware.clients import BASE, Api, result_path
from dynamos.middleware.spans import Span, spans_of

if TYPE_CHECKING:
    import pyarrow as pa

_ARROW = {"accept": "application/vnd.apache.arrow.stream"}
_TRACE_SECONDS = 5.0
_LOOK_SECONDS = 0.02
_WIDTH = 1 << 64


@dataclass(frozen=True)
class Result:
    """One result of a job, as it arrived. `digest` is the same for the same rows in whatever order and batches."""

    name: str
    party: str
    providers: tuple[str, ...]
    rows: int
    bytes: int
    digest: str
    table: pa.Table | None = field(default=None, compare=False, repr=False)
    """The rows, where the asker wanted to keep them."""


@dataclass(frozen=True)
class Answer:
    """What became of one request. Seconds count from when it was sent: until the job had ended (`job_seconds`), until
    the first batch of a result was there (`first_batch`), until all of it was read (`seconds`)."""

    job: Mapping[str, Any]
    results: tuple[Result, ...]
    began: float
    seconds: float
    job_seconds: float
    first_batch: float | None = None
    error: DynamosError | None = None
    """Why there is no answer: a refusal, a failure, a bound that was reached."""

    @property
    def ok(self) -> bool:
        return self.error is None

    @property
    def rows(self) -> int:
        return sum(result.rows for result in self.results)

    @property
    def digest(self) -> str:
        """The digests of all results, added: the same whichever party each came from."""
        return f"{sum(int(result.digest, 16) for result in self.results) % _WIDTH:016x}"

    @property
    def table(self) -> pa.Table:
        """All rows that were kept, as one table."""
        import pyarrow as pa  # noqa: PLC0415  heavy

        return pa.concat_tables([result.table for result in self.results if result.table is not None])


def ask(api: Callable[[], Api], body: Mapping[str, Any], *, keep: bool = True, within: float = 600.0) -> Answer:
    """Send a request, wait for its end and read its results. A refusal or failure is an answer too, with its error.

    What is made beforehand (a token, a client, an engine to hash with) is not in its seconds; hashing the rows is.
    """
    job: Mapping[str, Any] = {}
    results: list[Result] = []
    first: float | None = None
    error: DynamosError | None = None
    ended = 0.0
    began, clock = time.time(), time.perf_counter()
    try:
        with api() as client, _Digest() as digest:
            began, clock = time.time(), time.perf_counter()
            headers = {"accept": "application/json"}
            answer = client.call(
                "POST", f"{BASE}/jobs", body=dict(body), params={"wait": "true"}, headers=headers, within=within
            )
            job, ended = answer.json(), time.perf_counter() - clock
            for told in job.get("results", ()):
                if told["status"] == "complete":
                    with client.stream(f"{result_path(job['id'], told)}&format=arrow", headers=_ARROW) as stream:
                        result, at = _read(told, stream.iter_raw(), digest, keep=keep)
                    first = first if first is not None else at - clock
                    results.append(result)
    except DynamosError as failure:
        error = failure
        job = job or {"id": str(failure.facts.get("job", ""))}
    seconds = time.perf_counter() - clock
    return Answer(job, tuple(results), began, seconds, ended or seconds, first, error)


def trace(api: Callable[[], Api], job: Mapping[str, Any]) -> list[Span]:
    """Give the spans of a job once its outermost is there: a unit writes a span after its work is done.

    Raises TimedOut where the trace is not complete soon after the job.
    """
    end = time.monotonic() + _TRACE_SECONDS
    with api() as client:
        while time.monotonic() < end:
            found = client.get(f"{BASE}/jobs/{job['id']}/trace")["spans"]
            if any(not span["parent"] for span in found):
                return spans_of(found, job)
            time.sleep(_LOOK_SECONDS)
    raise TimedOut(f"the trace of {job['id']} was not complete within {_TRACE_SECONDS:g} s")


def digest_of(table: pa.Table) -> int:
    """Give the sum of the hashes of a table's rows, modulo 2^64: of the same rows in any order the same.

    Columns are taken by name, so that their order does not matter either.
    """
    with _Digest() as digest:
        return digest.of(table)


class _Digest:
    """Hashes rows, with an engine that is made once."""

    def __enter__(self) -> Self:
        import duckdb  # noqa: PLC0415  heavy

        self._engine = duckdb.connect()
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.close()

    def of(self, table: pa.Table) -> int:
        names = ", ".join(f'"{name}"' for name in sorted(table.column_names))
        self._engine.register("rows", table)
        statement = f"SELECT coalesce(sum(hash(row({names}))::HUGEINT), 0) FROM rows"  # noqa: S608  names of columns
        ((found,),) = self._engine.execute(statement).fetchall()
        return int(found) % _WIDTH


class _Pieces:
    """The bytes of an answer as a file, counted; `first` is when the first of them came."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = b""
        self.bytes = 0
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        parts, have = [self._left], len(self._left)
        while size < 0 or have < size:
            piece = next(self._pieces, b"")
            if not piece:
                break
            self.bytes += len(piece)
            parts.append(piece)
            have += len(piece)
        whole = b"".join(parts)
        size = len(whole) if size < 0 else size
        self._left = whole[size:]
        return whole[:size]

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True


def _read(told: Mapping[str, Any], pieces: Iterator[bytes], digest: _Digest, *, keep: bool) -> tuple[Result, float]:
    """Read a result to its end, batch by batch, and give it with the moment of its first batch."""
    import pyarrow as pa  # noqa: PLC0415  heavy

    source = _Pieces(pieces)
    first, rows, total, kept = 0.0, 0, 0, []
    with pa.ipc.open_stream(source) as reader:
        for batch in reader:
            first = first or time.perf_counter()
            rows += batch.num_rows
            total += digest.of(pa.Table.from_batches([batch]))
            if keep:
                kept.append(batch)
        table = pa.Table.from_batches(kept, schema=reader.schema) if keep else None
    source.read()
    names = tuple(told.get("providers") or ())
    seal = f"{total % _WIDTH:016x}"
    return Result(told["name"], told["party"], names, rows, source.bytes, seal, table), first or time.perf_counter()
