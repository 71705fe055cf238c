"""A stream that breaks off, anywhere, is an error on both sides and never a short result."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import struct
import subprocess
import sys
import threading

import pyarrow as pa
import pytest

from dynamos.exchange.sinks import CollectSink, PipeSink
from dynamos.exchange.wire import BATCH_LIMIT
from dynamos.kit.errors import BadInput, Broken, Cancelled, Full, JobFailed, NotFound, Refused, Unavailable
from support.exchanges import happened, pair, poured, raw, written
from support.identities import issue_all

BATCH = pa.record_batch({"n": list(range(1000)), "s": ["some text"] * 1000})


class WatchedSink(CollectSink):
    """Tells other threads how far it is; `gate` holds it up at its first batch."""

    def __init__(self, *, held: bool = False) -> None:
        super().__init__()
        self.wrote = threading.Event()
        self.ended = threading.Event()
        self.gate = threading.Event()
        if not held:
            self.gate.set()

    def write(self, batch):
        super().write(batch)
        self.wrote.set()
        assert self.gate.wait(30)

    def close(self):
        super().close()
        self.ended.set()

    def abort(self, error):
        super().abort(error)
        self.ended.set()


@pytest.fixture(scope="module")
def units(tmp_path_factory):
    return issue_all(tmp_path_factory.mktemp("units"), "orchestrator", "united", "delta", "clearing")


def stream_of(*batches, options=None):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batches[0].schema, options=options) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def endless():
    def write(file):
        with pa.ipc.new_stream(file, BATCH.schema) as writer:
            while True:
                writer.write_batch(BATCH)

    return poured(write)


async def fails():
    raise JobFailed("the step exited with 1", code="step-failed", where="query", hint="see its log")


async def aborted(both, kind, source, **changes):
    """Send, and give the error that both sides then have."""
    with pytest.raises(kind) as caught:
        await both.send(source, **changes)
    sink = both.sink
    if both.door.taken:
        await happened("the sink is aborted", sink.ended)
        assert not sink.complete
        assert sink.error is not None
    return caught.value


def test_a_step_that_fails_after_its_last_row_aborts_the_stream(units):
    async def run():
        async with pair(units, WatchedSink()) as both:
            error = await aborted(both, JobFailed, written(BATCH.schema, [BATCH]), confirm=fails)
            assert error.detail_code == "step-failed"
            told = both.sink.error
            assert (type(told), told.detail_code, told.message) == (JobFailed, "step-failed", "the step exited with 1")
            assert (told.where, told.hint) == ("query", "see its log")

    asyncio.run(run())


def test_a_source_cut_at_a_frame_with_a_failed_step_aborts(units):
    async def run():
        content = stream_of(BATCH, BATCH)
        async with pair(units, WatchedSink()) as both:
            await aborted(both, JobFailed, raw(content[:-8]), confirm=fails())

    asyncio.run(run())


@pytest.mark.parametrize("cut", [4, 11, 150, 400, 3000, 20_000])
def test_a_source_cut_inside_a_frame_aborts_even_if_the_step_says_it_ended_well(units, cut):
    async def run():
        content = stream_of(BATCH, BATCH)
        assert cut < len(content) - 8
        async with pair(units, WatchedSink()) as both:
            error = await aborted(both, JobFailed, raw(content[:cut]))
            assert error.detail_code in {"truncated", "not-arrow"}
            assert both.sink.error.detail_code == error.detail_code

    asyncio.run(run())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello, world\n",
        b"ARROW1\0\0" + bytes(100),
        b"\xff\xff\xff\xff" + struct.pack("<i", -5),
        b"\xff\xff\xff\xff" + struct.pack("<i", 2**31 - 1),
        b"\xff\xff\xff\xff" + struct.pack("<i", 64) + bytes(range(64)),
        b"\xff\xff\xff\xff" + struct.pack("<i", 64) + b"\xff" * 64,
        b"\xff\xff\xff\xff" + struct.pack("<i", 8) + bytes(8),
        stream_of(BATCH)[:400] + b"print" * 10_000,
        b"\xff\xff\xff\xff\0\0\0\0",
    ],
    ids=["empty", "text", "file", "negative", "huge", "noise", "ones", "zeros", "text-inside", "only-end"],
)
def test_rubbish_is_not_arrow(units, content):
    async def run():
        async with pair(units, WatchedSink()) as both:
            error = await aborted(both, JobFailed, raw(content))
            assert error.detail_code == "not-arrow"

    asyncio.run(run())


def test_a_batch_that_says_it_is_huge_takes_no_memory(units):
    async def run():
        content = bytearray(stream_of(BATCH))
        true = len(stream_of(BATCH)) - len(stream_of(BATCH.slice(0, 0)))
        body = max(
            i for i in range(0, len(content) - 8, 8) if 0 < struct.unpack_from("<q", content, i)[0] - true < 4096
        )
        struct.pack_into("<q", content, body, BATCH_LIMIT + 1)
        async with pair(units, WatchedSink()) as both:
            error = await aborted(both, JobFailed, raw(bytes(content)))
            assert error.detail_code == "too-large"

    asyncio.run(run())


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_compressed_buffers_of_a_step_are_refused_before_they_unfold(units, codec):
    async def run():
        options = pa.ipc.IpcWriteOptions(compression=codec)
        words = pa.record_batch({"d": pa.array(["a" * 1000] * 1000).dictionary_encode()})
        async with pair(units, WatchedSink()) as both:
            for batch in (BATCH, words):
                both.door.taken.clear()
                error = await aborted(both, JobFailed, raw(stream_of(batch, options=options)))
                assert (error.detail_code, "compress" in error.message) == ("not-arrow", True)

    asyncio.run(run())


@pytest.mark.parametrize("offsets", [(0, 4, 1_000_000), (0, 1_000_000, 8), (0, -1_000_000, 8), (5, 4, 8)])
def test_forged_offsets_cannot_read_the_senders_memory(units, offsets):
    async def run():
        fine = stream_of(pa.record_batch({"s": ["abcd", "efgh"]}))
        forged = fine.replace(struct.pack("<3i", 0, 4, 8), struct.pack("<3i", *offsets))
        assert forged != fine
        async with pair(units, WatchedSink()) as both:
            error = await aborted(both, JobFailed, raw(forged))
            assert error.detail_code == "not-arrow"
            assert both.sink.batches == []

    asyncio.run(run())


def test_forged_indices_of_a_dictionary_are_refused(units):
    async def run():
        words = pa.DictionaryArray.from_arrays(pa.array([7, 7, 7, 7, 7, 7, 7, 7], pa.int64()), list("abcdefgh"))
        fine = stream_of(pa.record_batch([words], names=["d"]))
        forged = fine.replace(struct.pack("<8q", *[7] * 8), struct.pack("<8q", *[7] * 7, 1_000_000))
        assert forged != fine
        async with pair(units, WatchedSink()) as both:
            error = await aborted(both, JobFailed, raw(forged))
            assert error.detail_code == "not-arrow"

    asyncio.run(run())


def test_the_receivers_refusal_reaches_the_sender_whole(units):
    async def run():
        async with pair(units) as both:
            both.door.sinks.clear()
            with pytest.raises(NotFound) as caught:
                await both.send(written(BATCH.schema, [BATCH]))
            assert caught.value.message == "nobody waits for job-1/rows"

    asyncio.run(run())


def test_a_sink_that_fails_ends_the_stream_with_its_own_error(units):
    class FullSink(WatchedSink):
        def write(self, batch):
            raise Full("the disk is full", code="disk-full", where="spool", hint="free some", needed=7)

    async def run():
        async with pair(units, FullSink()) as both:
            error = await aborted(both, Full, endless())
            assert (error.detail_code, error.where, error.hint, error.facts) == (
                "disk-full",
                "spool",
                "free some",
                {"needed": 7},
            )
            assert both.sink.error.detail_code == "disk-full"

    asyncio.run(run())


@pytest.mark.parametrize("place", ["admit", "open", "write", "close"])
def test_a_defect_at_the_receiver_is_told_as_one_and_without_its_secrets(units, place, caplog):
    class Faulty(WatchedSink):
        def fail(self, *_):
            raise RuntimeError("secret detail")

    async def run():
        sink = Faulty()
        async with pair(units, sink) as both:
            if place == "admit":
                both.receiver._admit = sink.fail
            else:
                setattr(sink, place, sink.fail)
            error = await aborted(both, Broken, written(BATCH.schema, [BATCH]))
            assert "secret" not in str(error)
        assert any("secret detail" in str(record.exc_info) for record in caplog.records)

    asyncio.run(run())


def test_a_slow_sink_holds_the_source_up(units):
    """Back-pressure: of an endless source only a bounded number of bytes leaves it while the sink stands still."""
    taken = 0
    stalled = threading.Event()

    def write(file):
        nonlocal taken
        os.set_blocking(file.fileno(), False)
        content = stream_of(*[BATCH] * 200)[:-8]
        frame = stream_of(*[BATCH] * 201)[len(content) : -8]
        waiting = memoryview(content)
        poll = select.poll()
        poll.register(file.fileno(), select.POLLOUT)
        while True:
            # Nothing was taken for a whole second: the chain is full from the sink to here.
            if not poll.poll(1000):
                stalled.set()
                poll.poll()
            try:
                count = os.write(file.fileno(), waiting)
            except BlockingIOError:
                continue
            except BrokenPipeError:
                return
            taken += count
            waiting = waiting[count:] or memoryview(frame)

    async def run():
        async with pair(units, WatchedSink(held=True)) as both:
            sending = asyncio.create_task(both.send(poured(write)))
            await happened("the sink has a batch", both.sink.wrote)
            assert await asyncio.to_thread(stalled.wait, 20), "the source is held up"
            assert len(both.sink.batches) == 1
            assert taken < 48 * 1024 * 1024
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            both.sink.gate.set()
            await happened("the sink is aborted", both.sink.ended)
            assert not both.sink.complete

    asyncio.run(run())


@pytest.mark.parametrize("where", ["waiting for the source", "held up by the sink", "waiting for the step"])
def test_cancelling_aborts_the_stream_wherever_it_is(units, where):
    async def run():
        never = asyncio.Event()
        confirming = asyncio.Event()

        async def confirm():
            confirming.set()
            await never.wait()

        sink = WatchedSink(held=where == "held up by the sink")
        async with pair(units, sink) as both:
            silent_end = None
            if where == "waiting for the source":
                source, silent_end = os.pipe()
                os.write(silent_end, stream_of(BATCH)[:-8])
            elif where == "held up by the sink":
                source = endless()
            else:
                source = written(BATCH.schema, [BATCH])
            sending = asyncio.create_task(both.send(source, confirm=confirm))
            await happened("the sink has a batch", sink.wrote)
            if where == "waiting for the step":
                await confirming.wait()
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            sink.gate.set()
            await happened("the sink is aborted", sink.ended)
            assert not sink.complete
            assert both.sender._live == set()
            with pytest.raises(OSError):
                os.fstat(source)
            if silent_end is not None:
                os.close(silent_end)
            # The connection is as good as before.
            both.door.taken.clear()
            sink.gate.set()
            await both.send(written(BATCH.schema, [BATCH]))
            assert sink.complete

    asyncio.run(run())


def test_a_dropped_job_ends_its_streams_though_the_sender_is_silent(units):
    async def run():
        source, silent_end = os.pipe()
        os.write(silent_end, stream_of(BATCH)[:-8])
        async with pair(units, WatchedSink()) as both:
            sending = asyncio.create_task(both.send(source))
            await happened("the sink has a batch", both.sink.wrote)
            await both.receiver.drop("another-job", Cancelled("not this one"))
            assert not both.sink.ended.is_set()
            await both.receiver.drop("job-1", Cancelled("the job was stopped", code="stopped"))
            assert both.sink.ended.is_set()
            assert both.sink.error.detail_code == "stopped"
            os.write(silent_end, stream_of(BATCH, BATCH)[len(stream_of(BATCH)) - 8 :])
            os.close(silent_end)
            with pytest.raises(Cancelled) as caught:
                await sending
            assert caught.value.detail_code == "stopped"
            assert len(both.sink.batches) == 1

    asyncio.run(run())


def test_nobody_there_is_unavailable_and_the_source_is_closed(units):
    async def run():
        async with pair(units) as both:
            address = both.receiver.address
            await both.receiver.close()
            source = written(BATCH.schema, [BATCH])
            with pytest.raises(Unavailable) as caught:
                await both.send(source, address=address)
            assert caught.value.detail_code == "peer-away"
            with pytest.raises(OSError):
                os.fstat(source)

    asyncio.run(run())


def test_a_peer_that_comes_while_the_sender_knocks_gets_the_stream_once(units):
    async def run():
        async with pair(units) as first:
            port = first.receiver.port
        async with pair(units, port=port) as both:
            await both.receiver.close()
            both.sender._patience = 10.0
            second_knock = threading.Event()
            connect, knocks = both.sender._connections.to, []

            def counted(*where):
                knocks.append(where)
                if len(knocks) == 2:
                    second_knock.set()
                return connect(*where)

            both.sender._connections.to = counted
            sending = asyncio.create_task(both.send(written(BATCH.schema, [BATCH])))
            await happened("nobody answered the first knock", second_knock)
            async with pair(units, port=port) as later:
                transfer = await sending
                assert (transfer.rows, later.sink.table().num_rows) == (1000, 1000)

    asyncio.run(run())


@pytest.mark.parametrize(
    "address", ["", "grpc://127.0.0.1:1", "127.0.0.1:1", "grpc+tls://", "http://x", "grpc+tls://a b"]
)
def test_an_address_that_is_none_is_told(units, address):
    async def run():
        async with pair(units) as both:
            with pytest.raises((BadInput, Unavailable)):
                await both.send(written(BATCH.schema, [BATCH]), address=address)

    asyncio.run(run())


def test_too_many_streams_are_refused_on_both_sides(units):
    async def run():
        async with pair(units, WatchedSink(held=True), streams=1) as both:
            both.door.sinks["job-1", "more"] = CollectSink()
            first = asyncio.create_task(both.send(written(BATCH.schema, [BATCH])))
            await happened("the sink has a batch", both.sink.wrote)
            with pytest.raises(Unavailable) as caught:
                await both.send(written(BATCH.schema, [BATCH]), edge="more", grant=both.grant(edge="more"))
            assert caught.value.detail_code == "busy"
            both.sender._streams = 1
            with pytest.raises(Unavailable) as caught:
                await both.send(written(BATCH.schema, [BATCH]), edge="more", confirm=fails())
            assert caught.value.detail_code == "busy"
            both.sink.gate.set()
            await first
            await both.sender.close()
            with pytest.raises(Unavailable):
                await both.send(written(BATCH.schema, [BATCH]))

    asyncio.run(run())


def test_a_step_that_closes_its_input_ends_the_stream(units):
    async def run():
        reading, writing = os.pipe()
        os.close(reading)
        told = []
        async with pair(units, PipeSink(writing, on_abort=told.append)) as both:
            with pytest.raises(JobFailed) as caught:
                await both.send(endless())
            assert caught.value.detail_code == "reader-gone"
            assert [error.detail_code for error in told] == ["reader-gone"]

    asyncio.run(run())


def test_a_step_cannot_take_an_aborted_stream_for_a_whole_one(units):
    async def run():
        reading, writing = os.pipe()
        told = []
        async with pair(units, PipeSink(writing, on_abort=told.append)) as both:
            with pytest.raises(JobFailed):
                await both.send(written(BATCH.schema, [BATCH]), confirm=fails)
            with os.fdopen(reading, "rb") as file, pa.ipc.open_stream(file) as stream, pytest.raises(pa.ArrowInvalid):
                stream.read_all()
            assert [error.detail_code for error in told] == ["step-failed"]

    asyncio.run(run())


def started(program, *arguments, **pipes):
    return subprocess.Popen([sys.executable, "-c", program, *arguments], **pipes)


SEND = """
import asyncio, os, sys, pathlib
from dynamos.exchange.senders import Sender
from dynamos.kit.credentials import Credentials
folder, address, grant = sys.argv[1:]
unit = Credentials(*(pathlib.Path(folder, name) for name in ("certificate.pem", "key.pem", "authority.pem")))
async def confirm(): pass
names = {"peer": "clearing", "job": "job-1", "edge": "rows"}
asyncio.run(Sender(unit).send(address, **names, grant=grant, source_fd=0, confirm=confirm))
"""

RECEIVE = """
import asyncio, sys, pathlib
from dynamos.exchange.receivers import Receiver
from dynamos.exchange.sinks import CollectSink
from dynamos.kit.credentials import Credentials
unit = Credentials(*(pathlib.Path(sys.argv[1], name) for name in ("certificate.pem", "key.pem", "authority.pem")))
async def main():
    receiver = Receiver(unit, admit=lambda arrival: CollectSink())
    await receiver.start()
    print(receiver.address, flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


def test_a_sender_that_is_killed_leaves_an_aborted_sink(units):
    async def run():
        async with pair(units, WatchedSink()) as both:
            folder = units["united"].certificate.parent
            reading, writing = os.pipe()
            with started(SEND, str(folder), both.receiver.address, both.grant(), stdin=reading) as process:
                os.close(reading)
                os.write(writing, stream_of(BATCH)[:-8])
                assert await asyncio.to_thread(both.sink.wrote.wait, 30), "the first batch arrived"
                process.send_signal(signal.SIGKILL)
                process.wait(10)
            os.close(writing)
            await happened("the sink is aborted", both.sink.ended)
            assert (type(both.sink.error), both.sink.complete) == (JobFailed, False)
            assert both.sink.error.detail_code == "stream-broke"

    asyncio.run(run())


def test_a_receiver_that_is_killed_is_a_clear_error(units):
    async def run():
        folder = units["clearing"].certificate.parent
        with started(RECEIVE, str(folder), stdout=subprocess.PIPE, text=True) as process:
            address = (await asyncio.to_thread(process.stdout.readline)).strip()
            async with pair(units) as both:
                sent = threading.Event()

                def write(file):
                    with pa.ipc.new_stream(file, BATCH.schema) as writer:
                        for _ in range(500):
                            writer.write_batch(BATCH)
                        sent.set()
                        while True:
                            writer.write_batch(BATCH)

                sending = asyncio.create_task(both.send(poured(write), address=address))
                assert await asyncio.to_thread(sent.wait, 30), "the stream flows"
                process.send_signal(signal.SIGKILL)
                process.wait(10)
                with pytest.raises((Unavailable, JobFailed)) as caught:
                    await sending
                assert caught.value.detail_code in {"peer-away", "stream-broke"}

    asyncio.run(run())


def test_closing_the_receiver_aborts_what_arrives_in_bounded_time(units):
    async def run():
        source, silent_end = os.pipe()
        os.write(silent_end, stream_of(BATCH)[:-8])
        async with pair(units, WatchedSink()) as both:
            sending = asyncio.create_task(both.send(source))
            await happened("the sink has a batch", both.sink.wrote)
            async with asyncio.timeout(5):
                closing = asyncio.create_task(both.receiver.close())
                await happened("the sink is aborted", both.sink.ended)
                os.close(silent_end)
                await closing
            assert isinstance(both.sink.error, Cancelled)
            with pytest.raises((Cancelled, Unavailable, JobFailed)):
                await sending

    asyncio.run(run())


def test_an_address_in_use_or_missing_credentials_are_told(units, tmp_path):
    async def run():
        both = pair(units, host="192.0.2.1")
        with pytest.raises(Unavailable):
            await both.__aenter__()
        gone = {**units, "clearing": type(units["clearing"])(*[tmp_path / "none"] * 3)}
        with pytest.raises(NotFound):
            await pair(gone).__aenter__()

    asyncio.run(run())


def test_a_refused_grant_reads_nothing_from_the_source(units):
    async def run():
        source, silent_end = os.pipe()
        kept = os.dup(source)
        os.write(silent_end, b"untouched")
        async with pair(units) as both:
            with pytest.raises(Refused):
                await both.send(source, grant=both.grant("delta"))
        assert os.read(kept, 100) == b"untouched"
        for fd in (kept, silent_end):
            os.close(fd)

    asyncio.run(run())
