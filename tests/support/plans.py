"""Plans for a cluster that need no keys, no data and no cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dynamos.deploy.kubernetes.plans import Plan, placed
from dynamos.knowledge.permissions import ADMIN
from dynamos.model.marketplaces import Marketplace, Party
from dynamos.model.profiles import Profile

MARKET = Marketplace(name="m", parties={name: Party(name=name) for name in ("North_One", "south")})
CONTROL, NORTH, SOUTH = "p", "p-north-one", "p-south"
SERVERS = (("10.96.0.1", 443), ("192.0.2.7", 6443))


@dataclass(frozen=True)
class Images:
    dynamos: str = f"registry.test/dynamos:1@sha256:{'a' * 64}"
    courier: str = f"registry.test/courier:1@sha256:{'b' * 64}"
    bus: str = f"registry.test/bus:1@sha256:{'c' * 64}"


def profile(**members: Any) -> Profile:
    return Profile.model_validate({"name": "P", "driver": "kubernetes", "marketplace": "m", **members})


def plan(data: Mapping[str, Mapping[str, bytes]] | None = None, **members: Any) -> Plan:
    """Give the plan of a profile with two parties, whose files are texts that tell what they are."""
    told = profile(**members)
    names = [unit.name for _, unit in placed(told, MARKET)]
    files = {name: {"config.json": f"config of {name}", "key.pem": f"key of {name}"} for name in (*names, ADMIN)}
    return Plan(told, MARKET, Images(), files, data or {}, SERVERS)
