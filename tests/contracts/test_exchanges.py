"""What carries an agent's streams keeps one contract, in the agent's own process and in one of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pyarrow as pa
import pytest

from dynamos.exchange.receivers import Receiver
from dynamos.exchange.senders import Sender
from dynamos.jobs import wires
from dynamos.kit.clocks import SystemClock
from dynamos.kit.credentials import Credentials
from dynamos.kit.errors import Cancelled, DynamosError, JobFailed, NotFound, Refused, Unavailable
from dynamos.kit.waits import until
from dynamos.middleware.agent.carried import Carried, Nursery, Settings
from dynamos.middleware.agent.exchanges import Exchange, LocalExchange
from dynamos.middleware.agent.inbox import Inbox
from dynamos.middleware.identity.grants import sign
from support.exchanges import poured, written
from support.identities import issue_all, make_grant

TABLE = pa.table({"n": list(range(1000))})
NURSERY = """
import socket, sys
from dynamos.middleware.agent.carriers import nurse
nurse(socket.socket(fileno=int(sys.argv[1])))
"""


@pytest.fixture(scope="module")
def units(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Credentials]:
    return issue_all(tmp_path_factory.mktemp("units"), "orchestrator", "united", "clearing")


@pytest.fixture(params=["local", "carried"])
def kind(request: pytest.FixtureRequest) -> str:
    if request.param == "carried" and sys.platform != "linux":
        pytest.skip("carriers need Linux")
    return str(request.param)


class Ends:
    """The exchanges of a party that sends and of one that takes."""

    def __init__(self, units: dict[str, Credentials], sender: Exchange, taker: Exchange) -> None:
        self.sender = sender
        self.taker = taker
        self.aborted: list[DynamosError] = []
        self.nursery = 0
        self._units = units

    def grant(self, **changes: object) -> str:
        return sign(make_grant(**changes), self._units["orchestrator"].key)

    async def expect(self, job: str = "job-1") -> int:
        """Let the job's stream in, and give the end of the pipe that its step reads."""
        reading, writing = os.pipe()
        await self.taker.expect(job, {"rows": writing}, self.aborted.append)
        return reading

    async def send(self, source: int, confirm: Callable[[], Awaitable[None]] | None = None, **changes: str) -> object:
        words = {"peer": "clearing", "job": "job-1", "edge": "rows", "grant": self.grant()} | changes
        return await self.sender.send(self.taker.address, source_fd=source, confirm=confirm or self.confirmed, **words)

    @staticmethod
    async def confirmed() -> None:
        """The step ended well."""


@asynccontextmanager
async def ends(kind: str, units: dict[str, Credentials]) -> AsyncIterator[Ends]:
    orchestrator = units["orchestrator"].certificate
    if kind == "local":
        made = []
        for party in ("united", "clearing"):
            inbox = Inbox(party, orchestrator, SystemClock(), patience=0.3)
            local = LocalExchange(Sender(units[party], patience=1.0), Receiver(units[party], admit=inbox.admit), inbox)
            await local.start()
            made.append(local)
        both = Ends(units, *made)
        try:
            yield both
        finally:
            for each in made:
                await each.close()
        return
    ours, theirs = wires.pair()
    process = subprocess.Popen([sys.executable, "-c", NURSERY, str(theirs.fileno())], pass_fds=[theirs.fileno()])  # noqa: ASYNC220  it is here at once
    theirs.close()
    nursery = Nursery(ours)
    carried: list[Carried] = []
    try:
        for party in ("united", "clearing"):
            settings = Settings(party, units[party], orchestrator, "127.0.0.1", 0)
            carried += [await nursery.carrier(settings)]
        both = Ends(units, *carried)
        both.nursery = process.pid
        yield both
    finally:
        for each in carried:
            await each.close()
        nursery.close()
        process.wait(10)


def against(kind: str, units: dict[str, Credentials], body: Callable[[Ends], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), ends(kind, units) as both:
            await body(both)

    asyncio.run(main())


def read(fd: int) -> pa.Table:
    with os.fdopen(fd, "rb") as file:
        return pa.ipc.open_stream(file).read_all()


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def eventually(what: str, holds: Callable[[], bool]) -> None:
    async def probe() -> bool:
        return holds()

    await until(what, probe, within=15)


def test_a_stream_arrives_whole_and_both_ends_say_so(kind, units):
    async def body(both: Ends) -> None:
        reading = await both.expect()
        got = asyncio.create_task(asyncio.to_thread(read, reading))
        transfer = await both.send(written(TABLE.schema, TABLE.to_batches()))
        assert (transfer.rows, transfer.edge) == (1000, "rows")
        assert (await got).equals(TABLE)
        assert both.aborted == []

    against(kind, units, body)


def test_what_the_step_does_not_confirm_counts_for_nothing(kind, units):
    async def body(both: Ends) -> None:
        reading = await both.expect()

        async def failed() -> None:
            raise JobFailed("the step crashed", code="crashed")

        with pytest.raises(JobFailed) as caught:
            await both.send(written(TABLE.schema, TABLE.to_batches()), failed)
        assert caught.value.detail_code == "crashed"
        with pytest.raises((pa.ArrowInvalid, OSError)):
            await asyncio.to_thread(read, reading)
        assert [error.detail_code for error in both.aborted] == ["crashed"]

    against(kind, units, body)


def test_a_pipe_breaks_off_only_after_its_part_has_been_told(kind, units):
    async def body(both: Ends) -> None:
        told, broken = threading.Event(), threading.Event()
        reading, writing = os.pipe()

        def aborted(_: DynamosError) -> None:
            assert not broken.wait(0.2)
            told.set()

        def watch() -> None:
            while os.read(reading, 65536):
                pass
            broken.set()

        await both.taker.expect("job-1", {"rows": writing}, aborted)
        threading.Thread(target=watch, daemon=True).start()

        async def failed() -> None:
            raise JobFailed("the step crashed")

        with pytest.raises(JobFailed):
            await both.send(written(TABLE.schema, TABLE.to_batches()), failed)
        await eventually("the pipe broke off", broken.is_set)
        assert told.is_set()
        os.close(reading)

    against(kind, units, body)


@pytest.mark.parametrize(
    ("changes", "error"),
    [({"job": "job-2"}, Refused), ({"edge": "other"}, Refused)],
    ids=["another job", "another stream"],
)
def test_a_grant_lets_in_what_it_is_for(kind, units, changes, error):
    async def body(both: Ends) -> None:
        reading = await both.expect()
        with pytest.raises(error):
            await both.send(written(TABLE.schema, TABLE.to_batches()), **changes)
        os.close(reading)

    against(kind, units, body)


def test_nobody_is_let_in_whom_no_part_expects(kind, units):
    async def body(both: Ends) -> None:
        patient = asyncio.create_task(both.send(written(TABLE.schema, TABLE.to_batches())))
        if kind == "carried":  # it waits ten seconds for a part to start
            patient.cancel()
            with pytest.raises(asyncio.CancelledError):
                await patient
            return
        with pytest.raises(NotFound):
            await patient

    against(kind, units, body)


def test_a_job_that_is_forgotten_lets_nothing_in_and_ends_what_arrives(kind, units):
    async def body(both: Ends) -> None:
        reading = await both.expect()
        release = threading.Event()

        def slowly(file) -> None:
            with pa.ipc.new_stream(file, TABLE.schema) as writer:
                writer.write_table(TABLE)
                file.flush()
                release.wait(20)

        sending = asyncio.create_task(both.send(poured(slowly)))
        await asyncio.to_thread(os.read, reading, 1)
        await both.taker.forget("job-1", Cancelled("the part has ended", code="ended"))
        release.set()
        with pytest.raises(DynamosError) as caught:
            await sending
        assert caught.value.detail_code == "ended"
        os.close(reading)

    against(kind, units, body)


def test_pipes_that_nobody_filled_break_off(kind, units):
    async def body(both: Ends) -> None:
        reading = await both.expect()
        await both.taker.forget("job-1", Cancelled("the part has ended"))
        with pytest.raises((pa.ArrowInvalid, OSError)):
            await asyncio.to_thread(read, reading)

    against(kind, units, body)


def test_a_cancelled_stream_is_aborted_at_its_target(kind, units):
    async def body(both: Ends) -> None:
        reading = await both.expect()
        release = threading.Event()
        sending = asyncio.create_task(both.send(poured(lambda _: release.wait(20))))
        await asyncio.sleep(0)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        release.set()
        os.close(reading)

    against(kind, units, body)


@pytest.mark.skipif(sys.platform != "linux", reason="carriers need Linux")
def test_a_carrier_that_was_killed_fails_its_streams_and_tells_the_parts(units):
    async def body(both: Ends) -> None:
        reading = await both.expect()
        release = threading.Event()
        sending = asyncio.create_task(both.send(poured(lambda _: release.wait(20))))
        await asyncio.sleep(0)
        for pid in children(both.nursery):
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(Unavailable) as caught:
            await sending
        assert caught.value.detail_code == "carrier-lost"
        await eventually("the part was told", lambda: len(both.aborted) == 1)
        assert both.taker.lost
        with pytest.raises(Unavailable):
            await both.expect("job-2")
        release.set()
        os.close(reading)

    against("carried", units, body)


def test_a_carrier_that_cannot_listen_says_why(units):
    if sys.platform != "linux":
        pytest.skip("carriers need Linux")

    async def body(both: Ends) -> None:
        taken = int(both.taker.address.rpartition(":")[2])
        ours, theirs = wires.pair()
        process = subprocess.Popen([sys.executable, "-c", NURSERY, str(theirs.fileno())], pass_fds=[theirs.fileno()])  # noqa: ASYNC220  it is here at once
        theirs.close()
        nursery = Nursery(ours)
        missing = Credentials(Path("/no"), Path("/no"), Path("/no"))
        with pytest.raises(NotFound):
            await nursery.carrier(Settings("united", missing, Path("/no"), "127.0.0.1", taken))
        nursery.close()
        process.wait(10)

    against("carried", units, body)
