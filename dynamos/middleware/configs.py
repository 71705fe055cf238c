"""What each unit is started with: one JSON file that only this unit can read. It holds no other party's affairs."""

from __future__ import annotations

from pathlib import Path

from dynamos.kit.credentials import Credentials
from dynamos.model.agreements import Agreement
from dynamos.model.archetypes import Archetype
from dynamos.model.datasets import DataSet
from dynamos.model.marketplaces import Party
from dynamos.model.profiles import Settings
from dynamos.model.request_types import RequestType
from dynamos.model.services import Service
from dynamos.model.values import Name, Value


class UnitConfig(Value):
    """What every unit has: its name, its folder, its credentials, where the bus is, and which name that must show.

    `folder` holds certificate.pem, key.pem, authority.pem and the unit's logs and scratch.
    """

    name: Name
    marketplace: Name
    folder: Path
    bus: str
    server: Name = "bus"
    settings: Settings = Settings()

    @property
    def credentials(self) -> Credentials:
        return Credentials(self.folder / "certificate.pem", self.folder / "key.pem", self.folder / "authority.pem")


class AgentConfig(UnitConfig):
    """A party's agent. `data` is the folder that the paths of `party.data` are relative to; `port` 0 takes a free one.

    `orchestrator` is the path of the certificate whose key signs grants, `api` of the one whose key signs vouchers.
    """

    party: Party
    agreement: Agreement
    data_sets: dict[Name, DataSet]
    data: Path
    host: str = "127.0.0.1"
    port: int = 0
    orchestrator: Path
    api: Path


class OrchestratorConfig(UnitConfig):
    """The orchestrator: what the marketplace shares. `api` is the path of the certificate whose key signs vouchers."""

    api: Path

    parties: tuple[Name, ...]
    archetypes: dict[Name, Archetype]
    request_types: dict[Name, RequestType]
    services: dict[Name, Service]


class ApiConfig(UnitConfig):
    """The HTTP API and its gateway for results. `jwks` is the path of the public keys of the issuer of tokens."""

    jwks: Path

    parties: tuple[Name, ...]
    host: str = "127.0.0.1"
    port: int = 0
    orchestrator: Path
