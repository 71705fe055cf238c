"""A whole DYNAMOS over three sites with real networks between them, for tests of the system."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dynamos.deploy.states import StateFolder
from dynamos.testbed.boxes import Box
from dynamos.testbed.wans import Wan
from dynamos.testbed.worlds import World
from support.systems import System, write_marketplace
from support.worlds import needs

SITES = {"east": ["north"], "west": ["south"], "hub": ["third"]}
LINKS = [["east", "hub"], ["west", "hub"], ["east", "west"]]


class Sites(System):
    """A running testbed of sites: `north` is at `east`, `south` at `west`, and `third` at `hub`, the control site."""

    @property
    def world(self) -> World:
        world = World.find(self.state.world)
        assert world, "the world is there"
        return world

    @property
    def wan(self) -> Wan:
        wan = Wan.find(self.world)
        assert wan, "the WAN is there"
        return wan

    def box(self, name: str) -> Box:
        """Give a container by name."""
        return next(box for node in self.world.nodes() for box in node.containers() if box.name == name)

    def phase(self, unit: str) -> str:
        return next(each.phase for each in self.status.units if each.name == unit)

    def online(self) -> set[str]:
        """Give the parties that the API knows to be there."""
        with self.client() as client:
            told = client.get("/api/v1/getAvailableProviders").json()
        return set(told if isinstance(told, dict) else told or ())

    def request_boxes(self) -> list[str]:
        """Give the containers of jobs that there are."""
        boxes = (box.name for node in self.world.nodes() for box in node.containers())
        return [name for name in boxes if name.startswith("request-")]


def profile_of(
    marketplace: Path,
    overlay: dict[str, Any],
    timeline: tuple[dict[str, Any], ...] = (),
    control: str = "hub",
    rate: str = "",
    **settings: Any,
) -> dict[str, Any]:
    """Give the profile. `rate` is that of every link."""
    way = {"rate": rate} if rate else {}
    return {
        "name": "sited",
        "driver": "namespaces",
        "marketplace": str(marketplace),
        "sites": {name: {"parties": parties} for name, parties in SITES.items()},
        "control": control,
        "links": [{"between": pair, **way} for pair in LINKS],
        "overlay": overlay,
        "timeline": list(timeline),
        "settings": settings,
    }


def needs_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: units are born in the namespaces of nodes")
    needs("ip", "nft", "bridge", "ping")


@contextmanager
def sites(folder: Path, *, driver: str = "none", scope: str = "marketplace", **settings: Any) -> Iterator[Sites]:
    """Bring a testbed of sites up over the faulty marketplace, and take it down. Skips where that cannot be."""
    needs_root()
    folder.chmod(0o755)
    market = write_marketplace(folder / "market")
    profile = folder / "sited.yaml"
    profile.write_text(json.dumps(profile_of(market, {"driver": driver, "scope": scope}, **settings)))
    it = Sites(StateFolder(folder / "state"), profile)
    try:
        it.up()
        yield it
    finally:
        it.down()
