"""Stacks of the real engine for tests: a profile of their own, a state of their own, and nothing left at the end."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dynamos.deploy import places, profiles
from dynamos.deploy.pulumi.engines import checkout, find_engine
from dynamos.deploy.pulumi.stacks import Stack
from dynamos.kit.errors import NotFound, Unavailable
from dynamos.testbed.facts import Facts
from dynamos.testbed.namespaced import NamespacesGround
from dynamos.testbed.wanted import Wanted, wanted
from dynamos.testbed.worlds import World

_VARIABLES = ("PULUMI_BACKEND_URL", "PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE", "DYNAMOS_STATE")
TWO_SITES = """name: two-sites
marketplace: aviation
driver: namespaces
sites:
  here: {parties: [safety-board, registry, united]}
  there: {parties: [delta, jetblue, weather]}
links: [{between: [here, there], delay: 10ms}]
overlay: {driver: none, scope: marketplace}
"""


class Provisioned:
    """A stack of three sites, or of what the text of a profile says, whose profile tests may change."""

    def __init__(self, folder: Path, name: str, text: str = "") -> None:
        self.name, self.state, self.profile = name, folder / "state", folder / f"{name}.yaml"
        self._text = text or places.profile_file("three-sites").read_text()
        self.write()
        self.stack = Stack(str(self.profile), self.state)
        self.ground = NamespacesGround(self.state / name / "world")

    def write(self, **changes: str) -> None:
        """Write the profile, with one text in the place of another."""
        text = re.sub(r"^name: .*", f"name: {self.name}", self._text, flags=re.MULTILINE)
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

    def known(self) -> dict[tuple[str, str], Any]:
        """Give what the engine knows that there is, and check that it waits for nothing more."""
        path = self.stack.folder / ".pulumi" / "stacks" / "dynamos" / f"{self.name}.json"
        latest = json.loads(path.read_text())["checkpoint"]["latest"] or {}
        assert not latest.get("pending_operations")
        found = [each for each in latest.get("resources", ()) if "item" in each.get("outputs", {})]
        kinds = [each["type"].rpartition(":")[2].lower().replace("ground", "world") for each in found]
        items = [each["outputs"]["item"] for each in found]
        return {(kind, item["name"]): item for kind, item in zip(kinds, items, strict=True)}

    def forget(self) -> None:
        """End the world, and make the engine know of no stack: everything is to be made again."""
        self.world.kill()
        for path in (self.state / self.name, self.stack.folder / ".pulumi"):
            shutil.rmtree(path)
        self.stack._open(self.name, new=True)

    def pulumi(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `pulumi` in `infra/`, on the stack."""
        told = [str(find_engine().path), *words, "--stack", self.name, "--color", "never", "--non-interactive"]
        env = {**os.environ, **self.stack._environment()}
        return subprocess.run(told, cwd=checkout() / "infra", env=env, capture_output=True, text=True, check=False)

    def killed_up(self, seconds: float, *words: str) -> bool:
        """Start `pulumi up` and kill it with SIGKILL so many seconds later. Tells whether it was still at work."""
        engine = subprocess.Popen(
            [
                str(find_engine().path),
                "up",
                "--yes",
                "--skip-preview",
                "--non-interactive",
                "--stack",
                self.name,
                *words,
            ],
            cwd=checkout() / "infra",
            env={**os.environ, **self.stack._environment()},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
        )
        try:
            return engine.wait(seconds) is None
        except subprocess.TimeoutExpired:
            engine.send_signal(signal.SIGKILL)
            return engine.wait() == -signal.SIGKILL


class Machine:
    """A machine that exists, for `ssh`: sshd on loopback in mounts of its own, a user's key, and `ssh` that knows the
    host by `known_hosts`, as a user's own would."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        folder.mkdir()
        for name in ("host", "user", "other"):
            subprocess.run(["ssh-keygen", "-qt", "ed25519", "-N", "", "-f", folder / name], check=True)
        self.identity, self.known_hosts, self._folder = folder / "user", folder / "known_hosts", folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        options = {"HostKey": folder / "host", "AuthorizedKeysFile": folder / "user.pub", "StrictModes": "no",
                   "UsePAM": "no", "ListenAddress": f"127.0.0.1:{self.port}", "PidFile": "none"}  # fmt: skip
        (folder / "sshd_config").write_text("".join(f"{name} {value}\n" for name, value in options.items()))
        serve = f"mount -t tmpfs run /run && mkdir /run/sshd && exec /usr/sbin/sshd -D -e -f {folder}/sshd_config"
        self._server = subprocess.Popen(["unshare", "--mount", "sh", "-c", serve], stderr=subprocess.PIPE, text=True)
        assert self._server.stderr is not None
        assert "listening" in self._server.stderr.readline()
        program = folder / "bin" / "ssh"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -o UserKnownHostsFile={self.known_hosts} "$@"\n')
        program.chmod(0o755)
        patch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    def is_known_by(self, key: str) -> None:
        """Make the user know the machine by its own key, `host`, or by `other`."""
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {(self._folder / f'{key}.pub').read_text()}")

    def end(self) -> None:
        self._server.terminate()
        self._server.communicate()


@contextmanager
def provisioned(folder: Path, name: str, text: str = "") -> Iterator[Provisioned]:
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
        found = Provisioned(folder, name, text)
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
