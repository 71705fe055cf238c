"""Two hundred requests run and are waited for; an agreement is revoked: its own stop at once, all others are right."""

import asyncio
import re
import statistics
import tempfile
import time
from collections import Counter
from datetime import datetime
from pathlib import Path

import httpx
import pyarrow as pa
import pytest

from dynamos.deploy.provisioning import token_for
from support.systems import BOB, ROWS, USER, system

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("policy")]

JOBS, AFFECTED = 200, 150
BOUND = 120.0
LONGEST = 5.0
"""Seconds that a stop may take on whatever machine this is; the experiment `policy_change` claims one second."""


@pytest.fixture(scope="module")
def crowded():
    settings = {"concurrentJobs": JOBS + 8, "waitingJobs": JOBS}
    with tempfile.TemporaryDirectory(prefix="dynamos-crowd-") as folder, system(Path(folder), **settings) as it:
        north = it.agreement("north")
        it.agree("north", {**north, "relations": {**north["relations"], BOB: north["relations"][USER]}})
        yield it


class Crowd:
    """Everybody who waits for an answer, each over its own connection, and the bytes that each got."""

    def __init__(self, it):
        self.it = it
        limits = httpx.Limits(max_connections=JOBS + 8)
        self.client = httpx.AsyncClient(base_url=it.status.api, limits=limits, timeout=BOUND, trust_env=False)
        self.tokens = {user: {"authorization": f"Bearer {token_for(it.state, user)}"} for user in (USER, BOB)}

    async def ask(self, number):
        """Wait for one request: the affected ones are USER's at north, half through the third party, and have given
        their rows but not ended; the others are BOB's at north, and USER's at south."""
        affected = number < AFFECTED
        user = USER if affected or number % 2 else BOB
        body = self.it.ask(
            "lingers" if affected else "later",
            providers=("north",) if affected or user == BOB else ("south",),
            archetype="dataThroughTtp" if number % 4 < 2 else "computeToData",
            jobId=f"crowd-{number}",
            deadline="100s",
        )
        headers = {**self.tokens[user], "accept": "application/vnd.apache.arrow.stream"}
        answer = await self.client.post("/api/v1/jobs?wait=true", json=body, headers=headers)
        return number, time.time(), answer

    async def record(self, number):
        user = USER if number < AFFECTED or number % 2 else BOB
        return (await self.client.get(f"/api/v1/jobs/crowd-{number}", headers=self.tokens[user])).json()

    async def held(self):
        """Give the bytes of results that the API has."""
        text = (await self.client.get("/metrics", headers=self.tokens[USER])).text
        return sum(float(n) for n in re.findall(r"^dynamos_api_results_bytes\{.*\} (\S+)$", text, re.MULTILINE))

    async def until_all_run(self):
        end = time.monotonic() + BOUND
        while time.monotonic() < end:
            states = Counter()
            for user in (USER, BOB):
                answer = await self.client.get("/api/v1/jobs?limit=1000", headers=self.tokens[user])
                states.update(job["state"] for job in answer.json()["jobs"])
            if states["running"] == JOBS and await self.held() > AFFECTED * 1000:
                return
            await asyncio.sleep(0.2)
        raise AssertionError(f"the jobs do not all run and give rows: {states}")


def stopped(record):
    """Give when each service that ran was stopped at its party, by the party's own report."""
    for part in record["parts"].values():
        for usage in part["usages"]:
            if usage["exit"] < 0:
                yield datetime.fromisoformat(usage["started"]).timestamp() + usage["wallMs"] / 1e3


def told(name, seconds):
    seconds = sorted(seconds)
    at = statistics.quantiles(seconds, n=100)
    p50, p99, most = (f"{value * 1e3:.0f} ms" for value in (at[49], at[98], seconds[-1]))
    return f"p50 {p50}, p99 {p99}, most {most} of {len(seconds)} {name}"


def test_what_an_agreement_forbids_stops_at_once_and_all_others_are_right(crowded, figure):
    async def play():
        crowd = Crowd(crowded)
        asking = [asyncio.create_task(crowd.ask(number)) for number in range(JOBS)]
        await crowd.until_all_run()
        north = crowded.agreement("north")
        without = {**north, "relations": {BOB: north["relations"][BOB]}}
        began = time.time()
        await asyncio.to_thread(crowded.agree, "north", without)
        changed = time.time() - began
        affected = [await answer for answer in asking[:AFFECTED]]
        held = await crowd.held()
        others = [await answer for answer in asking[AFFECTED:]]
        records = [await crowd.record(number) for number in range(JOBS)]
        await crowd.client.aclose()
        return began, changed, affected, held, others, records

    began, changed, affected, held, others, records = asyncio.run(play())

    kills = [moment - began for record in records[:AFFECTED] for moment in stopped(record)]
    heard = [moment - began for _, moment, _ in affected]
    figure("200 jobs, the change is in force", f"{changed * 1e3:.0f} ms")
    figure("200 jobs, services stopped", told("services", kills))
    figure("200 jobs, requestors told", told("requestors", heard))

    assert {answer.status_code for _, _, answer in affected} == {403}
    assert {answer.json()["code"] for _, _, answer in affected} == {"revoked"}
    assert all(answer.json()["reasons"][0]["code"] == "no-relation" for _, _, answer in affected)
    assert {record["state"] for record in records[:AFFECTED]} == {"cancelled"}
    assert not any(result["status"] == "complete" for record in records[:AFFECTED] for result in record["results"])
    assert len(kills) >= AFFECTED
    assert max(kills) < LONGEST
    assert held == 0  # of the affected nothing is left, and the others have given nothing yet
    for number, _, answer in others:
        assert answer.status_code == 200, answer.text
        provider = "north" if records[number]["user"] == BOB else "south"
        assert pa.ipc.open_stream(answer.content).read_all().num_rows == ROWS[provider]
    assert {record["state"] for record in records[AFFECTED:]} == {"succeeded"}
    assert not any(record.get("replaces") for record in records)
