"""A bus of three real servers, of which tests kill some."""

from __future__ import annotations

import asyncio
import json
import socket
import urllib.request
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from dynamos.kit.credentials import Credentials
from dynamos.kit.waits import until
from dynamos.knowledge.provisioning import provision
from dynamos.knowledge.servers import Server, config
from dynamos.knowledge.subjects import bucket_stream

BEGIN = 60.0
SERVERS = 3


class Hub:
    """Three servers as one bus. `url` names them all."""

    def __init__(self, servers: list[Server], monitors: list[int]) -> None:
        self.servers = servers
        self._monitors = monitors
        self.url = ",".join(server.url for server in servers)

    def leader(self, bucket: str) -> int:
        """Give the number of the server that leads a bucket; -1 where none says so."""
        wanted = f"b-{bucket_stream(bucket)}"
        for number in range(len(self.servers)):
            found = self._told(number).get(wanted)
            if found is not None:
                return int(found.removeprefix("bus-"))
        return -1

    def _told(self, number: int) -> dict[str, str]:
        where = f"http://127.0.0.1:{self._monitors[number]}/jsz?accounts=true&streams=true"
        try:
            with urllib.request.urlopen(where, timeout=2) as answer:
                told = json.load(answer)
        except OSError:
            return {}
        streams = [each for account in told.get("account_details", ()) for each in account.get("stream_detail", ())]
        led = {f"b-{each['name']}": each.get("cluster", {}).get("leader", "") for each in streams}
        return {name: leader for name, leader in led.items() if leader}


@asynccontextmanager
async def hub(
    folder: Path, *, marketplace: str, parties: tuple[str, ...], bus: Credentials, admin: Credentials
) -> AsyncIterator[Hub]:
    """Run three provisioned servers on loopback as long as the context lasts."""
    held = ExitStack()
    ports, routes, monitors = ([_hold(held) for _ in range(SERVERS)] for _ in range(3))
    servers = []
    for number in range(SERVERS):
        own, port = folder / f"bus-{number}", ports[number]
        text = config(
            marketplace=marketplace, parties=parties, credentials=bus, store=own / "store", port=port
        )  # fmt: skip
        told: dict[str, Any] = json.loads(text)
        tls = {"cert_file": str(bus.certificate), "key_file": str(bus.key), "ca_file": str(bus.authority)}
        told |= {"server_name": f"bus-{number}", "http": f"127.0.0.1:{monitors[number]}"}
        told["cluster"] = {
            "name": marketplace,
            "listen": f"127.0.0.1:{routes[number]}",
            "routes": [f"tls://127.0.0.1:{each}" for each in routes],
            "tls": {**tls, "verify": True, "timeout": 5},
        }
        servers.append(Server(own, f"tls://127.0.0.1:{port}", json.dumps(told)))
    made = Hub(servers, monitors)
    try:
        await asyncio.gather(*(server.start() for server in servers))
        await provision(made.url, admin, parties, within=BEGIN, replicas=SERVERS)

        async def led() -> bool:
            return await asyncio.to_thread(made.leader, "jobs") >= 0

        await until("a leader", led, within=BEGIN, every=0.1)
        yield made
    finally:
        await asyncio.gather(*(server.stop() for server in servers))
        held.close()


def _hold(held: ExitStack) -> int:
    """Give a free port and keep it from everybody who asks for any: a server that names it may still listen there."""
    holder = held.enter_context(socket.socket())
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    return int(holder.getsockname()[1])
