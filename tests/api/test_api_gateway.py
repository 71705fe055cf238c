"""The gateway lets in the results of its own jobs, from whom they were granted, once."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from dynamos.exchange.receivers import Receiver
from dynamos.exchange.senders import Sender
from dynamos.exchange.streams import Arrival
from dynamos.kit.clocks import SystemClock
from dynamos.kit.errors import DynamosError, NotFound, Refused, Unauthenticated
from dynamos.middleware.api.gateway import Gateway
from dynamos.middleware.api.results import Phase, Results
from dynamos.middleware.api.spools import Store
from dynamos.middleware.identity.grants import sign
from dynamos.model.plans import REQUESTOR
from support.identities import issue_all, make_grant

TABLE = pa.table({"n": list(range(1000))})


@pytest.fixture
def units(tmp_path):
    return issue_all(tmp_path, "orchestrator", "api", "united", "delta")


def gateway(folder, units):
    """Give a gateway that waits for `job-1`, and its results."""
    results = Results(Store(folder / "r", memory=1 << 20, disk=1 << 20), SystemClock(), age=60, longest=60)
    results.expect("job-1", "ann", "digest")
    return Gateway(results, units["orchestrator"].certificate, SystemClock()), results


def arrival(units, *, peer="united", job="job-1", edge="rows", signer="orchestrator", **grant):
    target = grant.pop("target", REQUESTOR)
    made = make_grant(**grant)
    out = made.part.edges[0].model_copy(update={"target_party": target})
    made = made.model_copy(update={"part": made.part.model_copy(update={"edges": (out,)})})
    return Arrival(job=job, edge=edge, peer=peer, grant=sign(made, units[signer].key))


def test_a_granted_result_is_taken_once(tmp_path, units):
    async def work():
        gate, results = gateway(tmp_path, units)
        one = arrival(units)
        sink = gate.admit(one)
        sink.open(TABLE.schema)
        with pytest.raises(Refused) as replayed:
            gate.admit(one)
        assert replayed.value.detail_code == "stream-replayed"
        assert results.find("job-1").results["rows"] is sink

    asyncio.run(work())


WRONG = [
    ({"peer": "delta"}, Refused),
    ({"party": "delta"}, Refused),
    ({"signer": "united"}, Unauthenticated),
    ({"expires": datetime(2020, 1, 1, tzinfo=UTC)}, Unauthenticated),
    ({"target": "clearing"}, Refused),
    ({"edge": "other"}, Refused),
    ({"job": "job-2"}, Refused),
]


@pytest.mark.parametrize(("wrong", "kind"), WRONG, ids=[str(wrong) for wrong, _ in WRONG])
def test_whatever_is_not_granted_is_refused(tmp_path, units, wrong, kind):
    async def work():
        gate, results = gateway(tmp_path, units)
        made = arrival(units, **wrong)
        made = made if "edge" not in wrong else Arrival(made.job, "unknown", made.peer, made.grant)
        with pytest.raises(kind):
            gate.admit(made)
        assert results.find("job-1").results == {}

    asyncio.run(work())


def test_a_job_that_nobody_here_submitted_is_not_found(tmp_path, units):
    async def work():
        gate, results = gateway(tmp_path, units)
        results.forget("job-1")
        with pytest.raises(NotFound):
            gate.admit(arrival(units))

    asyncio.run(work())


async def send(sender, receiver, units, table, **wrong):
    """Send a table as a party does, over TLS."""
    read_end, write_end = os.pipe()

    def write():
        with os.fdopen(write_end, "wb") as pipe, pa.ipc.new_stream(pipe, table.schema) as writer:
            for batch in table.to_batches():
                writer.write_batch(batch)

    async def confirm():
        return None

    writing = asyncio.create_task(asyncio.to_thread(write))
    made = arrival(units, **wrong)
    try:
        return await sender.send(
            receiver.address,
            peer="api",
            job="job-1",
            edge="rows",
            grant=made.grant,
            source_fd=read_end,
            confirm=confirm,
        )
    finally:
        await asyncio.wait((writing,))


def test_a_result_arrives_over_flight(tmp_path, units):
    async def work():
        gate, results = gateway(tmp_path, units)
        receiver = Receiver(units["api"], admit=gate.admit)
        await receiver.start()
        sender, other = Sender(units["united"]), Sender(units["delta"])
        try:
            with pytest.raises(DynamosError):
                await send(other, receiver, units, TABLE)
            transfer = await send(sender, receiver, units, TABLE)
            result = results.find("job-1").results["rows"]
            await results.find("job-1").until(
                lambda seen: seen.results["rows"].phase is Phase.COMPLETE, within=10, what="the result"
            )
            with result.reader() as batches:
                assert batches.read_all().equals(TABLE)
            assert transfer.rows == 1000
        finally:
            await sender.close()
            await other.close()
            await receiver.close()
            results.close()

    asyncio.run(work())
