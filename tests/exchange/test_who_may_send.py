"""Only a party of this marketplace, with its own unspent grant, sends to a receiver; and only to the right one."""

from __future__ import annotations

import asyncio
import socket
import sys
from contextlib import suppress
from random import Random

import pyarrow as pa
import pytest
from pyarrow import flight

from dynamos.exchange.receivers import Receiver
from dynamos.exchange.senders import Sender
from dynamos.exchange.sinks import CollectSink
from dynamos.kit.clocks import SystemClock
from dynamos.kit.credentials import Credentials
from dynamos.kit.errors import DynamosError, JobFailed, Refused, Unauthenticated, Unavailable
from support.exchanges import pair, raw, written
from support.identities import in_seconds, issue_all

BATCH = pa.record_batch({"n": [1, 2, 3]})


@pytest.fixture(scope="module")
def units(tmp_path_factory):
    return issue_all(tmp_path_factory.mktemp("units"), "orchestrator", "united", "delta", "clearing")


@pytest.fixture(scope="module")
def strangers(tmp_path_factory):
    """The same names, from an authority that anybody can make."""
    return issue_all(tmp_path_factory.mktemp("strangers"), "orchestrator", "united", "clearing")


def source():
    return written(BATCH.schema, [BATCH])


def refusal(units, kinds, **changes):
    """Send with `changes`; give the error, after a look that nothing arrived."""

    async def run():
        async with pair(units) as both:
            with pytest.raises(kinds) as caught:
                await both.send(source(), **{k: v(both) if callable(v) else v for k, v in changes.items()})
            assert both.sink.schema is None
            assert not both.sink.complete
            return caught.value

    return asyncio.run(run())


def test_a_replayed_grant_is_refused(units):
    async def run():
        async with pair(units) as both:
            await both.send(source())
            with pytest.raises(Refused) as caught:
                await both.send(source())
            assert caught.value.detail_code == "grant-spent"
            assert len(both.sink.batches) == 1

    asyncio.run(run())


def test_of_streams_that_race_with_one_grant_one_arrives(units):
    async def run():
        async with pair(units) as both:
            results = await asyncio.gather(*(both.send(source()) for _ in range(8)), return_exceptions=True)
            refused = [result for result in results if isinstance(result, Refused)]
            assert len(refused) == 7
            assert len(both.sink.batches) == 1

    asyncio.run(run())


def test_a_grant_of_another_party_is_useless_to_who_stole_it(units):
    async def run():
        async with pair(units) as both:
            thief = Sender(units["delta"])
            with pytest.raises(Refused) as caught:
                await both.send(source(), sender=thief, grant=both.grant("united"))
            assert caught.value.detail_code == "grant-for-another"
            await thief.close()
            await both.send(source())

    asyncio.run(run())


def test_an_expired_grant_is_refused(units):
    expired = in_seconds(SystemClock().now(), -1)
    error = refusal(units, Unauthenticated, grant=lambda both: both.grant(expires=expired))
    assert error.detail_code == "grant-expired"


@pytest.mark.parametrize("grant", ["rubbish", "a.b.c", "é", "x" * 100_000])
def test_what_is_no_grant_is_forged(units, grant):
    assert refusal(units, Unauthenticated, grant=grant).detail_code == "grant-forged"


def test_without_a_grant_nothing_is_sent(units):
    assert refusal(units, Unauthenticated, grant="").detail_code == "grant-missing"


def test_a_grant_that_a_party_signed_itself_is_forged(units):
    def forge(both):
        both.units = {**units, "orchestrator": units["united"]}
        return both.grant()

    assert refusal(units, Unauthenticated, grant=forge).detail_code == "grant-forged"


def test_a_grant_for_one_stream_admits_no_other(units):
    assert refusal(units, Refused, edge="other").detail_code == "grant-for-another"
    assert refusal(units, Refused, job="job-2").detail_code == "grant-for-another"


def test_a_large_grant_is_no_problem(units):
    """gRPC would refuse it in a header: the grant of a job with many parties has more than 8 KiB."""

    async def run():
        async with pair(units) as both:
            seen = []
            both.receiver._admit = lambda arrival: seen.append(arrival.grant) or CollectSink()
            await both.send(source(), grant="g" * 200_000)
            assert seen == ["g" * 200_000]

    asyncio.run(run())


def test_a_certificate_of_another_authority_is_refused_by_the_receiver(units, strangers):
    async def run():
        async with pair(units) as both:
            mixed = Credentials(strangers["united"].certificate, strangers["united"].key, units["united"].authority)
            stranger = Sender(mixed, patience=0.2)
            with pytest.raises((Unauthenticated, Unavailable, JobFailed)):
                await both.send(source(), sender=stranger)
            await stranger.close()
            assert both.door.arrivals == []
            await both.send(source())

    asyncio.run(run())


def test_a_receiver_of_another_authority_is_refused_by_the_sender(units, strangers):
    async def run():
        async with pair(strangers) as theirs, pair(units) as both:
            with pytest.raises(Unauthenticated) as caught:
                await both.send(source(), address=theirs.receiver.address)
            assert caught.value.detail_code == "wrong-peer"
            assert theirs.door.arrivals == []

    asyncio.run(run())


def test_another_party_at_the_address_is_refused_by_the_sender(units):
    """Also where it has a good certificate of this marketplace: an address is only a place to look."""

    async def run():
        receiver = Receiver(units["delta"], admit=lambda arrival: pytest.fail(f"admitted {arrival}"))
        await receiver.start()
        async with pair(units) as both:
            for peer in ("clearing", "localhost.example"):
                with pytest.raises(Unauthenticated) as caught:
                    await both.send(source(), address=receiver.address, peer=peer)
                assert caught.value.detail_code == "wrong-peer"
        await receiver.close()

    asyncio.run(run())


def test_a_client_without_a_certificate_gets_nowhere(units):
    async def run():
        async with pair(units) as both:
            client = flight.FlightClient(
                both.receiver.address,
                tls_root_certs=units["united"].authority.read_bytes(),
                override_hostname="clearing",
            )
            # Not «unauthorized»: it does not come so far as to be told what it may not.
            with pytest.raises(flight.FlightUnavailableError):
                await asyncio.to_thread(list, client.list_flights())
            plain = flight.FlightClient(both.receiver.address.replace("+tls", ""))
            with pytest.raises(flight.FlightUnavailableError):
                await asyncio.to_thread(list, plain.list_flights())
            assert both.door.arrivals == []
            await both.send(source())

    asyncio.run(run())


@pytest.mark.parametrize(
    "rubbish",
    [b"", b"GET / HTTP/1.1\r\n\r\n", Random(7).randbytes(70_000), b"\x16\x03\x01\xff\xff" + bytes(100)],
    ids=["nothing", "http", "noise", "half a handshake"],
)
def test_rubbish_on_the_port_harms_nothing(units, rubbish):
    async def run():
        async with pair(units) as both:
            address = ("127.0.0.1", both.receiver.port)
            # The server may hang up before we are done.
            with socket.create_connection(address, timeout=5) as connection, suppress(OSError):
                connection.sendall(rubbish)
                connection.shutdown(socket.SHUT_WR)
            await both.send(source())
            assert both.sink.complete

    asyncio.run(run())


def client_of(units, both):
    unit = units["united"]
    return flight.FlightClient(
        both.receiver.address,
        tls_root_certs=unit.authority.read_bytes(),
        cert_chain=unit.certificate.read_bytes(),
        private_key=unit.key.read_bytes(),
        override_hostname="clearing",
    )


@pytest.mark.parametrize(
    "call",
    [
        lambda c: list(c.list_flights()),
        lambda c: list(c.list_actions()),
        lambda c: list(c.do_action("x")),
        lambda c: c.get_flight_info(flight.FlightDescriptor.for_path("job-1", "rows")),
        lambda c: c.get_schema(flight.FlightDescriptor.for_path("job-1", "rows")),
        lambda c: c.do_get(flight.Ticket(b"job-1")).read_all(),
        lambda c: c.do_put(flight.FlightDescriptor.for_path("job-1", "rows"), BATCH.schema)[0].close(),
    ],
    ids=["list", "actions", "action", "info", "schema", "get", "put"],
)
def test_every_other_call_of_flight_is_refused(units, call):
    async def run():
        async with pair(units) as both:
            with pytest.raises((flight.FlightUnauthorizedError, OSError), match="a receiver only takes streams"):
                await asyncio.to_thread(call, client_of(units, both))

    asyncio.run(run())


def speak(client, path, *messages, descriptor=None):
    """Talk to a receiver as no sender of ours does; give its answer."""
    descriptor = descriptor or flight.FlightDescriptor.for_path(*path)
    writer, reader = client.do_exchange(descriptor)
    answers = []
    try:
        # The receiver may end the call at any of these, not only at the last.
        for message in messages:
            if isinstance(message, pa.RecordBatch):
                writer.begin(message.schema)
                writer.write_batch(message)
            else:
                writer.write_metadata(message)
        writer.done_writing()
        while True:
            answers.append(bytes(reader.read_chunk().app_metadata))
    except (StopIteration, flight.FlightError) as error:
        with suppress(flight.FlightError, pa.ArrowException, OSError):
            writer.close()
        return answers, error


@pytest.mark.parametrize(
    "messages",
    [
        (BATCH,),
        (BATCH, b"rubbish"),
        (BATCH, b"[]"),
        (BATCH, b'{"say": "complete"}'),
        (BATCH, b'{"say": "complete", "rows": 4, "batches": 1}'),
        (BATCH, b'{"say": "abort"}'),
        (BATCH, b'{"say": "abort", "error": {"kind": "nonsense"}}'),
        (BATCH, b'{"say": "abort", "error": {"kind": "full", "code": 7}}'),
        (b'{"say": "complete", "rows": 0, "batches": 0}',),
        (),
    ],
    ids=lambda messages: str(messages[-1:])[:50],
)
def test_a_peer_that_breaks_the_protocol_completes_nothing(units, messages):
    async def run():
        async with pair(units) as both:
            talk = (both.grant().encode(), *messages)
            _, error = await asyncio.to_thread(speak, client_of(units, both), ("job-1", "rows"), *talk)
            assert isinstance(error, flight.FlightError)
            assert not both.sink.complete
            assert isinstance(both.sink.error, DynamosError)

    asyncio.run(run())


@pytest.mark.parametrize("path", [(), ("job-1",), ("job-1", "rows", "more"), (b"\xff", b"\xff")])
def test_a_stream_without_a_name_is_refused(units, path):
    async def run():
        async with pair(units) as both:
            _, error = await asyncio.to_thread(speak, client_of(units, both), path, both.grant().encode())
            assert isinstance(error, flight.FlightError)
            command = flight.FlightDescriptor.for_command(b"x")
            _, error = await asyncio.to_thread(speak, client_of(units, both), (), b"g", descriptor=command)
            assert isinstance(error, flight.FlightError)
            assert both.door.arrivals == []

    asyncio.run(run())


def test_a_batch_beyond_the_limit_is_refused(units):
    async def run():
        async with pair(units, limit=1000) as both:
            with pytest.raises(JobFailed) as caught:
                await both.send(written(BATCH.schema, [pa.record_batch({"n": list(range(1000))})]))
            assert caught.value.detail_code == "too-large"
            assert both.sink.batches == []

    asyncio.run(run())


def test_a_receiver_starts_in_a_forked_child(units):
    """Agents are forked: Flight must not have been started before."""

    code = f"""
import asyncio, os, pathlib, signal, sys
from dynamos.exchange.receivers import Receiver
from dynamos.exchange.senders import Sender
from dynamos.exchange.sinks import CollectSink
from dynamos.kit.credentials import Credentials

def unit(folder):
    return Credentials(*(pathlib.Path(folder, n) for n in ("certificate.pem", "key.pem", "authority.pem")))

async def serve(fd):
    receiver = Receiver(unit({str(units["clearing"].certificate.parent)!r}), admit=lambda arrival: CollectSink())
    await receiver.start()
    os.write(fd, receiver.address.encode())
    await asyncio.Event().wait()

async def confirm(): pass

async def send(address):
    sender = Sender(unit({str(units["united"].certificate.parent)!r}))
    names = dict(peer="clearing", job="j", edge="e", grant="g")
    transfer = await sender.send(address, source_fd=0, confirm=confirm, **names)
    print(transfer.rows)
    await sender.close()

reading, writing = os.pipe()
child = os.fork()
if child == 0:
    asyncio.run(serve(writing))
try:
    asyncio.run(send(os.read(reading, 100).decode()))
finally:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""
    content = pa.BufferOutputStream()
    with pa.ipc.new_stream(content, BATCH.schema) as writer:
        writer.write_batch(BATCH)

    async def run():
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, stdin=raw(content.getvalue().to_pybytes()), stdout=-1
        )
        out, _ = await asyncio.wait_for(process.communicate(), 60)
        assert (process.returncode, out.strip()) == (0, b"3")

    asyncio.run(run())
