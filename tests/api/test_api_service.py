"""The process: it listens, says where, answers over a socket, and leaves in order."""

from __future__ import annotations

import asyncio
import json
import socket

import httpx
import pytest

from dynamos.kit.errors import Conflict
from dynamos.middleware.api import main
from support.apis import Service, api, upstream
from support.orchestrators import Script

WITHIN = 30


def run(work, folder, **settings):
    async def inside():
        async with asyncio.timeout(WITHIN):
            service = Service(folder, **settings)
            task = asyncio.create_task(service.run())
            done, _ = await asyncio.wait((task, service.address), return_when=asyncio.FIRST_COMPLETED)
            if task in done:
                return task.result()
            async with httpx.AsyncClient(base_url=service.address.result(), timeout=WITHIN) as client:
                try:
                    return await work(service, client)
                finally:
                    service.stopped.set()
                    await task

    return asyncio.run(inside())


def test_it_says_where_it_listens_and_answers_there(tmp_path):
    async def work(service, client):
        alive, ready = await client.get("/healthz"), await client.get("/readyz")
        answer = await client.post("/api/v1/requestApproval", json=upstream(), headers=service.auth())
        return service.address.result(), alive, ready, answer

    address, alive, ready, answer = run(work, tmp_path)
    assert address.startswith("http://127.0.0.1:")
    assert (alive.json(), ready.json()) == ({"status": "ok"}, {"status": "ready"})
    assert len(answer.json()["responses"]) == 2
    assert "server" not in answer.headers


def test_without_an_orchestrator_it_is_alive_and_not_ready(tmp_path):
    async def work(service, client):
        await service.orchestrator.kb.close()
        return await client.get("/healthz"), await client.get("/readyz")

    alive, ready = run(work, tmp_path)
    assert alive.status_code == 200
    assert (ready.status_code, ready.json()["code"]) == (503, "not-ready")


def test_a_client_that_hangs_up_cancels_its_job(tmp_path):
    async def work(service, client):
        service.orchestrator.script = Script(hold=asyncio.Event())
        call = asyncio.create_task(client.post("/api/v1/jobs?wait=true", json=upstream(), headers=service.auth()))
        await service.orchestrator.submitted.wait()
        call.cancel()
        await service.orchestrator.until_cancelled()
        return service.orchestrator

    orchestrator = run(work, tmp_path)
    assert [message.job for message in orchestrator.cancelled] == [message.job for message in orchestrator.submissions]


def test_a_client_that_chose_its_id_may_come_back(tmp_path):
    async def work(service, client):
        hold = asyncio.Event()
        service.orchestrator.script = Script(hold=hold)
        body = upstream(jobId="mine")
        call = asyncio.create_task(client.post("/api/v1/jobs?wait=true", json=body, headers=service.auth()))
        await service.orchestrator.submitted.wait()
        call.cancel()
        await asyncio.wait((call,))
        hold.set()
        again = await client.post("/api/v1/jobs?wait=true", json=body, headers=service.auth())
        return again, service.orchestrator

    again, orchestrator = run(work, tmp_path)
    assert again.json()["state"] == "succeeded"
    assert (len(orchestrator.submissions), orchestrator.cancelled) == (1, [])


def test_stopping_cancels_what_runs_and_ends(tmp_path):
    async def work(service, client):
        service.orchestrator.script = Script(hold=asyncio.Event())
        await client.post("/api/v1/jobs", json=upstream(), headers=service.auth())
        await client.aclose()
        return service.orchestrator

    orchestrator = run(work, tmp_path)
    assert [message.reason for message in orchestrator.cancelled] == ["the API stops"]


def test_who_still_waits_when_it_stops_is_told_and_the_job_cancelled(tmp_path, monkeypatch):
    monkeypatch.setattr(main, "LEAVE_SECONDS", 0)

    async def work(service, client):
        service.orchestrator.script = Script(hold=asyncio.Event())
        call = asyncio.create_task(client.post("/api/v1/jobs?wait=true", json=upstream(), headers=service.auth()))
        await service.orchestrator.submitted.wait()
        service.stopped.set()
        return await call, service.orchestrator

    answer, orchestrator = run(work, tmp_path)
    assert (answer.status_code, answer.json()["code"]) == (503, "stopping")
    assert len(orchestrator.cancelled) == 1


def test_a_port_that_is_taken_is_told(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()

        async def work():
            service = Service(tmp_path)
            service.config = service.config.model_copy(update={"port": other.getsockname()[1]})
            await service.run()

        with pytest.raises(Conflict, match="cannot listen"):
            asyncio.run(work())


def test_a_connection_that_never_becomes_a_request_is_closed(tmp_path, monkeypatch):
    monkeypatch.setattr(main, "HEADER_SECONDS", 0.01)

    async def work(service, _):
        host, port = service.address.result().removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /healthz HTTP/1.1\r\nx-slow: ")
        found = await reader.read()
        writer.close()
        return found

    assert run(work, tmp_path) == b""


def test_headers_are_bounded(tmp_path):
    async def work(_, client):
        try:
            answer = await client.get("/healthz", headers={"x": "y" * 10 * main.HEADER_BYTES})
        except httpx.TransportError:
            return 400  # it answered and hung up before all of it was sent
        return answer.status_code

    assert run(work, tmp_path) == 400


def test_more_requests_than_it_takes_are_told_to_come_back(tmp_path, monkeypatch):
    monkeypatch.setattr("dynamos.middleware.api.app.SPARE_REQUESTS", 0)

    async def work():
        async with asyncio.timeout(WITHIN), api(tmp_path, concurrent_jobs=1, waiting_jobs=0) as rig:
            rig.orchestrator.script = Script(hold=asyncio.Event())
            first = asyncio.create_task(rig.client.post("/api/v1/jobs?wait=true", json=upstream(), headers=rig.auth()))
            await rig.orchestrator.submitted.wait()
            second = await rig.client.get("/healthz")
            rig.orchestrator.script.hold.set()
            return await first, second

    first, second = asyncio.run(work())
    assert first.status_code == 200
    assert (second.status_code, second.json()["code"], second.headers["retry-after"]) == (503, "busy", "1")


def test_metrics_count_by_route_and_need_a_token(tmp_path):
    async def work(service, client):
        await client.post("/api/v1/requestApproval", json=upstream(), headers=service.auth())
        await client.get("/no/such/path")
        return await client.get("/metrics"), await client.get("/metrics", headers=service.auth())

    refused, metrics = run(work, tmp_path)
    assert refused.status_code == 401
    assert 'dynamos_api_requests_total{method="POST",route="/api/v1/requestApproval",status="200"} 1.0' in metrics.text
    assert 'route="unknown",status="404"' in metrics.text
    assert 'dynamos_api_results_bytes{place="memory"}' in metrics.text
    assert "dynamos_api_spans_dropped 0.0" in metrics.text


def test_large_results_are_streamed_over_the_socket(tmp_path):
    import pyarrow as pa  # noqa: PLC0415

    table = pa.table({"n": pa.array(range(300_000), pa.int64())})

    async def work(service, client):
        service.orchestrator.script = Script(tables={"UVA": table})
        body = upstream(providers=("UVA",))
        headers = {**service.auth(), "accept": "application/vnd.apache.arrow.stream"}
        arrow = await client.post("/api/v1/jobs?wait=true", json=body, headers=headers)
        text = await client.post("/api/v1/requestApproval", json=body, headers=service.auth())
        return arrow, text

    arrow, text = run(work, tmp_path, result_memory="1MB")
    assert pa.ipc.open_stream(arrow.content).read_all().equals(table)
    assert arrow.headers["transfer-encoding"] == "chunked"
    rows = json.loads(text.json()["responses"][0])
    assert (len(rows), rows[-1]) == (300_001, ["299999"])
