"""What is measured: requests, and the same query in one plain process."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa

USER = "bench@example.org"
SIZES = {"1k": 1_000, "30k": 30_000, "250k": 250_000, "1m": 1_000_000, "10m": 10_000_000}
BOUND = 300.0

# The same rows in one plain process that has DuckDB loaded: connect, query, and a complete Arrow table.
PLAIN = """
import sys, time
import duckdb, pyarrow
for line in sys.stdin:
    began = time.perf_counter()
    table = duckdb.connect(config={"threads": 2}).sql(line.strip()).to_arrow_table()
    print(time.perf_counter() - began, table.num_rows, flush=True)
"""


@dataclass(frozen=True)
class Case:
    """One request: `steps` services at each provider's side, over tables of `rows` rows."""

    size: str
    archetype: str
    providers: tuple[str, ...]

    @property
    def name(self) -> str:
        where = "third party" if self.archetype == "dataThroughTtp" else "at the data"
        return f"{self.size:>4} rows, {len(self.providers)} provider{'s' * (len(self.providers) > 1)}, {where}"

    @property
    def rows(self) -> int:
        return SIZES[self.size] * len(self.providers)

    def body(self) -> dict[str, Any]:
        """The request: query, anonymisation, and an algorithm that passes the rows on; a union where there are more."""
        several = len(self.providers) > 1
        return {
            "type": "sqlDataRequest",
            "user": {"userName": USER},
            "providers": list(self.providers),
            "query": f"SELECT id, region, day, sex, scale, amount FROM rows_{self.size}",
            "options": {"anonymize": True, "aggregate": several},
            "archetype": self.archetype,
        }

    def plain(self, data: dict[str, Path]) -> str:
        """The same rows for plain DuckDB: the union of the providers' files."""
        files = ", ".join(f"'{data[party]}/rows_{self.size}.parquet'" for party in self.providers)
        return f"SELECT id, region, day, sex, scale, amount FROM read_parquet([{files}])"


@dataclass
class Sample:
    """The wall times of one case in seconds, plain and ours in turns; and what one of our jobs said of itself."""

    case: Case
    plain: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)
    job: dict[str, Any] = field(default_factory=dict)


class Plain:
    """A plain process with DuckDB that answers one query after another."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", PLAIN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, query: str, rows: int) -> float:
        """Give the seconds that it took; the number of rows is checked."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(query + "\n")
        self._process.stdin.flush()
        seconds, got = self._process.stdout.readline().split()
        assert int(got) == rows, f"plain DuckDB gave {got} rows instead of {rows}"
        return float(seconds)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()


@contextmanager
def plain() -> Iterator[Plain]:
    process = Plain()
    try:
        yield process
    finally:
        process.close()


class Client:
    """Asks a running testbed."""

    def __init__(self, api: str, token: Callable[[], str]) -> None:
        self._client = httpx.Client(base_url=api, timeout=BOUND, limits=httpx.Limits(max_connections=64))
        self._token = token

    def result(self, case: Case) -> tuple[float, str]:
        """Ask, read the complete Arrow result, and give the seconds and the job's id; the rows are counted."""
        headers = {"authorization": f"Bearer {self._token()}", "accept": "application/vnd.apache.arrow.stream"}
        began = time.perf_counter()
        with self._client.stream("POST", "/api/v1/jobs?wait=true", json=case.body(), headers=headers) as answer:
            if answer.status_code != httpx.codes.OK:
                answer.read()
                raise SystemExit(f"{case.name}: {answer.status_code} {answer.text}")
            rows = _count(answer.iter_raw())
        seconds = time.perf_counter() - began
        assert rows == case.rows, f"{case.name}: {rows} rows instead of {case.rows}"
        return seconds, answer.headers["DYNAMOS-Job"]

    def job(self, job: str) -> dict[str, Any]:
        """Give a job's record."""
        answer = self._client.get(f"/api/v1/jobs/{job}", headers={"authorization": f"Bearer {self._token()}"})
        return answer.raise_for_status().json()

    def forget(self, job: str) -> None:
        """Have a job's result removed, so that results do not fill the API's disk."""
        self._client.delete(f"/api/v1/jobs/{job}", headers={"authorization": f"Bearer {self._token()}"})

    def many(self, case: Case, *, total: int, at_once: int) -> float:
        """Run `total` jobs, `at_once` at a time, and give the jobs per second. Every one must succeed."""
        began = time.perf_counter()
        with ThreadPoolExecutor(at_once) as pool:
            jobs = [job for _, job in pool.map(lambda _: self.result(case), range(total))]
        seconds = time.perf_counter() - began
        assert len(set(jobs)) == total, "two requests got the same job"
        for job in jobs:
            self.forget(job)
        return total / seconds


def _count(chunks: Iterator[bytes]) -> int:
    """Count the rows of an Arrow stream without keeping them."""
    with pa.ipc.open_stream(pa.PythonFile(_Chunks(chunks), mode="r")) as reader:
        return sum(batch.num_rows for batch in reader)


class _Chunks:
    """A file over pieces of bytes, as much of it as Arrow's reader asks for."""

    closed = False

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def read(self, size: int) -> bytes:
        parts, have = [self._rest], len(self._rest)
        while have < size:
            chunk = next(self._chunks, b"")
            if not chunk:
                break
            parts.append(chunk)
            have += len(chunk)
        content = b"".join(parts)
        self._rest = content[size:]
        return content[:size]

    def close(self) -> None:
        self.closed = True
