"""What each unit is started with: one JSON file that only this unit can read. It holds no other party's affairs."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from dynamos.jobs.pods.settings import PodsConfig
from dynamos.kit.credentials import Credentials
from dynamos.model.agreements import Agreement
from dynamos.model.archetypes import Archetype
from dynamos.model.datasets import DataSet
from dynamos.model.marketplaces import Party
from dynamos.model.networks import Scope
from dynamos.model.profiles import Profile, Settings
from dynamos.model.request_types import RequestType
from dynamos.model.services import Service
from dynamos.model.values import Name, Value


class UnitConfig(Value):
    """What every unit has: its name, its folder, its credentials, where the bus is, and which name that must show.

    `folder` holds certificate.pem, key.pem, authority.pem and the unit's logs and scratch. `drain` is for how many
    seconds the unit goes on after SIGTERM to finish what it has begun.
    """

    name: Name
    marketplace: Name
    folder: Path
    bus: str
    server: Name = "bus"
    drain: float = 0.0
    settings: Settings = Settings()

    @property
    def credentials(self) -> Credentials:
        return Credentials(self.folder / "certificate.pem", self.folder / "key.pem", self.folder / "authority.pem")


class AgentConfig(UnitConfig):
    """A party's agent. `data` is the folder that the paths of `party.data` are relative to; `port` 0 takes a free one.

    `orchestrator` is the path of the certificate whose key signs grants, `api` of the one whose key signs vouchers.
    `desk` is the folder of the site's network helper for this party, where the party's streams have a network of their
    own; `scope` tells how long such a network lasts. `policies` and `pods` are for agents that run in a cluster.
    """

    party: Party
    agreement: Agreement
    data_sets: dict[Name, DataSet]
    data: Path
    host: str = "127.0.0.1"
    port: int = 0
    orchestrator: Path
    api: Path
    desk: Path | None = None
    scope: Scope = "marketplace"
    policies: PoliciesConfig | None = None
    pods: PodsConfig | None = None


class PoliciesConfig(Value):
    """An agent in a cluster: a NetworkPolicy in its own namespace opens the ways of a part for the part's life.

    `namespaces` are those of all parties, `testbed` is what objects are labelled with. An empty `kubeconfig` takes the
    pod's own service account. A way must carry within `patience` seconds. `prove` has the agent try whether a way is
    shut before it is opened for the first time, since a cluster may take policies and enforce none.
    """

    testbed: Name
    namespaces: dict[Name, str]
    kubeconfig: str = ""
    patience: float = Field(default=10.0, gt=0)
    prove: bool = True


class OrchestratorConfig(UnitConfig):
    """The orchestrator: what the marketplace shares. `api` is the path of the certificate whose key signs vouchers.

    `meetings` says how the parties of a job reach each other: None where they say so themselves.
    """

    api: Path
    meetings: MeetingsConfig | None = None

    parties: tuple[Name, ...]
    archetypes: dict[Name, Archetype]
    request_types: dict[Name, RequestType]
    services: dict[Name, Service]


class MeetingsConfig(Value):
    """Networks of their own for what parties exchange.

    `networks` are those that stay, each a mapping of parties to addresses. With scope `request` there is one for each
    job instead, at most `slots` at once, made by the helpers at the `sites` of the parties. `control` is the site of
    the orchestrator itself, where that has a helper.
    """

    scope: Scope
    networks: tuple[dict[Name, str], ...] = ()
    sites: dict[Name, Name] = Field(default_factory=dict)
    slots: int = 0
    control: Name | None = None


class HelperConfig(UnitConfig):
    """The network helper of a site. `profile` says of the testbed what its networks need, and nothing else; `world` is
    the folder in which the site's nodes are found.

    `orchestrator` is the path of the certificate whose key signs grants. `desks` is the folder of the parties' desks,
    where it is not the helper's own, and `users` are the system users that have them, where agents run as such.
    """

    site: Name
    profile: Profile
    world: Path
    orchestrator: Path
    desks: Path | None = None
    users: dict[Name, str] = Field(default_factory=dict)

    def desk(self, party: str) -> Path:
        """Give the folder of a party's desk."""
        return (self.desks or self.folder / "desks") / party


class ApiConfig(UnitConfig):
    """The HTTP API and its gateway for results. `jwks` is the path of the public keys of the issuer of tokens.

    `descriptor` is a socket that listens already, which the API is handed, or -1; `door` is the name of a door (see
    `dynamos.kit.doors`) that hands it one, or empty; `gateway` is the address at which the parties' agents reach the
    gateway, where that is not `host`, and `gateway_port` its port, 0 for a free one; `peer_port` is that of the door
    for other APIs, at the same address. `patience` is for how many seconds a request waits for an orchestrator that is
    away.
    """

    jwks: Path
    descriptor: int = -1
    door: str = ""
    gateway: str = ""
    gateway_port: int = 0
    peer_port: int = 0
    patience: float = 30.0

    parties: tuple[Name, ...]
    host: str = "127.0.0.1"
    port: int = 0
    orchestrator: Path


AgentConfig.model_rebuild()
OrchestratorConfig.model_rebuild()
