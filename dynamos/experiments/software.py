"""Software: the versions of what a run is made with. What is not there, or tells no version, is left out."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import dynamos
from dynamos.kit.errors import NotFound
from dynamos.knowledge import servers
from dynamos.model.profiles import Profile

_SECONDS = 5.0
_EXTRAS = ("", "local", "experiments")
_HOUSE = ("dynamos", "profiles")


def python() -> dict[str, str]:
    """Give the Python that this is."""
    return {"implementation": platform.python_implementation(), "version": platform.python_version()}


def packages() -> dict[str, str]:
    """Give the versions of dynamos and of the packages that it needs to run experiments, as they are installed."""
    found = {"dynamos": dynamos.__version__}
    with suppress(importlib.metadata.PackageNotFoundError):
        for line in importlib.metadata.requires("dynamos") or ():
            name, extra = re.split(r"[^\w.-]", line, maxsplit=1)[0], re.search(r"extra == '(\w+)'", line)
            if (extra.group(1) if extra else "") in _EXTRAS:
                with suppress(importlib.metadata.PackageNotFoundError):
                    found[name] = importlib.metadata.version(name)
    return dict(sorted(found.items()))


def programs(profiles: Iterable[Profile]) -> dict[str, str]:
    """Give the versions of the programs that make the networks of these profiles, by the package of each.

    A program that is of no package tells its version itself.
    """
    needed: dict[str, str] = {}
    for profile in profiles:
        if profile.driver != "ssh":
            needed |= _of_bus()
        if profile.driver == "namespaces":
            needed |= _of_networks(profile)
    owned = _installed(sorted(set(needed.values()) - {""}))
    own = {name: _told([name, "--version"]) for name, package in needed.items() if package not in owned}
    return dict(sorted({**owned, **{Path(name).name: version for name, version in own.items() if version}}.items()))


def source() -> dict[str, Any]:
    """Give the commit of the checkout that this program is from, and whether its code was changed since."""
    root = Path(dynamos.__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return {}
    commit = _told(["git", "-C", str(root), "rev-parse", "HEAD"])
    changed = _told(["git", "-C", str(root), "status", "--porcelain", "--", *_HOUSE], whole=True)
    return {} if commit is None else {"commit": commit, "changed": bool(changed)}


def _of_bus() -> Mapping[str, str]:
    with suppress(NotFound):
        return {str(servers.binary()): ""}
    return {}


def _of_networks(profile: Profile) -> Mapping[str, str]:
    """Give the programs that make a profile's networks, each with the package that brings it."""
    from dynamos.testbed.guests import PACKAGES  # noqa: PLC0415  Linux only
    from dynamos.testbed.overlays.registry import driver  # noqa: PLC0415

    return {"ip": "iproute2", "nft": "nftables", **PACKAGES, **driver(profile.overlay.driver).capabilities.programs}


def _installed(names: Sequence[str]) -> dict[str, str]:
    """Give the versions of those system packages that are installed."""
    if not names or not shutil.which("dpkg-query"):
        return {}
    text = _told(["dpkg-query", "--show", "--showformat", "${Package} ${Version}\\n", *names], whole=True) or ""
    return {name: version for name, _, version in (line.partition(" ") for line in text.splitlines()) if version}


def _told(argv: Sequence[str], *, whole: bool = False) -> str | None:
    """Give what a program says, its first line unless all of it is wanted; None where it says nothing."""
    with suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(argv, capture_output=True, timeout=_SECONDS, check=False, stdin=subprocess.DEVNULL)
        text = done.stdout.decode(errors="replace").strip()
        if text and (whole or done.returncode == 0):
            return text if whole else text.splitlines()[0]
    return None
