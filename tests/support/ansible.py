"""Ansible against a world of nodes on one bridge, with the addresses that the profile's plan gives them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dynamos
from dynamos.deploy import profiles
from dynamos.testbed.items import Node
from dynamos.testbed.wanted import wanted
from dynamos.testbed.worlds import World
from support.worlds import made_world

PLAYBOOKS = Path(dynamos.__file__).resolve().parent.parent / "playbooks"
BIN = Path(sys.executable).parent


@contextmanager
def bridged_world(folder: Path, profile: str) -> Iterator[World]:
    """A world with the nodes of a profile, each joined to one bridge; links have no delay."""
    items = wanted(profiles.load(profile)).of(Node)
    with made_world(folder) as world:
        world.run(["ip", "link", "add", "br0", "type", "bridge"])
        world.run(["ip", "link", "set", "br0", "up"])
        for number, item in enumerate(items.values()):
            node = world.node(item.name, item.site)
            world.wire(world, f"port{number}", node, "wan0")
            world.run(["ip", "link", "set", f"port{number}", "master", "br0"])
            node.run(["ip", "addr", "add", f"{item.address.partition('/')[0]}/15", "dev", "wan0"])
            node.run(["ip", "link", "set", "lo", "up"])
        yield world


def ansible(
    program: str, *words: str, state: Path, profile: str, **options: object
) -> subprocess.CompletedProcess[str]:
    """Run one of Ansible's programs in the folder of the playbooks."""
    env = {**os.environ, "DYNAMOS_CONTROLLER": str(state), "DYNAMOS_PROFILE": profile, "ANSIBLE_NOCOLOR": "1"}
    env["ANSIBLE_LOCAL_TEMP"] = str(state / "ansible")
    argv = [str(BIN / program), *words]
    return subprocess.run(
        argv, capture_output=True, text=True, check=False, cwd=PLAYBOOKS, env=env, timeout=900, **options
    )


def recap(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, int]]:
    """Give the counts of a playbook's end, by node."""
    _, _, end = done.stdout.partition("PLAY RECAP")
    rows = (line.partition(":") for line in end.splitlines()[1:] if ":" in line)
    return {
        name.strip(): {word.split("=")[0]: int(word.split("=")[1]) for word in counts.split()}
        for name, _, counts in rows
    }


def changes(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Give the tasks that changed something, each with its node."""
    found, task = [], ""
    for line in done.stdout.splitlines():
        if line.startswith("TASK ["):
            task = line.partition("[")[2].partition("]")[0]
        if line.startswith("changed:"):
            found.append(f"{task}: {line.partition('[')[2].partition(']')[0]}")
    return found
