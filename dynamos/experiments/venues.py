"""Venues: where trials run: testbeds of this machine, a marketplace that is there already, or just a process."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import yaml

from dynamos.deploy import places, profiles
from dynamos.deploy.states import StateFolder, explained
from dynamos.deploy.testbeds import bring_up, purge, take_down
from dynamos.experiments import logs
from dynamos.experiments.amendments import Agreements
from dynamos.experiments.runs import LOGS, Run, write_whole
from dynamos.experiments.scripts import Needs
from dynamos.kit.errors import Conflict, DynamosError, Unavailable, revive
from dynamos.middleware.clients import BASE, Api
from dynamos.model.profiles import Profile

NETWORK_SECONDS = 180.0


class Venue(Protocol):
    """Where trials run. Testbeds are made one after the other, never two at once."""

    name: ClassVar[str]

    def open(self, profile: Profile, path: Path) -> Mapping[str, Any]:
        """Make the testbed of a profile, whose file is at `path`, be there, and give what a bed is made of."""
        ...

    def alive(self) -> bool:
        """Tell whether what was opened is still there."""
        ...

    def close(self) -> None:
        """Take down what was made. Does nothing where there is nothing."""
        ...


@dataclass
class Local:
    """Testbeds of this machine, in the folder `root`: whole ones, or their networks alone.

    Whatever an earlier one left there is gone before another is made. What a testbed wrote of itself is kept in `logs`.
    """

    name: ClassVar[str] = "local"
    root: Path
    needs: Needs
    logs: Path | None = None

    def __post_init__(self) -> None:
        self._folder = StateFolder(self.root.resolve())
        self._name = ""

    def open(self, profile: Profile, path: Path) -> Mapping[str, Any]:
        self.close()
        self._name = path.stem
        if self.needs == "nothing":
            return {"profile": str(path)}
        if self.needs == "networks":
            return {"profile": str(path), "world": str(self._networks(profile, path))}
        bring_up(self._folder, path)
        return {"profile": str(path), "state": str(self._folder.root)}

    def alive(self) -> bool:
        if self.needs == "nothing":
            return True
        if self.needs == "networks":
            from dynamos.testbed.worlds import World  # noqa: PLC0415  Linux only

            return World.find(self._folder.world) is not None
        return self._folder.is_held()

    def close(self) -> None:
        if self.needs != "nothing" and self._folder.root.exists():
            if self.logs:
                logs.keep(self.logs, self._folder, self._name or "left-behind")
            take_down(self._folder)
            purge(self._folder)

    def _networks(self, profile: Profile, path: Path) -> Path:
        """Make the networks alone, in a process of their own: it works with threads."""
        from dynamos.deploy.networks import check_needs, check_rights  # noqa: PLC0415  Linux only

        if profile.driver != "namespaces":
            raise Unavailable(f"the testbed {profile.name!r} has no networks of its own", hint="--profile three-sites")
        check_rights()
        check_needs(profile, lambda: f"{path}: overlay")
        self._folder.make()
        argv = [sys.executable, "-m", "dynamos.experiments.grounds", str(self._folder.root), str(path)]
        try:
            done = subprocess.run(
                argv, capture_output=True, timeout=NETWORK_SECONDS, check=False, start_new_session=True
            )
        except subprocess.TimeoutExpired:
            raise Unavailable(f"the networks were not there within {NETWORK_SECONDS:g} s", where=str(path)) from None
        if done.returncode:
            raise _told(done.stdout, done.stderr)
        return self._folder.world


def local(state: Path, run: Run, needs: Needs) -> Local:
    """Give the venue of a run on this machine: its testbeds have a folder of its own, the same whenever it goes on. Its
    name is short, for there are sockets in it."""
    own = hashlib.sha256(str(run.folder.resolve()).encode()).hexdigest()[:8]
    return Local(state / f"x-{own}", needs, run.folder / LOGS)


@dataclass
class Elsewhere:
    """A marketplace that is there already, at an address. Nothing of it is made or taken down; agreements that a trial
    changed and could not change back are restored, by what is kept of them in the folder `journals`."""

    name: ClassVar[str] = "address"
    address: str
    token: str = ""
    journals: Path | None = None

    def open(self, profile: Profile, path: Path) -> Mapping[str, Any]:
        del profile
        self.close()
        self._ask()
        return {"profile": str(path), "api": self.address} | ({"journals": str(self.journals)} if self.journals else {})

    def alive(self) -> bool:
        try:
            self._ask()
        except DynamosError:
            return False
        return True

    def close(self) -> None:
        if self.journals:
            Agreements(lambda _: Api(self.address, token=self.token), self.journals).restore()

    def _ask(self) -> None:
        with Api(self.address, token=self.token) as api:
            api.get(f"{BASE}/getAvailableProviders")


def written(profile: Profile) -> str:
    """Give a resolved profile as YAML that means the same on another machine: what comes with DYNAMOS, by its name."""
    told = profile.as_json()
    market = Path(profile.marketplace)
    if market.parent == places.shipped() / places.MARKETPLACES:
        told["marketplace"] = market.name
    return yaml.safe_dump(told, sort_keys=False, allow_unicode=True)


def keep_profile(folder: Path, profile: Profile) -> Path:
    """Write a resolved profile into a folder, under the beginning of its digest, and give its path.

    Raises Conflict where another profile is there under that name.
    """
    text = written(profile)
    path = folder / f"{profile.name}-{profile_digest(profile)[:8]}.yaml"
    with explained(path):
        if not path.exists():
            write_whole(path, text.encode())
        elif path.read_text(encoding="utf-8") != text:
            raise Conflict("another profile is there", where=str(path))
    profiles.validate(path)
    return path


def profile_digest(profile: Profile) -> str:
    """Give the SHA-256 of a resolved profile, the same on every machine."""
    return hashlib.sha256(written(profile).encode()).hexdigest()


def _told(out: bytes, err: bytes) -> DynamosError:
    try:
        return revive(json.loads(out))
    except ValueError:
        return Unavailable("the networks could not be made", log=err.decode(errors="replace").splitlines()[-5:])
