"""Stacks as venues: trials on a testbed that Pulumi has provisioned. Nothing of it is made or taken down."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from dynamos.deploy.provisioning import free_port
from dynamos.deploy.states import WORLD
from dynamos.experiments import happenings
from dynamos.experiments.scripts import Needs
from dynamos.experiments.venues import Elsewhere, profile_digest
from dynamos.kit.errors import Unavailable
from dynamos.model.profiles import Profile
from dynamos.model.sites import host_name
from dynamos.testbed.wanted import PORTS

_TUNNEL_SECONDS = 20.0
_LOOK_SECONDS = 0.05
LOOPBACK = "127.0.0.1"


@dataclass
class OnStack:
    """The stack of a profile. Its API is reached over ssh, its links where its world is of this machine. What a trial
    that was interrupted has left changed is mended, by what the files in `journals` say of it."""

    name: ClassVar[str] = "stack"
    profile: Profile
    ssh: Path
    """The configuration of ssh that leads to its nodes."""
    world: Path | None
    needs: Needs
    journals: Path
    token: str = ""
    _tunnel: Tunnel | None = field(default=None, init=False)

    @classmethod
    def of(cls, profile: Profile, state: Path, outputs: Mapping[str, Any], **more: Any) -> Self:
        """Give the venue of a stack with these outputs, whose testbed has its state in a folder of `state`. `more` are
        the other members."""
        if "sshConfig" not in outputs:
            raise Unavailable(f"the stack {profile.name!r} is not up", hint="dynamos stack up makes it")
        world = state.resolve() / profile.name / WORLD if outputs.get("driver") == "namespaces" else None
        return cls(profile, Path(outputs["sshConfig"]), world, **more)

    def open(self, profile: Profile, path: Path) -> Mapping[str, Any]:
        if profile_digest(profile) != profile_digest(self.profile):
            hint = "--set those factors to what the stack has, or run it on testbeds of this machine"
            raise Unavailable(f"the stack {self.profile.name!r} is another testbed than these levels want", hint=hint)
        self.close()
        place = {"profile": str(path), "journals": str(self.journals)}
        place |= {"world": str(self.world)} if self.world else {}
        if self.needs == "networks":
            if not self.alive():
                raise Unavailable(f"the networks of the stack {profile.name!r} are not there", hint="dynamos stack up")
            return place
        control = profile.sites[profile.control_site].gateway
        port = profile.settings.api_port or PORTS["api"]
        self._tunnel = Tunnel.open(self.ssh, host_name(control.name), port)
        return {**place, **self._elsewhere(self._tunnel).open(profile, path)}

    def alive(self) -> bool:
        if self._tunnel:
            return self._elsewhere(self._tunnel).alive()
        from dynamos.testbed.worlds import World  # noqa: PLC0415  Linux only

        return self.world is not None and World.find(self.world) is not None

    def close(self) -> None:
        """Mend what trials have left, and let go of it."""
        faults = self.journals / happenings.FAULTS
        if self.world and faults.exists():
            from dynamos.testbed.proofs.subjects import Subject  # noqa: PLC0415  Linux only

            happenings.mend(faults, Subject.find(self.profile, self.world).wan)
        if tunnel := self._tunnel:
            try:
                self._elsewhere(tunnel).close()
            finally:
                tunnel.close()
                self._tunnel = None

    def _elsewhere(self, tunnel: Tunnel) -> Elsewhere:
        return Elsewhere(tunnel.address, self.token, self.journals)


@dataclass
class Tunnel:
    """A port of this machine that leads to one on the loopback device of a node. It ends with this process."""

    port: int
    _ssh: subprocess.Popen[bytes]

    @classmethod
    def open(cls, config: Path, node: str, port: int) -> Self:
        """Open one. Raises Unavailable with what ssh says."""
        here = free_port()
        options = ["-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes"]
        options += ["-L", f"{LOOPBACK}:{here}:{LOOPBACK}:{port}"]
        # `cat` ends when nobody holds the other end of the pipe any more, and ssh with it.
        ssh = subprocess.Popen(
            ["ssh", "-F", str(config), *options, node, "cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        end = time.monotonic() + _TUNNEL_SECONDS
        while ssh.poll() is None and time.monotonic() < end:
            with suppress(OSError), socket.create_connection((LOOPBACK, here), timeout=1.0):
                return cls(here, ssh)
            time.sleep(_LOOK_SECONDS)
        ssh.kill()
        said = ssh.communicate()[1].decode(errors="replace").splitlines()
        raise Unavailable(f"no way to the API on {node!r}", where=str(config), log=said[-5:])

    @property
    def address(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def close(self) -> None:
        self._ssh.terminate()
        self._ssh.communicate()
