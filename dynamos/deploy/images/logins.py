"""Logins at registries: from the environment, or from where `docker login` and `podman login` leave them."""

from __future__ import annotations

import base64
import binascii
import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dynamos.deploy.states import explained
from dynamos.kit.errors import BadInput, NotFound, Unavailable

USER, PASSWORD = "DYNAMOS_REGISTRY_USER", "DYNAMOS_REGISTRY_PASSWORD"
HELPER_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Login:
    """A name and a password, or a token that stands for both."""

    user: str
    password: str = field(repr=False)

    def basic(self) -> str:
        """Give the header of basic authentication."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def find(registry: str, environment: Mapping[str, str] = os.environ) -> Login | None:
    """Give the login for a registry (host[:port][/path]), or None where there is none.

    Raises BadInput for a file that cannot be understood, NotFound and Unavailable for a helper that fails.
    """
    if user := environment.get(USER):
        if PASSWORD not in environment:
            raise BadInput(f"{USER} is set, {PASSWORD} is not")
        return Login(user, environment[PASSWORD])
    for path in _files(environment):
        if path.is_file() and (found := _in_file(path, registry)):
            return found
    return None


def _files(environment: Mapping[str, str]) -> list[Path]:
    home = Path(environment.get("HOME") or "~").expanduser()
    found = [Path(environment["REGISTRY_AUTH_FILE"])] if environment.get("REGISTRY_AUTH_FILE") else []
    if runtime := environment.get("XDG_RUNTIME_DIR"):
        found.append(Path(runtime) / "containers/auth.json")
    return [*found, Path(environment.get("DOCKER_CONFIG") or home / ".docker") / "config.json"]


def _in_file(path: Path, registry: str) -> Login | None:
    with explained(path):
        text = path.read_bytes()
    try:
        told: dict[str, Any] = json.loads(text)
        auths, helpers = told.get("auths") or {}, told.get("credHelpers") or {}
        host = registry.partition("/")[0]
        if helper := helpers.get(host):
            return _ask(str(helper), host)
        known = {key.removeprefix("https://").rstrip("/"): entry for key, entry in auths.items()}
        near = [key for key in known if registry == key or registry.startswith(f"{key}/")]
        if near and (found := _entry(known[max(near, key=len)])):
            return found
        store = told.get("credsStore")
        return _ask(str(store), host) if store and near else None
    except (ValueError, AttributeError, TypeError, binascii.Error):
        raise BadInput("this file of logins cannot be understood", where=str(path), hint="docker login") from None


def _entry(entry: Mapping[str, str]) -> Login | None:
    if auth := entry.get("auth"):
        user, colon, password = base64.b64decode(auth, validate=True).decode().partition(":")
        if not colon:
            raise ValueError
        return Login(user, password)
    return Login(entry["username"], entry["password"]) if {"username", "password"} <= entry.keys() else None


def _ask(helper: str, host: str) -> Login | None:
    """Ask a helper program for the login at a host."""
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            (program, "get"), input=host, capture_output=True, text=True, timeout=HELPER_SECONDS, check=False
        )
    except FileNotFoundError:
        raise NotFound(f"{program} is not installed", hint=f"it keeps the login at {host}") from None
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{program} did not answer within {HELPER_SECONDS:g} s") from None
    if done.returncode:
        if "not found" in (done.stdout + done.stderr).lower():
            return None
        raise Unavailable(f"{program} failed: {(done.stdout or done.stderr).strip()}")
    told = json.loads(done.stdout)
    return Login(told["Username"], told["Secret"])
