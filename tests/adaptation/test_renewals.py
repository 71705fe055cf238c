"""What the orchestrator does with each heartbeat is about one party."""

from __future__ import annotations

import asyncio

import pytest

from dynamos.kit.waits import until
from dynamos.knowledge.bases import PRESENCE
from dynamos.knowledge.memory import MemoryCluster
from dynamos.middleware.instances import key_of
from dynamos.middleware.messages import Presence
from support.adaptation import overview, presence
from support.agents import BOUND


@pytest.mark.parametrize("there", [1, 50])
def test_what_a_renewal_costs_does_not_grow_with_the_number_of_parties(there, monkeypatch):
    others = tuple(f"party{number}" for number in range(there))

    async def main():
        cluster = MemoryCluster((*others, "UVA"))
        async with overview(cluster, (*others, "UVA")) as view:
            for party in others:
                await cluster.connect(party).store(PRESENCE).put(key_of(party, "a"), presence(party).as_json())
            heard, copied = asyncio.Queue(), []
            view.on_heard(lambda party, said: heard.put_nowait((party, said)))

            async def all_there():
                return len(view.online()) == there

            await until("they are there", all_there, within=BOUND, every=0)
            real = Presence.model_copy
            monkeypatch.setattr(Presence, "model_copy", lambda *a, **k: copied.append(1) or real(*a, **k))
            await cluster.connect("UVA").store(PRESENCE).put(key_of("UVA", "a"), presence("UVA").as_json())
            while (await heard.get())[0] != "UVA":
                pass
            return len(copied)

    assert asyncio.run(main()) <= 2
