"""The HTTP API in one process with a scripted orchestrator, spoken to without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from dynamos.kit.clocks import Clock
from dynamos.knowledge.memory import MemoryCluster
from dynamos.middleware.api import main
from dynamos.middleware.api.app import application
from dynamos.middleware.api.desks import Desk, open_desk, results_of
from dynamos.middleware.api.gateway import Gateway
from dynamos.middleware.api.results import Results
from dynamos.middleware.configs import ApiConfig
from dynamos.middleware.identity.tokens import DevelopmentIssuer
from dynamos.model.profiles import Settings
from support.identities import issue_all
from support.orchestrators import FakeOrchestrator

PARTIES = ("UVA", "VU", "RUG", "SURF")
MARKETPLACE = "wage-gap"
ANN, BOB = "ann@uva.nl", "bob@vu.nl"


@dataclass
class Rig:
    """Everything of one API under test."""

    client: httpx.AsyncClient
    app: Any
    desk: Desk
    orchestrator: FakeOrchestrator
    cluster: MemoryCluster
    issuer: DevelopmentIssuer

    def auth(self, user: str = ANN, *, ttl: float = 600, admin_of: tuple[str, ...] = ()) -> dict[str, str]:
        """Give the header with a token of `user`."""
        token = self.issuer.token(user, ttl=ttl, audience=MARKETPLACE, admin_of=admin_of)
        return {"authorization": f"Bearer {token}"}


def config(folder: Path, **settings: Any) -> tuple[ApiConfig, DevelopmentIssuer]:
    """Give a configuration and the issuer whose tokens it accepts."""
    issuer = DevelopmentIssuer.create(folder / "issuer")
    issue_all(folder / "certificates", "api", marketplace=MARKETPLACE)
    made = ApiConfig(
        name="api",
        marketplace=MARKETPLACE,
        folder=folder / "certificates" / "units" / "api",
        bus="memory",
        jwks=issuer.jwks,
        settings=Settings(**settings),
        parties=PARTIES,
        orchestrator=folder / "orchestrator.pem",
        patience=0.2,
    )
    return made, issuer


@asynccontextmanager
async def api(
    folder: Path,
    *,
    clock: Clock | None = None,
    results: Callable[[ApiConfig], Results] | None = None,
    **settings: Any,
) -> AsyncIterator[Rig]:
    """Run an API with these settings and a scripted orchestrator."""
    made, issuer = config(folder, **settings)
    cluster = MemoryCluster(PARTIES)
    kb = cluster.connect("api")

    @asynccontextmanager
    async def listen(_: Gateway) -> AsyncIterator[str]:
        yield "grpc+tls://127.0.0.1:1"

    kept = results(made) if results else None
    async with open_desk(made, kb, listen=listen, clock=clock, results=kept) as desk:
        orchestrator = FakeOrchestrator(cluster.connect("orchestrator"), desk.results.admit)
        await orchestrator.listen()
        app = application(desk)
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=True)
        try:
            async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
                yield Rig(client, app, desk, orchestrator, cluster, issuer)
        finally:
            await orchestrator.close()
    await kb.close()


class Service:
    """A running API with its real HTTP server and a scripted orchestrator."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.config, self.issuer = config(folder, **settings)
        self.cluster = MemoryCluster(PARTIES)
        self.address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.stopped = asyncio.Event()
        self.admit: Any = None
        self.orchestrator = FakeOrchestrator(self.cluster.connect("orchestrator"), self._deliver)

    def _deliver(self, job: str, edge: str, party: str) -> Any:
        return self.admit(job, edge, party)

    @asynccontextmanager
    async def _listen(self, gateway: Gateway) -> AsyncIterator[str]:
        self.admit = gateway._results.admit
        yield "grpc+tls://127.0.0.1:1"

    async def _connect(self, _: ApiConfig) -> Any:
        return self.cluster.connect("api")

    async def run(self) -> None:
        """Serve until `stopped` is set."""
        await self.orchestrator.listen()
        try:
            await main.run(
                self.config,
                ready=self.address.set_result,
                stopped=self.stopped,
                connect=self._connect,
                listen=self._listen,
            )
        finally:
            await self.orchestrator.close()

    def auth(self, user: str = ANN) -> dict[str, str]:
        """Give the header with a token of `user`."""
        return {"authorization": f"Bearer {self.issuer.token(user, ttl=600, audience=MARKETPLACE)}"}


def upstream(user: str = ANN, providers: tuple[str, ...] = ("VU", "UVA"), **more: Any) -> dict[str, Any]:
    """Give a request as upstream's scripts send it."""
    return {
        "type": "sqlDataRequest",
        "user": {"id": "12324", "userName": user},
        "dataProviders": list(providers),
        "data_request": {
            "type": "sqlDataRequest",
            "query": "SELECT * FROM Personen p JOIN Aanstellingen s LIMIT 1000",
            "algorithm": "average",
            "options": {"graph": False, "aggregate": False},
            "requestMetadata": {},
        },
        **more,
    }


__all__ = ["ANN", "BOB", "MARKETPLACE", "PARTIES", "Rig", "Service", "api", "config", "results_of", "upstream"]
