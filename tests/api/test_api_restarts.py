"""The API, its orchestrator and its door are restarted: requests wait, and what was promised is there."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys

import httpx
import pyarrow as pa
import pytest

from dynamos.kit import doors
from dynamos.kit.errors import Conflict, Unavailable
from dynamos.middleware.api import handovers
from dynamos.middleware.api.orchestrators import Orchestrator
from support.apis import ANN, BOB, Service, api, results_of, upstream
from support.orchestrators import FakeOrchestrator, Script

WITHIN = 20.0


def test_a_request_waits_for_an_orchestrator_that_is_restarted(tmp_path):
    async def work():
        async with api(tmp_path) as rig:
            rig.desk.submissions._orchestrator = Orchestrator(rig.desk.kb.bus, patience=WITHIN)
            await rig.orchestrator.kb.close()
            asked = asyncio.create_task(rig.client.post("/api/v1/requestApproval", json=upstream(), headers=rig.auth()))
            await asyncio.wait((asked,), timeout=0.3)
            assert not asked.done()
            following = FakeOrchestrator(rig.cluster.connect("orchestrator"), rig.desk.results.admit)
            await following.listen()
            answer = await asked
            await following.close()
            return answer

    assert asyncio.run(work()).status_code == 200


def test_a_request_whose_answer_was_lost_is_the_job_that_there_is(tmp_path):
    async def work():
        async with api(tmp_path) as rig:
            asks = Orchestrator(_Losing(rig.desk.kb.bus), patience=WITHIN)
            rig.desk.submissions._orchestrator = asks
            answer = await rig.client.post("/api/v1/requestApproval", json=upstream(), headers=rig.auth())
            return answer, rig.orchestrator.submissions

    answer, submissions = asyncio.run(work())
    assert answer.status_code == 200
    assert len(submissions) == 2
    assert submissions[0].job == submissions[1].job


class _Losing:
    """A bus that loses the first answer to a submission."""

    def __init__(self, bus):
        self.bus = bus
        self.lost = False

    async def request(self, subject, message, *, within):
        answer = await self.bus.request(subject, message, within=within)
        if subject.endswith(".submit") and not self.lost:
            self.lost = True
            from dynamos.knowledge.buses import Unheard  # noqa: PLC0415

            raise Unheard("the connection to the bus was lost")
        return answer


def test_results_are_handed_over_to_the_next_life_once(tmp_path):
    async def work():
        async with api(tmp_path) as rig:
            rig.orchestrator.script = Script(tables={"UVA": pa.table({"n": [1, 2, 3]})})
            body = upstream(jobId="kept")
            await rig.client.post("/api/v1/jobs?wait=true", json=body, headers=rig.auth())
            assert handovers.save(rig.desk.results, rig.desk.config.folder) == 1
            rig.desk.results.close()
            assert handovers.load(rig.desk.results, rig.desk.config.folder) == 1
            path = "/api/v1/jobs/kept/result?format=json&name=result-UVA"
            mine = await rig.client.get(path, headers=rig.auth(ANN))
            others = await rig.client.get(path, headers=rig.auth(BOB))
            again = handovers.load(results_of(rig.desk.config, rig.desk.results._clock), rig.desk.config.folder)
            return mine, others, again, rig.desk.results.store.on_disk

    mine, others, again, held = asyncio.run(work())
    assert mine.status_code == 200
    assert [row["n"] for row in _rows(mine)] == [1, 2, 3]
    assert others.status_code == 404
    assert again == 0
    assert held > 0


def _rows(answer):
    body = answer.json()
    return body if isinstance(body, list) else body["rows"]


def test_what_is_broken_of_a_handover_is_left_out(tmp_path):
    async def work():
        async with api(tmp_path) as rig:
            await rig.client.post("/api/v1/jobs?wait=true", json=upstream(jobId="kept"), headers=rig.auth())
            folder = rig.desk.config.folder
            handovers.save(rig.desk.results, folder)
            rig.desk.results.close()
            for path in (folder / handovers.FOLDER).glob("*.arrows"):
                path.write_bytes(b"not arrow")
            handovers.load(rig.desk.results, folder)
            return rig.desk.results.find("kept"), rig.desk.results.store.on_disk

    assert asyncio.run(work()) == (None, 0)


def test_a_request_that_is_on_its_way_when_the_api_leaves_is_answered(tmp_path):
    async def work():
        service = Service(tmp_path)
        task = asyncio.create_task(service.run())
        address = httpx.URL(await service.address)
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(b"GET /healthz HTTP/1.1\r\n")
        await writer.drain()
        async with httpx.AsyncClient(base_url=str(address)) as client:
            await client.get("/healthz")  # connections are taken in their order: ours is known by now
        service.stopped.set()
        await asyncio.sleep(0)
        writer.write(b"Host: api\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), WITHIN)
        writer.close()
        await asyncio.wait_for(task, WITHIN)
        return answer

    assert asyncio.run(work()).startswith(b"HTTP/1.1 200")


@pytest.fixture
def door(tmp_path):
    """A door that another process keeps: its name and its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = tmp_path / "config.json"
    name = f"door-{os.getpid()}-{port}"
    config.write_text(json.dumps({"name": name, "host": "127.0.0.1", "port": port}))
    argv = [sys.executable, "-m", "dynamos.kit.doors", str(config)]
    keeper = subprocess.Popen(argv, stderr=subprocess.PIPE)
    assert json.loads(keeper.stderr.readline()) == {"address": f"127.0.0.1:{port}"}
    yield name, port
    keeper.terminate()
    keeper.wait(WITHIN)
    keeper.stderr.close()


def test_a_connection_waits_at_the_door_until_somebody_answers(door):
    name, port = door
    first = doors.handed(name)
    first.close()  # the one who answered has left
    with socket.create_connection(("127.0.0.1", port), timeout=WITHIN) as caller:
        caller.sendall(b"hello")
        with doors.handed(name) as following:
            following.settimeout(WITHIN)
            taken, _ = following.accept()
            with taken:
                assert taken.recv(5) == b"hello"


def test_a_door_hands_nothing_to_another_user(door):
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")
    name, _ = door
    code = f"import os\nfrom dynamos.kit import doors\nos.setuid(65534)\ndoors.handed({name!r}, within=0.2)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "another user's" in done.stderr


def test_there_is_no_door_and_no_second_one(door):
    with pytest.raises(Unavailable, match="there is no door"):
        doors.handed("no-such-door", within=0.1)
    with pytest.raises(Conflict):
        doors.listening("127.0.0.1", door[1])


def test_an_api_answers_at_its_door_and_leaves_its_results_to_the_next(tmp_path, door):
    async def life(service, work):
        service.config = service.config.model_copy(update={"door": door[0], "drain": 5.0})
        task = asyncio.create_task(service.run())
        async with httpx.AsyncClient(base_url=await service.address, timeout=WITHIN) as client:
            answer = await work(client)
        service.stopped.set()
        await asyncio.wait_for(task, WITHIN)
        return answer

    async def work():
        service = Service(tmp_path)
        auth = service.auth()
        ask = upstream(providers=("UVA",), jobId="kept")
        first = await life(service, lambda client: client.post("/api/v1/jobs?wait=true", json=ask, headers=auth))
        following = Service.__new__(Service)
        following.__dict__.update(service.__dict__)
        following.address, following.stopped = asyncio.get_running_loop().create_future(), asyncio.Event()
        following.orchestrator = FakeOrchestrator(service.cluster.connect("orchestrator"), service._deliver)
        path = "/api/v1/jobs/kept/result?format=json"
        return first, await life(following, lambda client: client.get(path, headers=auth))

    first, second = asyncio.run(work())
    assert first.json()["state"] == "succeeded"
    assert second.status_code == 200
