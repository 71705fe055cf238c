"""Plans: everything that manifests are made of, as one frozen value. Whoever has it needs no disk and no cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from dynamos.deploy.units import Places, Unit, leaves_of, units
from dynamos.kit.credentials import dns_name
from dynamos.kit.digests import digest
from dynamos.knowledge.leaves import remote_of
from dynamos.knowledge.permissions import ADMIN
from dynamos.model.clusters import control_namespace, party_namespace
from dynamos.model.marketplaces import Marketplace
from dynamos.model.profiles import Profile

Manifest = dict[str, Any]

HOME = Path("/var/lib/dynamos")
"""Where a unit's own folder is in its pod."""
GIVEN = Path("/etc/dynamos")
"""Where a unit's pod finds the files that it is given."""
DATA = Path("/data")
"""Where an agent's pod finds its party's data."""
CONFIG = "config.json"
DRAIN = 30.0
"""Seconds that a unit may take after SIGTERM to finish what it has begun."""


class References(Protocol):
    """The images that pods are made of, pinned."""

    @property
    def dynamos(self) -> str: ...
    @property
    def courier(self) -> str: ...
    @property
    def bus(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """What is put on a cluster.

    `files` are the texts that each unit is given, by unit and file name; `data` the files of each party that has any;
    `api_servers` where agents reach the cluster's API server.
    """

    profile: Profile
    marketplace: Marketplace
    images: References
    files: Mapping[str, Mapping[str, str]] = field(repr=False)
    data: Mapping[str, Mapping[str, bytes]] = field(repr=False)
    api_servers: tuple[tuple[str, int], ...] = ()

    @property
    def control(self) -> str:
        """The namespace of the bus, the orchestrator and the API."""
        return control_namespace(self.profile.name)

    @property
    def parties(self) -> dict[str, str]:
        """The namespace of each party."""
        return {name: party_namespace(self.profile.name, name) for name in self.marketplace.parties}

    @property
    def leaves(self) -> dict[str, tuple[str, ...]]:
        """The parties behind the leaf of each site that has one."""
        return leaves_of(self.profile)

    def namespace_of(self, party: str) -> str:
        return party_namespace(self.profile.name, party)


def placed(profile: Profile, marketplace: Marketplace) -> list[tuple[str, Unit]]:
    """Give the units with the namespace of each."""
    found = units(profile, marketplace, Places(HOME / "units", dict.fromkeys(marketplace.parties, DATA)))
    return [(namespace, unit) for namespace, each in found.items() for unit in each]


def identities(profile: Profile, marketplace: Marketplace) -> dict[str, tuple[str, ...]]:
    """Give the names that need a certificate, each with the host names that it serves at."""
    found: dict[str, tuple[str, ...]] = {ADMIN: ()}
    for _, unit in placed(profile, marketplace):
        found[unit.name] = unit.hosts
        found |= {remote_of(each): () for each in unit.speaks_for}
    return found


def object_name(unit: str) -> str:
    """Give the name of a unit's own objects in its namespace."""
    return dns_name(unit)


def short(value: Any) -> str:
    """Give a digest that is short enough for a name and long enough to tell two apart."""
    return digest(value)[:10]
