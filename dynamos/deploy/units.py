"""What runs where: the only place that knows which program runs on which node, with which files and in which order.

Pure. What it gives is rendered as supervised processes (`dynamos up`), and can be rendered for other ways to deploy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dynamos.knowledge.permissions import API, BUS, ORCHESTRATOR, checked
from dynamos.middleware.configs import AgentConfig, ApiConfig, OrchestratorConfig, UnitConfig
from dynamos.model.agreements import Agreement
from dynamos.model.marketplaces import Marketplace
from dynamos.model.profiles import Profile

Role = Literal["bus", "orchestrator", "api", "agent"]

LOCALHOST = "localhost"
"""The one node of the driver `processes`."""

CERTIFICATE, KEY, AUTHORITY = "certificate.pem", "key.pem", "authority.pem"
JWKS = "jwks.json"
SIGNER = "orchestrator.pem"
"""The certificate whose key signs grants, at those who check them."""
EDGE = "api.pem"
"""The certificate whose key signs vouchers, at those who check them."""

_CREDENTIALS = (CERTIFICATE, KEY, AUTHORITY)


@dataclass(frozen=True, slots=True)
class Unit:
    """One program on one node: what it is, what it comes after, its configuration, and the files that it is given.

    The bus has no configuration of ours; its server's own file is made from the names of the units that talk to it.
    """

    name: str
    role: Role
    after: tuple[str, ...] = ()
    config: UnitConfig | None = None
    files: tuple[str, ...] = _CREDENTIALS


@dataclass(frozen=True, slots=True)
class Places:
    """Where things are on a node: the folder that holds each unit's own folder, each party's data, and the bus.

    A party without data gets a folder of its own that is not there.
    """

    units: Path
    data: Mapping[str, Path]
    bus: str
    api_port: int = 0


def units(profile: Profile, marketplace: Marketplace, places: Places) -> dict[str, list[Unit]]:
    """Give the units of a testbed by node, in the order of their start.

    Raises BadInput where a party has the name of another unit.
    """
    checked(marketplace.parties)
    shared = {"marketplace": marketplace.name, "bus": places.bus, "settings": profile.settings}
    parties = tuple(marketplace.parties)
    orchestrator = OrchestratorConfig(
        name=ORCHESTRATOR,
        folder=places.units / ORCHESTRATOR,
        api=places.units / ORCHESTRATOR / EDGE,
        parties=parties,
        archetypes=marketplace.archetypes,
        request_types=marketplace.request_types,
        services=marketplace.services,
        **shared,
    )
    api = ApiConfig(
        name=API,
        folder=places.units / API,
        jwks=places.units / API / JWKS,
        parties=parties,
        port=places.api_port,
        orchestrator=places.units / API / SIGNER,
        **shared,
    )
    party_files = (*_CREDENTIALS, SIGNER, EDGE)
    return {
        LOCALHOST: [
            Unit(BUS, "bus"),
            Unit(ORCHESTRATOR, "orchestrator", (BUS,), orchestrator, (*_CREDENTIALS, EDGE)),
            *(Unit(p, "agent", (BUS,), _agent(p, profile, marketplace, places), party_files) for p in parties),
            Unit(API, "api", (BUS,), api, (*_CREDENTIALS, JWKS, SIGNER)),
        ]
    }


def _agent(name: str, profile: Profile, marketplace: Marketplace, places: Places) -> AgentConfig:
    """Give what one party's agent may know: its own affairs only."""
    party = marketplace.parties[name]
    return AgentConfig(
        name=name,
        marketplace=marketplace.name,
        folder=places.units / name,
        bus=places.bus,
        settings=profile.settings,
        party=party,
        agreement=marketplace.agreements.get(name, Agreement(name=name)),
        data_sets={each: marketplace.data_sets[each] for each in party.data if each in marketplace.data_sets},
        data=places.data.get(name, places.units / name / "data"),
        orchestrator=places.units / name / SIGNER,
        api=places.units / name / EDGE,
    )
