"""Stacks of the real engine for tests: a profile of their own, a state of their own, and nothing left at the end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dynamos.deploy import places, profiles
from dynamos.deploy.pulumi.engines import checkout, find_engine
from dynamos.deploy.pulumi.stacks import Stack
from dynamos.kit.errors import NotFound, Unavailable
from dynamos.testbed.facts import Facts
from dynamos.testbed.namespaced import NamespacesGround
from dynamos.testbed.wanted import Wanted, wanted
from dynamos.testbed.worlds import World

_VARIABLES = ("PULUMI_BACKEND_URL", "PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE")


class Provisioned:
    """A stack of three sites, whose profile tests may change."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name, self.state, self.profile = name, folder / "state", folder / f"{name}.yaml"
        self.write()
        self.stack = Stack(str(self.profile), self.state)
        self.ground = NamespacesGround(self.state / name / "world")

    def write(self, **changes: str) -> None:
        """Write the profile, with one text in the place of another."""
        text = places.profile_file("three-sites").read_text().replace("name: three-sites", f"name: {self.name}")
        for before, after in changes.values():
            assert before in text
            text = text.replace(before, after)
        self.profile.write_text(text)

    @property
    def world(self) -> World:
        found = World.find(self.state / self.name / "world")
        assert found is not None, "there is no world"
        return found

    @property
    def wanted(self) -> Wanted:
        return wanted(profiles.validate(self.profile).profile)

    def look(self) -> Facts:
        return self.ground.look()

    def round_trip(self, here: str, there: str) -> float:
        """Measure what a round trip takes between two nodes, in milliseconds."""
        address = self.wanted.items["node", there].address.partition("/")[0]  # type: ignore[index, union-attr]
        told = self.world.find_node(here).run(["ping", "-c4", "-i0.2", "-W3", address]).text
        found = re.search(r"= ([\d.]+)/", told)
        assert found, told
        return float(found[1])

    def kill_engine_after(self, steps: int) -> None:
        """Start `pulumi up` and kill it with SIGKILL as the so many-eth resource begins."""
        stack = self.stack._open(self.name, new=True)
        engine = subprocess.Popen(
            [str(find_engine().path), "up", "--yes", "--skip-preview", "--non-interactive", "--stack", self.name],
            cwd=checkout() / "infra",
            env={**os.environ, **stack.workspace.env_vars},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert engine.stdout is not None
        seen = 0
        for line in engine.stdout:
            seen += "dynamic/testbed" in line and "creating" in line
            if seen == steps:
                break
        engine.send_signal(signal.SIGKILL)
        engine.stdout.close()
        assert engine.wait() == -signal.SIGKILL, f"it ended before it began {steps} resources"


@contextmanager
def provisioned(folder: Path, name: str) -> Iterator[Provisioned]:
    """Give a stack that ends with the test. Skips where there is no engine, no root, or no world to be had."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    try:
        find_engine()
        World.create(folder / "probe", "probe").kill()
    except Unavailable as error:
        pytest.skip(str(error))
    with pytest.MonkeyPatch.context() as patch:
        for variable in _VARIABLES:
            patch.delenv(variable, raising=False)
        found = Provisioned(folder, name)
        try:
            yield found
        finally:
            try:
                found.stack.destroy()
            except NotFound:
                pass
            finally:
                if world := World.find(found.state / name / "world"):
                    world.kill()
                (checkout() / "infra" / f"Pulumi.{name}.yaml").unlink(missing_ok=True)
