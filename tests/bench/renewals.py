"""What a renewal of a presence costs the orchestrator, by how many parties are there: `python -m tests.bench.renewals`.

Renewals of three parties come over a real server of the bus, from another process; the others are only known of. The
processor time is that of a process which does with each what an orchestrator does: its view, its overview and its loop.
This is what `costs.MEASURED.heard` of the simulator says.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dynamos.adaptation.loops import Loop
from dynamos.knowledge.layouts import PRESENCE
from dynamos.knowledge.memory import MemoryCluster
from dynamos.knowledge.permissions import ORCHESTRATOR
from dynamos.knowledge.presence import Presences
from dynamos.knowledge.stores import Entry
from dynamos.middleware import instances
from dynamos.middleware.messages import Load, Presence
from dynamos.middleware.orchestrator.overviews import Overview
from dynamos.middleware.views import background
from support.buses import PARTIES, marketplace

MANY = (10, 100, 1_000, 3_000, 10_000)
BATCH, BATCHES, IDLE_SECONDS = 600, 12, 3.0


def main() -> None:
    found = []
    for parties in MANY:
        each, idle = measured(parties)
        found.append((parties, each + idle / parties))
        print(f"{parties:>6} parties: {each * 1e6:6.1f} us a renewal, {idle * 1e3:6.2f} ms a second without any")
    slope, base = statistics.linear_regression(*zip(*found, strict=True))
    print(f"a line through these: {base * 1e6:.1f} us, and {slope * 1e9:.2f} ns more for each party")


def measured(parties: int) -> tuple[float, float]:
    """Give the processor seconds of a renewal in the best of some batches, and those of one second in which none comes.

    The best: beside other work on the same cores everything takes longer, up to twice as long.
    """
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("fork")
    other = context.Process(target=lambda: asyncio.run(_renew(theirs)), daemon=True)
    other.start()
    try:
        return asyncio.run(_hear(parties, ours))
    finally:
        ours.send(0)
        other.join(20)


def presence(party: str, number: int) -> Presence:
    """Give what a party says whose load is never twice the same."""
    load = Load(parts=number % 3, capacity=8, cpu=number % 100 / 100, memory=2**20 * (number % 50), memory_share=0.5)
    return Presence(party=party, instance="a", address="here:1", active_since="now", config_updated="now", load=load)


async def _renew(orders: Connection) -> None:
    """Run the bus, and renew as often as is ordered."""
    with tempfile.TemporaryDirectory() as folder:
        async with marketplace("jetstream", Path(folder)) as market:
            stores = [(party, (await market.connect(party)).store(PRESENCE)) for party in PARTIES]
            watching = market.credentials(ORCHESTRATOR)
            orders.send((market.server.url, watching))
            number = 0
            while count := await asyncio.to_thread(orders.recv):
                for _ in range(count // len(stores)):
                    number += 1
                    await asyncio.gather(*(
                        store.put(instances.key_of(party, "a"), presence(party, number).as_json())
                        for party, store in stores
                    ))  # fmt: skip
                orders.send(number)


async def _hear(parties: int, orders: Connection) -> tuple[float, float]:
    from dynamos.knowledge.jetstream import connect  # noqa: PLC0415  after the fork

    names = (*PARTIES, *(f"party{number}" for number in range(parties - len(PARTIES))))
    heard = 0

    def count(*_: object) -> None:
        nonlocal heard
        heard += 1

    async with AsyncExitStack() as stack:
        url, credentials = await asyncio.to_thread(orders.recv)
        bus = await connect(url, credentials, ORCHESTRATOR)
        stack.push_async_callback(bus.close)
        presences = await stack.enter_async_context(Presences(bus.store(PRESENCE), Presence, age=3_600))
        kb = MemoryCluster(names).connect(ORCHESTRATOR)
        overview = Overview(kb, names, presences)
        await stack.enter_async_context(background(*overview.works))
        loop = await Loop.begin(kb, overview, "cost-model", {})
        stack.push_async_callback(loop.close)
        for name in names[len(PARTIES) :]:
            presences._take(Entry(instances.key_of(name, "a"), presence(name, 0).as_json(), 1))
        presences.on_heard(count)
        await asyncio.sleep(0.5)
        took = []
        for _ in range(BATCHES):
            before, wanted = time.process_time(), heard + BATCH
            orders.send(BATCH)
            while heard < wanted:  # noqa: ASYNC110  what looks often is what costs
                await asyncio.sleep(0.05)
            took.append((time.process_time() - before) / BATCH)
            await asyncio.to_thread(orders.recv)
        before = time.process_time()
        for _ in range(round(10 * IDLE_SECONDS / 3)):  # as often as ages are looked at
            presences.sweep()
            await asyncio.sleep(0.1)
        return min(took), (time.process_time() - before) / IDLE_SECONDS


if __name__ == "__main__":
    main()
