"""The API over the real bus and the real exchange: only the orchestrator is scripted, and it signs real grants."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime, timedelta

import httpx
import pyarrow as pa

from dynamos.exchange.senders import Sender
from dynamos.knowledge.jetstream import connect
from dynamos.knowledge.servers import serve
from dynamos.middleware import telemetry
from dynamos.middleware.api import main
from dynamos.middleware.identity.grants import sign
from dynamos.model.jobs import Grant
from dynamos.model.plans import REQUESTOR
from support.apis import ANN, MARKETPLACE, config, upstream
from support.identities import issue_all
from support.orchestrators import FakeOrchestrator, Script

PARTIES = ("UVA", "VU", "RUG", "SURF")
TABLE = pa.table({"n": pa.array(range(100_000), pa.int64())})


class Parties(FakeOrchestrator):
    """Brings results as parties do: over Flight, under their own certificates, with a grant for each."""

    def __init__(self, kb, units):
        super().__init__(kb, None)
        self.units = units
        self.senders = {party: Sender(units[party]) for party in PARTIES}

    async def _bring(self, job, script):
        submission = next(message for message in self.submissions if message.job == job.id)
        with telemetry.attach(submission.trace), telemetry.trace.get_tracer("tests").start_as_current_span("bring"):
            sends = [self._send(job, edge, submission, script.tables[edge.source_party]) for edge in job.plan.results]
            await asyncio.gather(*sends)

    async def _send(self, job, edge, submission, table):
        part = job.plan.part(edge.source_party)
        grant = Grant(
            id=f"{job.id}-{edge.source_party}",
            job=job.id,
            party=edge.source_party,
            chain=part.digest(),
            revision="r1",
            part=part,
            request=job.request.digest(),
            archetypes=job.plan.archetypes,
            compute=job.plan.compute,
            addresses={REQUESTOR: submission.gateway},
            expires=datetime.now(UTC) + timedelta(seconds=60),
        )
        read_end, write_end = os.pipe()
        writing = asyncio.create_task(asyncio.to_thread(write, write_end, table))
        await self.senders[edge.source_party].send(
            submission.gateway,
            peer="api",
            job=job.id,
            edge=edge.name,
            grant=sign(grant, self.units["orchestrator"].key),
            source_fd=read_end,
            confirm=confirmed,
        )
        await writing

    async def close(self):
        for sender in self.senders.values():
            await sender.close()
        await super().close()


async def confirmed():
    """Say that the steps did well."""


def write(descriptor, table):
    with os.fdopen(descriptor, "wb") as pipe, pa.ipc.new_stream(pipe, table.schema) as writer:
        for batch in table.to_batches(max_chunksize=10_000):
            writer.write_batch(batch)


def test_a_request_goes_over_the_real_bus_and_its_results_over_the_real_exchange(tmp_path):
    units = issue_all(tmp_path, "orchestrator", "api", "admin", "bus", *PARTIES, marketplace=MARKETPLACE)
    made, issuer = config(tmp_path, result_memory="100kB")
    headers = {"authorization": f"Bearer {issuer.token(ANN, ttl=60, audience=MARKETPLACE)}"}

    async def work(bus):
        here = made.model_copy(
            update={
                "bus": bus.url,
                "folder": tmp_path / "units" / "api",
                "orchestrator": units["orchestrator"].certificate,
            }
        )
        orchestrator = Parties(await connect(bus.url, units["orchestrator"], "orchestrator"), units)
        await orchestrator.listen()
        orchestrator.script = Script(tables={"VU": TABLE, "UVA": TABLE.slice(0, 10)}, early=False)
        address, stopped = asyncio.get_running_loop().create_future(), asyncio.Event()
        running = asyncio.create_task(main.run(here, ready=address.set_result, stopped=stopped))
        try:
            async with httpx.AsyncClient(base_url=await address, headers=headers, timeout=30) as client:
                assert (await client.get("/readyz")).status_code == 200
                answer = await client.post("/api/v1/jobs?wait=true", json=upstream())
                links = answer.json()["links"]
                rows = await client.get(links["result"], params={"name": "VU", "format": "arrow"})
                spans = await client.get(links["trace"])
                return answer.json(), rows, spans.json()["spans"]
        finally:
            stopped.set()
            await running
            await orchestrator.close()

    async def inside():
        async with (
            asyncio.timeout(60),
            serve(
                tmp_path / "store",
                marketplace=MARKETPLACE,
                parties=PARTIES,
                credentials=units["bus"],
                admin=units["admin"],
            ) as bus,
        ):
            return await work(bus)

    job, rows, spans = asyncio.run(inside())
    assert job["state"] == "succeeded"
    assert [entry["rows"] for entry in job["results"]] == [100_000, 10]
    assert pa.ipc.open_stream(rows.content).read_all().equals(TABLE)
    assert {span["name"] for span in spans} >= {"POST /api/v1/jobs", "submit", "await results", "bring"}
