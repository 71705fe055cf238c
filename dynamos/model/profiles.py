"""Profiles: the file that describes a testbed and the marketplace on it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from dynamos.model.clusters import Cluster
from dynamos.model.datasets import Source
from dynamos.model.networks import Fault, Group, Link, Overlay
from dynamos.model.services import Limits
from dynamos.model.sites import Site
from dynamos.model.subnets import Subnets
from dynamos.model.units import Duration, Size
from dynamos.model.values import Name, Value


class Settings(Value):
    """What the middleware may do. `open` accepts requests without a token: for demonstrations of upstream's scripts
    only."""

    open: bool = False
    api_port: int = Field(default=0, ge=0, le=65535)
    deadline: Duration = Duration.parse("60s")
    max_deadline: Duration = Duration.parse("30m")
    concurrent_jobs: int = Field(default=8, ge=1)
    waiting_jobs: int = Field(default=256, ge=0)
    result_memory: Size = Size.parse("8MiB")
    result_disk: Size = Size.parse("4GiB")
    result_age: Duration = Duration.parse("15m")
    limits: Limits = Limits()
    isolation: Literal["required", "preferred"] = "preferred"
    issuer: str = ""
    telemetry: str = ""
    planner: Name = "weights"
    planner_options: dict[str, Any] = Field(default_factory=dict)
    party_capacity: int = Field(default=0, ge=0)


class Profile(Value):
    """A testbed and the marketplace on it.

    `extends` is another profile, of which this one says only what differs. `driver` is what sites are made of:
    `processes` of this machine without networks of their own, `namespaces` with real ones, machines that exist, by
    `ssh`, or nodes of a `cluster`, by `kubernetes`. `control` is the site of the orchestrator, the API and the bus's
    hub; without it, the first. `marketplace` is the name of one that comes with DYNAMOS, or the path of a folder.
    `data` says where tables of a party lie that the marketplace does not say it of, and `data_folders` the folder that
    these paths are relative to (else `data/<party>` in the marketplace's folder). `admins`, `duties` (request type to
    services) and `rules` (data set, table and column to a rule like "truncate:4") are added to what the marketplace
    says. Without `sites`, every party is at one.
    """

    name: Name
    description: str = ""
    extends: str = ""
    driver: Literal["processes", "namespaces", "ssh", "kubernetes"] = "processes"
    marketplace: str
    cluster: Cluster = Cluster()
    sites: dict[Name, Site] = Field(default_factory=dict)
    control: Name | None = None
    links: tuple[Link, ...] = ()
    overlay: Overlay = Overlay()
    groups: dict[Name, Group] = Field(default_factory=dict)
    timeline: tuple[Fault, ...] = ()
    subnets: Subnets = Subnets()
    settings: Settings = Settings()
    data: dict[Name, dict[Name, dict[str, Source]]] = Field(default_factory=dict)
    data_folders: dict[Name, str] = Field(default_factory=dict)
    admins: dict[Name, tuple[str, ...]] = Field(default_factory=dict)
    duties: dict[Name, dict[Name, tuple[Name, ...]]] = Field(default_factory=dict)
    rules: dict[Name, dict[str, dict[str, str]]] = Field(default_factory=dict)

    @field_validator("sites", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        """Give sites the names that they stand under."""
        if not isinstance(value, dict):
            return value
        return {name: {"name": name, **site} if isinstance(site, dict) else site for name, site in value.items()}

    @property
    def control_site(self) -> str:
        """The site of the orchestrator, the API and the bus's hub; empty where there are no sites."""
        return self.control or next(iter(self.sites), "")

    def site_of(self, party: str) -> str:
        """Give the site of a party; empty where there are no sites."""
        return next((site.name for site in self.sites.values() if party in site.parties), "")

    def link(self, name: str) -> Link | None:
        """Give the link of that name; its two sites may stand in either order."""
        return next((each for each in self.links if name in (each.name, "-".join(reversed(each.between)))), None)
