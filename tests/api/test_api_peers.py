"""Two APIs of one marketplace: whichever is asked, a job and its results are found."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from contextlib import asynccontextmanager

import httpx
import pyarrow as pa
import pytest

from dynamos.kit.waits import until
from dynamos.knowledge.bases import PRESENCE
from dynamos.knowledge.memory import MemoryCluster
from dynamos.middleware.api import main
from dynamos.middleware.api.peers import FORWARDED
from dynamos.middleware.identity.authority import Authority
from support.apis import ANN, BOB, MARKETPLACE, PARTIES, config, upstream
from support.orchestrators import FakeOrchestrator, Script

BOUND = 60.0
TABLE = pa.table({"n": pa.array(range(50_000), pa.int64())})


class Pair:
    """Two APIs with their real HTTP servers, and one scripted orchestrator."""

    def __init__(self, folder):
        self.cluster = MemoryCluster(PARTIES)
        made, self.issuer = config(folder)
        self.admits = {}
        self.orchestrator = FakeOrchestrator(self.cluster.connect("orchestrator"), self._deliver)
        self.configs = []
        for number in range(2):
            own = folder / f"api-{number}"
            shutil.copytree(made.folder, own)
            self.configs.append(made.model_copy(update={"folder": own}))
        self.stops = [asyncio.Event() for _ in self.configs]
        self.tasks = []
        self.clients = []

    def _deliver(self, job, edge, party):
        (gateway,) = {each.gateway for each in self.orchestrator.submissions if each.job == job}
        return self.admits[gateway](job, edge, party)

    async def start(self, number):
        address = asyncio.get_running_loop().create_future()

        @asynccontextmanager
        async def listen(gateway):
            self.admits[f"grpc+tls://127.0.0.1:{number + 1}"] = gateway._results.admit
            yield f"grpc+tls://127.0.0.1:{number + 1}"

        async def connect(_):
            return self.cluster.connect("api")

        work = main.run(
            self.configs[number], ready=address.set_result, stopped=self.stops[number], connect=connect, listen=listen
        )
        self.tasks.append(asyncio.create_task(work))
        await asyncio.wait((self.tasks[-1], address), return_when=asyncio.FIRST_COMPLETED)
        self.clients.append(httpx.AsyncClient(base_url=await address, headers=self.auth(), timeout=BOUND))

    def auth(self, user=ANN):
        return {"authorization": f"Bearer {self.issuer.token(user, ttl=600, audience=MARKETPLACE)}"}

    async def peers(self):
        return [entry.value for entry in await self.cluster.connect("orchestrator").store(PRESENCE).entries("api")]


def run(folder, play):
    async def go():
        it = Pair(folder)
        await it.orchestrator.listen()
        try:
            await it.start(0)
            await it.start(1)

            async def both():
                return len(await it.peers()) == 2

            await until("both APIs", both, within=BOUND)
            async with asyncio.timeout(BOUND):
                return await play(it)
        finally:
            for stop in it.stops:
                stop.set()
            await asyncio.gather(*it.tasks)
            for client in it.clients:
                await client.aclose()
            await it.orchestrator.close()

    return asyncio.run(go())


def ask(**more):
    return upstream(providers=("VU",), **more)


def test_a_job_that_one_api_took_is_shown_by_the_other_with_its_result(tmp_path):
    async def play(it):
        it.orchestrator.script = Script(tables={"VU": TABLE})
        one, other = it.clients
        done = (await one.post("/api/v1/jobs?wait=true", json=ask())).json()
        here, there = [(await client.get(f"/api/v1/jobs/{done['id']}")).json() for client in (one, other)]
        assert here == there
        assert here["results"][0]["rows"] == TABLE.num_rows
        answer = await other.get(f"/api/v1/jobs/{done['id']}/result", params={"format": "arrow"})
        assert pa.ipc.open_stream(answer.content).read_all().equals(TABLE)
        stranger = await other.get(f"/api/v1/jobs/{done['id']}/result", headers=it.auth(BOB))
        assert stranger.status_code == 404
        listed = (await other.get("/api/v1/jobs")).json()["jobs"]
        assert [job["id"] for job in listed] == [done["id"]]

    run(tmp_path, play)


def test_a_job_under_way_is_followed_waited_for_and_stopped_at_the_other(tmp_path):
    async def play(it):
        hold = asyncio.Event()
        it.orchestrator.script = Script(tables={"VU": TABLE}, hold=hold)
        one, other = it.clients
        job = (await one.post("/api/v1/jobs", json=ask())).json()["id"]
        waiting = asyncio.create_task(other.get(f"/api/v1/jobs/{job}/result?wait=true&format=csv"))
        following = asyncio.create_task(other.get(f"/api/v1/jobs/{job}/events"))
        await asyncio.sleep(0)
        hold.set()
        assert (await waiting).text.count("\n") == TABLE.num_rows + 1
        assert "event: succeeded" in (await following).text
        it.orchestrator.script = Script(hold=asyncio.Event())
        job = (await one.post("/api/v1/jobs", json=ask())).json()["id"]
        assert (await other.delete(f"/api/v1/jobs/{job}")).json()["state"] == "cancelled"

    run(tmp_path, play)


def test_the_same_key_at_the_other_api_gives_the_same_job_and_its_result(tmp_path):
    async def play(it):
        it.orchestrator.script = Script(tables={"VU": TABLE})
        answers = [
            await client.post("/api/v1/jobs?wait=true", json=ask(), headers={"idempotency-key": "k"})
            for client in it.clients
        ]
        one, other = [answer.json() for answer in answers]
        assert one["id"] == other["id"]
        assert other["results"][0]["rows"] == TABLE.num_rows
        assert len(it.orchestrator.jobs) == 1

    run(tmp_path, play)


def test_results_of_an_api_that_is_gone_are_gone_and_said_so(tmp_path):
    async def play(it):
        it.orchestrator.script = Script(tables={"VU": TABLE})
        one, other = it.clients
        job = (await one.post("/api/v1/jobs?wait=true", json=ask())).json()["id"]
        it.stops[0].set()
        await it.tasks[0]

        async def alone():
            return len(await it.peers()) == 1

        await until("one API", alone, within=BOUND)
        answer = await other.get(f"/api/v1/jobs/{job}/result")
        assert answer.status_code == 404
        assert answer.json()["code"] == "result-gone"
        assert (await other.get(f"/api/v1/jobs/{job}")).json()["state"] == "succeeded"

    run(tmp_path, play)


def test_what_was_passed_on_is_not_passed_on_again(tmp_path):
    async def play(it):
        it.orchestrator.script = Script(tables={"VU": TABLE})
        one, other = it.clients
        job = (await one.post("/api/v1/jobs?wait=true", json=ask())).json()["id"]
        answer = await other.get(f"/api/v1/jobs/{job}/result", headers={FORWARDED: "me"})
        assert answer.status_code == 404

    run(tmp_path, play)


@pytest.mark.parametrize("who", ["a party", "nobody"])
def test_the_door_for_peers_is_for_nobody_else(tmp_path, who):
    async def play(it):
        authority = Authority.load(tmp_path / "certificates" / "authority")
        party = authority.issue("UVA", tmp_path / "certificates" / "units" / "UVA")
        context = party.client_context()
        if who == "nobody":
            context = ssl.create_default_context(cafile=str(party.authority))
        where = (await it.peers())[0]["address"]
        async with httpx.AsyncClient(verify=context) as client:
            with pytest.raises(httpx.TransportError):
                await client.get(f"{where}/healthz", extensions={"sni_hostname": "api"})
        api = it.configs[0].credentials.client_context()
        async with httpx.AsyncClient(verify=api) as client:
            assert (await client.get(f"{where}/healthz", extensions={"sni_hostname": "api"})).status_code == 200

    run(tmp_path, play)
