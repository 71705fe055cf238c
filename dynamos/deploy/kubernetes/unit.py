"""One unit as a pod's program: `python -m dynamos.deploy.kubernetes.unit ROLE CONFIG`.

It is told where it is by the variables POD_IP and POD_NAMESPACE. What it is given is linked into its own folder: a
certificate that is renewed is taken up from there as it is elsewhere.
"""

from __future__ import annotations

import os
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from dynamos.deploy import unit
from dynamos.deploy.kubernetes.pods import HEALTH_PORT
from dynamos.deploy.kubernetes.vitals import Vitals
from dynamos.kit.errors import BadInput, NotFound, TimedOut, Unavailable
from dynamos.middleware.configs import AgentConfig, ApiConfig, UnitConfig

BEGUN = "DYNAMOS_BEGUN"
"""When the first try began. A container that is started anew waits longer each time: we try again by ourselves."""
TRY_SECONDS = 60.0
PAUSE = 0.5
OWN_KEY = "pseudonyms.key"
_PASSING = {error.exit for error in (Unavailable, TimedOut, NotFound)}


def settled(config: UnitConfig, address: str) -> UnitConfig:
    """Give the configuration with the pod's own address where others connect to."""
    if isinstance(config, AgentConfig):
        return config.model_copy(update={"host": address})
    if isinstance(config, ApiConfig):
        return config.model_copy(update={"gateway": address})
    return config


def link(given: Path, folder: Path) -> None:
    """Show the files that a unit is given in its own folder."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in given.iterdir():
        if not path.name.startswith("."):
            place = folder / path.name
            place.unlink(missing_ok=True)
            place.symlink_to(path)


def run(role: str, path: Path) -> int:
    """Run a unit until it ends or is told to, and give its exit code."""
    vitals: Vitals | None = None

    def serve() -> None:
        nonlocal vitals
        vitals = Vitals(HEALTH_PORT)
        address = os.environ.get("POD_IP", "")
        if not address:
            raise BadInput("a unit in a pod is told its address in POD_IP", hint="python -m dynamos.deploy.unit")
        config = settled(unit.read_config(role, path), address)
        link(path.parent, config.folder)
        if isinstance(config, AgentConfig):
            _keep_secret(config.folder / OWN_KEY)
        import_module(unit.ROLES[role][0]).serve(config, vitals.ready)

    try:
        code = unit.once(role, serve, sys.stderr.fileno())
        return code if (vitals and vitals.is_ready()) or code not in _PASSING else _again(code)
    finally:
        if vitals:
            vitals.close()


def _keep_secret(place: Path) -> None:
    """Put the party's key for pseudonyms where the agent looks for it: the same for all lives and all replicas."""
    if not place.exists():
        from dynamos.deploy.kubernetes.pseudonyms import kept  # noqa: PLC0415  only agents need a client

        key = kept(os.environ["POD_NAMESPACE"])
        place.touch(mode=0o600)
        place.write_bytes(key)


def _again(code: int) -> int:
    """Try once more, as a new program, what may come right by itself: a bus that is not there yet."""
    begun = float(os.environ.setdefault(BEGUN, str(time.time())))
    if time.time() - begun < TRY_SECONDS:
        time.sleep(PAUSE)
        _begin_again()
    return code


def _begin_again() -> NoReturn:
    os.execv(sys.executable, [sys.executable, "-m", __spec__.name, *sys.argv[1:]])  # noqa: S606


def main() -> None:
    """Run a unit from the command line."""
    if len(sys.argv) != 3 or sys.argv[1] not in unit.ROLES:  # noqa: PLR2004
        sys.stderr.write(f"usage: python -m dynamos.deploy.kubernetes.unit {'|'.join(unit.ROLES)} CONFIG\n")
        raise SystemExit(2)
    raise SystemExit(run(sys.argv[1], Path(sys.argv[2])))


if __name__ == "__main__":
    main()
