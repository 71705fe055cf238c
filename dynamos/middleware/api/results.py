"""Results that arrive from the parties: who may fetch them, how far they are, and for how long they are kept."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

import pyarrow as pa

from dynamos.kit.clocks import Clock
from dynamos.kit.errors import Cancelled, Conflict, DynamosError, NotFound, Refused, TimedOut
from dynamos.middleware.api.spools import Spool, Store
from dynamos.model.jobs import Job, State
from dynamos.model.plans import Edge

SHAPE = b"dynamos.shape"
ROWS_OF_A_PIECE = 65536
GOOD = frozenset({State.SUCCEEDED, State.PARTIAL})
"""How a job ends that has results; of any other end, nothing that came counts."""


class Phase(StrEnum):
    """How far a result is."""

    ARRIVING = "arriving"
    COMPLETE = "complete"
    FAILED = "failed"


class Result:
    """One result: the sink that takes it in (from a receiver's thread), and the reader that gives it out."""

    def __init__(self, name: str, party: str, spool: Spool, changed: Callable[[Result], None]) -> None:
        self.name = name
        self.party = party
        self.phase = Phase.ARRIVING
        self.rows = 0
        self.schema: pa.Schema | None = None
        self.error: DynamosError | None = None
        self.fault = False
        self.spool = spool
        self._changed = changed
        self._writer: pa.RecordBatchWriter | None = None

    @property
    def shape(self) -> str:
        """Tell what the rows are: a "record" (its first row), a "table", or a "chart"."""
        metadata = (self.schema.metadata if self.schema is not None else None) or {}
        return str(metadata.get(SHAPE, b"table").decode())

    def open(self, schema: pa.Schema) -> None:
        """Begin: from now on the result has columns."""
        with self._told():
            self.schema = schema
            self._writer = pa.ipc.new_stream(self.spool, schema)

    def write(self, batch: pa.RecordBatch) -> None:
        """Keep a batch; large ones in pieces, so that no reader has to hold much. Raises Full, Cancelled."""
        with self._told():
            assert self._writer is not None
            for start in range(0, batch.num_rows, ROWS_OF_A_PIECE):
                self._writer.write_batch(batch.slice(start, ROWS_OF_A_PIECE))
            self.rows += batch.num_rows

    def close(self) -> None:
        """The result is complete: its sender has confirmed it."""
        with self._told():
            if self._writer is None:
                raise Conflict("a stream ended before it began", where=self.name)
            self._writer.close()
            self.spool.finish()
        self.phase = Phase.COMPLETE
        self._changed(self)

    def abort(self, error: DynamosError) -> None:
        """The stream broke off: what came so far does not count."""
        if self.phase is Phase.ARRIVING:
            self._fail(error)

    def drop(self) -> None:
        """Let go of what came; a stream that still comes is broken off."""
        self.abort(Cancelled("nobody wants this result any more"))
        self.spool.discard()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Whatever goes wrong while a result is kept is told to who waits for it, and to the sender."""
        if self.error is not None:
            raise self.error
        try:
            yield
        except DynamosError as error:
            self._fail(error, fault=True)
            raise
        except pa.ArrowException as error:
            wrong = Refused(f"the stream is not sound Arrow: {error}", where=self.name, code="bad-stream")
            self._fail(wrong, fault=True)
            raise wrong from error

    def _fail(self, error: DynamosError, *, fault: bool = False) -> None:
        self.error = error
        self.fault = fault and not isinstance(error, Cancelled)
        self.phase = Phase.FAILED
        self.spool.discard()
        self._changed(self)

    @contextmanager
    def reader(self) -> Iterator[pa.RecordBatchReader]:
        """Read the result from its start, batch by batch. Raises Cancelled if it has been removed."""
        with self.spool.reader() as file:
            yield pa.ipc.open_stream(file)

    def describe(self) -> dict[str, Any]:
        """Give what is known of the result, JSON-ready."""
        known: dict[str, Any] = {"name": self.name, "party": self.party, "status": str(self.phase)}
        if self.phase is Phase.COMPLETE:
            known |= {"shape": self.shape, "rows": self.rows, "bytes": self.spool.size}
        if self.error is not None:
            known["error"] = self.error.as_dict()
        return known


class Delivery:
    """What one job brings: its record as far as it is known here, and its results. Waited for in the event loop."""

    def __init__(self, job: str, user: str, request: str, now: float) -> None:
        self.job = job
        self.user = user
        self.request = request
        self.since = now
        self.submitted: asyncio.Future[Job] = asyncio.get_running_loop().create_future()
        self.record: Job | None = None
        self.results: dict[str, Result] = {}
        self.gone = False
        self.took: float | None = None
        self._began = time.monotonic()
        self._loop = asyncio.get_running_loop()
        self._waiting: set[asyncio.Future[None]] = set()

    def learn(self, record: Job) -> None:
        """Take over a newer record; a job that has ended does not go back."""
        if self.record is not None and self.record.state.final:
            return
        self.record = record
        for result in self.results.values():
            if not self.wants(result.party):
                result.drop()
        self.wake()

    def wants(self, party: str) -> bool:
        """Tell whether what comes from this party may still count."""
        report = self.record.parts.get(party) if self.record is not None else None
        return not self.void and (report is None or report.state == State.SUCCEEDED)

    @property
    def void(self) -> bool:
        """Whether the job has ended so that nothing of it counts."""
        return self.record is not None and self.record.state.final and self.record.state not in GOOD

    def changed(self) -> None:
        """Tell who waits that something has changed; from any thread."""
        self._loop.call_soon_threadsafe(self.wake)

    def wake(self) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)

    @property
    def fault(self) -> DynamosError | None:
        """Why a result could not be kept here, if so: this is the cause, whatever the job's record says then."""
        return next((result.error for result in self.results.values() if result.fault), None)

    @property
    def expected(self) -> tuple[Edge, ...]:
        """The results that come, or have come, by what is known of the parts now."""
        if self.record is None or self.record.plan is None:
            return ()
        parts = self.record.parts
        failed = {name for name, report in parts.items() if report.state.final and report.state != State.SUCCEEDED}
        return tuple(edge for edge in self.record.plan.results if edge.source_party not in failed)

    @property
    def complete(self) -> bool:
        """Whether the job has ended, and every result that a party says it has sent is here."""
        if self.gone or self.fault is not None:
            return True
        if self.record is None or not self.record.state.final:
            return False
        if self.void:
            return True
        done = {name for name, result in self.results.items() if result.phase is not Phase.ARRIVING}
        return all(edge.name in done for edge in self.expected)

    def arrived(self) -> None:
        """Note that everything is here: the first time counts."""
        self.took = self.took or time.monotonic() - self._began

    async def until(self, probe: Callable[[Delivery], bool], *, within: float, what: str) -> None:
        """Wait until the probe holds. Raises TimedOut that names `what`."""
        try:
            async with asyncio.timeout(within):
                while not probe(self):
                    await self._change()
        except TimeoutError:
            seen = self.record.state if self.record else "nothing"
            raise TimedOut(f"{what} did not happen within {within:g} s; the job is {seen}", where=self.job) from None

    async def _change(self) -> None:
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiting.add(waiter)
        try:
            await waiter
        finally:
            self._waiting.discard(waiter)


class Results:
    """The deliveries of all jobs that this API submitted, each for `age` seconds after its job's end."""

    def __init__(self, store: Store, clock: Clock, *, age: float, longest: float) -> None:
        self.store = store
        self.faulty: Callable[[Delivery, DynamosError], None] = lambda _delivery, _error: None
        self._clock = clock
        self._age = age
        self._longest = longest
        self._deliveries: dict[str, Delivery] = {}
        self._lock = threading.Lock()

    def expect(self, job: str, user: str, request: str) -> Delivery:
        """Take streams for this job from now on. Raises Conflict if there is such a job already."""
        with self._lock:
            if job in self._deliveries:
                raise Conflict(f"job {job!r} exists already", code="job-exists")
            delivery = self._deliveries[job] = Delivery(job, user, request, self._clock.monotonic())
            return delivery

    def adopt(self, delivery: Delivery) -> None:
        """Keep a delivery that was made elsewhere."""
        with self._lock:
            self._deliveries.setdefault(delivery.job, delivery)

    def find(self, job: str) -> Delivery | None:
        return self._deliveries.get(job)

    def all(self) -> list[Delivery]:
        with self._lock:
            return list(self._deliveries.values())

    def admit(self, job: str, name: str, party: str) -> Result:
        """Give the sink for one result, once. Raises NotFound, Refused. Called from a receiver's thread."""
        with self._lock:
            delivery = self._deliveries.get(job)
            if delivery is None or delivery.gone or not delivery.wants(party):
                raise NotFound(f"nobody waits for a result of job {job!r}", where=name)
            former = delivery.results.get(name)
            if former is not None and not (former.phase is Phase.FAILED and former.schema is None):
                raise Refused(f"result {name!r} of job {job!r} was taken already", code="stream-replayed")
            result = Result(name, party, self.store.spool(), lambda changed: self._heard(delivery, changed))
            delivery.results[name] = result
            return result

    def _heard(self, delivery: Delivery, result: Result) -> None:
        delivery.changed()
        if result.fault and result.error is not None:
            self.faulty(delivery, result.error)

    def forget(self, job: str) -> None:
        """Remove a job's results; streams of it that still come are refused."""
        with self._lock:
            delivery = self._deliveries.pop(job, None)
        if delivery is not None:
            self._discard(delivery)

    @staticmethod
    def _discard(delivery: Delivery) -> None:
        delivery.gone = True
        for result in delivery.results.values():
            result.drop()
        delivery.wake()

    def sweep(self) -> int:
        """Remove what is older than its age, and tell how many jobs that were."""
        now = self._clock.monotonic()
        old = [delivery for delivery in self.all() if now >= self._expires(delivery)]
        for delivery in old:
            self.forget(delivery.job)
        return len(old)

    def _expires(self, delivery: Delivery) -> float:
        """Give when a delivery goes. One whose end nobody told of goes when no job can live that long."""
        if delivery.record is not None and delivery.record.state.final:
            ended = delivery.record.ended
            passed = (self._clock.now() - ended).total_seconds() if ended else 0.0
            return self._clock.monotonic() - max(passed, 0.0) + self._age
        return delivery.since + self._longest + self._age

    def close(self) -> None:
        """Remove everything."""
        for delivery in self.all():
            self.forget(delivery.job)
