"""The orchestrator tells a party's admins, and nobody else, what another agreement would do."""

from __future__ import annotations

import asyncio

import pytest

from dynamos.kit.errors import BadInput, Mistakes, NotFound, Refused
from dynamos.middleware.identity.requestors import Requestors
from dynamos.middleware.messages import Rehearse
from support.agents import CLOCK, Orchestra, orchestra
from support.marketplaces import request

NOBODY = {"name": "UVA"}


def run(folder, play, **settings):
    async def main():
        async with orchestra(folder, **settings) as it:
            await play(it)

    asyncio.run(main())


async def rehearsed(it, value=NOBODY, past=0, party="UVA"):
    return await it.orchestrator.rehearser().rehearse(Rehearse(party=party, value=value, past=past))


def test_running_jobs_and_past_requests_are_told_and_go_on(tmp_path):
    async def play(it: Orchestra):
        await it.submit(request(("UVA",)), job="one")
        await it.submit(request(("VU",)), job="two")
        with pytest.raises(Refused):
            await it.submit(request(("RUG",)), job="three")
        told = await rehearsed(it, past=100)
        assert [(each.job, each.effect) for each in told.running] == [("one", "stopped")]
        assert [(each.job, each.effect) for each in told.past] == [("one", "stopped")]
        own = it.scene.agreements["UVA"].model_copy(update={"name": "RUG"}).as_json()
        told = await rehearsed(it, own, past=100, party="RUG")
        assert [(each.job, each.effect) for each in told.past] == [("three", "allowed")]
        assert not it.agents["UVA"].ended
        it.release()
        await it.end_of("two")

    run(tmp_path, play)


def test_no_query_is_told(tmp_path):
    async def play(it: Orchestra):
        await it.submit(request(("UVA",)))
        told = await rehearsed(it, past=10)
        assert "SELECT" not in told.model_dump_json()
        it.release()

    run(tmp_path, play)


def test_decisions_of_which_only_a_digest_was_kept_are_counted(tmp_path):
    async def play(it: Orchestra):
        await it.submit(request(("UVA",)))
        log = it.cluster.connect("orchestrator").log("audit")
        (record,) = await log.read()
        await log.append("orchestrator.old", {name: value for name, value in record.items() if name != "asked"})
        told = await rehearsed(it, past=10)
        assert (len(told.past), told.untold) == (1, 1)
        it.release()

    run(tmp_path, play)


def test_what_cannot_be_rehearsed_is_refused(tmp_path):
    async def play(it: Orchestra):
        with pytest.raises(NotFound):
            await rehearsed(it, party="UVB")
        with pytest.raises(BadInput):
            await rehearsed(it, {"name": "VU"})
        with pytest.raises(Mistakes):
            await rehearsed(it, {"name": "UVA", "relations": 7})
        it.orchestrator._requestors = Requestors(tmp_path / "none.pem", open=False, clock=CLOCK)
        with pytest.raises(Refused, match="only an admin of UVA"):
            await rehearsed(it)

    run(tmp_path, play)
