"""A party's end of the exchange, as its agent has it in a cluster: run in the network of a pod, it passes a table for
each of some jobs and prints how long each step took. Standard input says what it is."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa

from dynamos.exchange.receivers import Receiver
from dynamos.exchange.senders import Sender
from dynamos.kit.clocks import SystemClock
from dynamos.kit.credentials import Credentials
from dynamos.kit.errors import Cancelled, DynamosError
from dynamos.middleware.agent.exchanges import Exchange, LocalExchange
from dynamos.middleware.agent.inbox import Inbox
from dynamos.middleware.agent.opened import OpenedWays
from dynamos.middleware.agent.ways import OneWay, Ways
from dynamos.middleware.configs import PoliciesConfig
from dynamos.middleware.network.cluster import ClusterOpenings
from dynamos.middleware.network.messages import EXCHANGE_PORT
from dynamos.middleware.network.openings import Home
from dynamos.model.jobs import Grant

TABLE = pa.table({"n": list(range(20_000))})


async def main(spec: dict[str, Any]) -> None:
    """Do all jobs, one after the other, and tell of each."""
    folder = Path(spec["folder"])
    credentials = Credentials(*(folder / name for name in ("certificate.pem", "key.pem", "authority.pem")))
    inbox = Inbox(spec["party"], folder / "orchestrator.pem", SystemClock())
    receiver = Receiver(credentials, host=spec["address"], port=EXCHANGE_PORT, admit=inbox.admit)
    local = LocalExchange(Sender(credentials), receiver, inbox)
    ways = await _ways(spec, local)
    told: list[dict[str, Any]] = []
    try:
        for each in spec["jobs"]:
            grant = Grant.model_validate(each["grant"])
            try:
                told.append(await _pass(ways, grant, each["text"]))
            except DynamosError as error:
                told.append({"error": error.as_dict()})
    finally:
        await ways.close()
    json.dump(told, sys.stdout)


async def _ways(spec: dict[str, Any], local: LocalExchange) -> Ways:
    if not spec["policies"]:
        await local.start()
        return OneWay(local)
    config = PoliciesConfig(testbed=spec["testbed"], namespaces=spec["namespaces"])
    home = Home(spec["party"], config.testbed, config.namespaces, spec["pod"], spec["uid"])
    ways = OpenedWays(ClusterOpenings(home, kubeconfig=spec["kubeconfig"]), local, spec["party"], config)
    await ways.start()
    return ways


async def _pass(ways: Ways, grant: Grant, text: str) -> dict[str, Any]:
    began = time.monotonic()
    async with ways.of(grant, text) as exchange:
        opened = time.monotonic()
        rows = await (_send(exchange, grant, text) if grant.part.outgoing else _take(exchange, grant))
        passed = time.monotonic()
    return {"open_ms": (opened - began) * 1e3, "pass_ms": (passed - opened) * 1e3, "rows": rows}


async def _send(exchange: Exchange, grant: Grant, text: str) -> int:
    [edge] = grant.part.outgoing
    reading, writing = os.pipe()
    writes = asyncio.create_task(asyncio.to_thread(_write, writing))
    sent = await exchange.send(
        grant.addresses[edge.target_party],
        peer=edge.target_party,
        job=grant.job,
        edge=edge.name,
        grant=text,
        source_fd=reading,
        confirm=_confirmed,
    )
    await writes
    return sent.rows


async def _take(exchange: Exchange, grant: Grant) -> int:
    reading, writing = os.pipe()
    await exchange.expect(grant.job, {edge.name: writing for edge in grant.part.incoming}, lambda _: None)
    table = await asyncio.to_thread(_read, reading)
    await exchange.forget(grant.job, Cancelled("the part has ended"))
    return table.num_rows


async def _confirmed() -> None:
    """The step ended well."""


def _write(fd: int) -> None:
    with os.fdopen(fd, "wb") as file, pa.ipc.new_stream(file, TABLE.schema) as writer:
        writer.write_table(TABLE)


def _read(fd: int) -> pa.Table:
    with os.fdopen(fd, "rb") as file:
        return pa.ipc.open_stream(file).read_all()


if __name__ == "__main__":
    asyncio.run(main(json.load(sys.stdin)))
