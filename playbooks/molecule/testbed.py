#!/usr/bin/env python3
"""The testbed that roles are tried on: `testbed.py up|down STATE PROFILE`.

Its nodes have the addresses that the profile's plan gives them, and hang on one bridge: there is nothing between sites.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from dynamos.deploy import profiles
from dynamos.kit.errors import DynamosError
from dynamos.testbed.items import Node
from dynamos.testbed.wanted import wanted
from dynamos.testbed.worlds import World

BITS = 15
"""Of the network that all sites are in, when nothing is between them."""


def up(state: Path, profile: str) -> str:
    """Have the nodes of a profile joined to one bridge."""
    items = wanted(profiles.load(profile)).of(Node)
    world = World.find(state)
    if world and {node.name for node in world.nodes()} == {item.name for item in items.values()}:
        return "is there"
    down(state, profile)
    state.mkdir(parents=True)
    world = World.create(state, "molecule")
    world.run(["ip", "link", "add", "br0", "type", "bridge"])
    world.run(["ip", "link", "set", "br0", "up"])
    for number, item in enumerate(items.values()):
        node = world.node(item.name, item.site)
        world.wire(world, f"port{number}", node, "wan0")
        world.run(["ip", "link", "set", f"port{number}", "master", "br0"])
        node.run(["ip", "addr", "add", f"{item.address.partition('/')[0]}/{BITS}", "dev", "wan0"])
        node.run(["ip", "link", "set", "lo", "up"])
    return "made"


def down(state: Path, _: str) -> str:
    """End all of it, and remove its files."""
    world = World.find(state)
    if world:
        world.kill()
    was_there = state.exists()
    shutil.rmtree(state, ignore_errors=True)
    return "ended" if was_there else "was not there"


if __name__ == "__main__":
    try:
        done = {"up": up, "down": down}[sys.argv[1]](Path(sys.argv[2]), sys.argv[3])
        sys.stdout.write(f"{done}\n")
    except DynamosError as error:
        sys.exit(str(error))
