"""The engine: which `pulumi` runs the program. The user's own where it is new enough, else the one that we build."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import dynamos
from dynamos.kit.errors import Unavailable

OLDEST = (3, 259, 0)
_VERSION = re.compile(r"v?(\d+)\.(\d+)\.(\d+)")
_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Engine:
    """A Pulumi CLI. `ours` has no language hosts but the one beside it."""

    path: Path
    version: tuple[int, int, int]
    ours: bool

    def environment(self, state: Path) -> dict[str, str]:
        """Give the variables that it is started with; `state` is the folder where it may keep what is its own."""
        told = {
            "PATH": f"{self.path.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
        }
        return {**told, "PULUMI_HOME": os.environ.get("PULUMI_HOME") or str(state / "home")} if self.ours else told


def checkout() -> Path:
    """Give the folder that this program, `infra/` and `.tools/` are in."""
    return Path(dynamos.__file__).resolve().parent.parent


def find_engine(*, path: str | None = None, tools: Path | None = None) -> Engine:
    """Give the user's own `pulumi` where it is on the path and new enough, else the one that `make pulumi` builds.

    Raises Unavailable, with what to do.
    """
    own = shutil.which("pulumi", path=path)
    built = (tools or checkout() / ".tools" / "pulumi") / "pulumi"
    found = _version(Path(own)) if own else None
    if own and found and found >= OLDEST and Path(own).resolve() != built.resolve():
        return Engine(Path(own), found, ours=False)
    if built.is_file() and (version := _version(built)):
        return Engine(built, version, ours=True)
    wanted = ".".join(map(str, OLDEST))
    if own:
        told = ".".join(map(str, found)) if found else "unknown"
        raise Unavailable(
            f"pulumi is too old: its version is {told}, not {wanted} or newer",
            where=own,
            hint="upgrade it, or build one for this checkout with `make pulumi`",
        )
    raise Unavailable(
        "there is no pulumi here", hint=f"install Pulumi {wanted} or newer, or build it with `make pulumi`"
    )


def _version(program: Path, environment: Mapping[str, str] | None = None) -> tuple[int, int, int] | None:
    """Ask a program for its version; None where it does not answer as one."""
    told = {**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "true", **(environment or {})}
    try:
        done = subprocess.run(
            [program, "version"], capture_output=True, text=True, check=False, timeout=_SECONDS, env=told
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = _VERSION.match(done.stdout.strip())
    return (int(found[1]), int(found[2]), int(found[3])) if found else None
