"""Make what the units of a testbed need before they start: keys, certificates, configurations, each in its own folder.

Everything is made on the first start and kept; a certificate is renewed when its end comes near.
"""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dynamos.deploy.states import StateFolder, explain, explained, private_folder, write_private
from dynamos.deploy.units import AUTHORITY, CERTIFICATE, EDGE, JWKS, KEY, SIGNER, Places, Unit, units
from dynamos.kit.errors import Conflict, NotFound
from dynamos.knowledge.leaves import remote_of
from dynamos.knowledge.permissions import ADMIN, API, ORCHESTRATOR
from dynamos.middleware.identity.authority import LOCAL_HOSTS, Authority, renewal_due, serves_at
from dynamos.middleware.identity.tokens import DevelopmentIssuer
from dynamos.model.marketplaces import Marketplace
from dynamos.model.profiles import Profile

CONFIG = "config.json"
TOKEN_SECONDS = 3600.0
_LOOPBACK = "127.0.0.1"
_FOR_TOKENS = "tokens.json"


@dataclass(frozen=True, slots=True)
class Grounds:
    """What a testbed stands on: its folder, what is to run there, and the ports that it takes."""

    folder: StateFolder
    profile: Profile
    marketplace: Marketplace
    bus_port: int
    api_port: int

    @property
    def bus(self) -> str:
        """Where the bus is on this machine, for a testbed without networks of its own."""
        return f"tls://{_LOOPBACK}:{self.bus_port}"

    @property
    def own_networks(self) -> bool:
        """Whether units live on nodes of their own."""
        return self.profile.driver != "processes"

    def placed(self, data: Mapping[str, Path] | None = None) -> list[tuple[str, Unit]]:
        """Give the units in the order of their start, each with its node; agents find their party's data where `data`
        says."""
        places = Places(self.folder.root / "units", data or {}, self.bus, self.api_port, self.folder.world)
        found = units(self.profile, self.marketplace, places)
        return [(node, unit) for node, each in found.items() for unit in each]

    def units(self, data: Mapping[str, Path] | None = None) -> list[Unit]:
        """Give the units of all nodes."""
        return [unit for _, unit in self.placed(data)]


def prepare_grounds(folder: StateFolder, profile: Profile, marketplace: Marketplace) -> Grounds:
    """Choose the ports. Raises Conflict where the profile names one that is taken."""
    api_port = profile.settings.api_port or free_port(preferred=_last_api_port(folder))
    if profile.settings.api_port:
        check_port(api_port)
    return Grounds(folder, profile, marketplace, free_port(), api_port)


def certify(grounds: Grounds) -> None:
    """Make the folder of each unit with its certificate and key, and the issuer of tokens.

    Raises Conflict where the state is another marketplace's, BadInput and Full for the folder itself.
    """
    folder = grounds.folder
    all_units = grounds.units()
    with explained(folder.root):
        authority = _authority(folder, grounds.marketplace.name)
        _issuer(folder, grounds.marketplace)
        _certify(authority, ADMIN, folder.unit(ADMIN))
        for unit in all_units:
            _certify(authority, unit.name, folder.unit(unit.name), unit.hosts)
            for other in unit.speaks_for:
                _certify(authority, remote_of(other), folder.unit(unit.name) / remote_of(other))
        _forget_others(folder, {ADMIN, *(unit.name for unit in all_units)})


def configure(grounds: Grounds, data: Mapping[str, Path]) -> None:
    """Put into each unit's folder its configuration and the keys that it checks others with, and nothing else."""
    folder = grounds.folder
    jwks = DevelopmentIssuer.load(folder.issuer).jwks.read_text(encoding="utf-8")
    edge = (folder.unit(API) / CERTIFICATE).read_text(encoding="utf-8")
    signer = (folder.unit(ORCHESTRATOR) / CERTIFICATE).read_text(encoding="utf-8")
    with explained(folder.root):
        for unit in grounds.units(data):
            own = folder.unit(unit.name)
            texts = {JWKS: jwks, SIGNER: signer, EDGE: edge}
            for name in texts.keys() & set(unit.files):
                write_private(own / name, texts[name])
            if unit.config:
                write_private(own / CONFIG, unit.config.model_dump_json(by_alias=True, exclude_none=True))


def token_for(folder: StateFolder, user: str, *, ttl: float = TOKEN_SECONDS, operates: bool = False) -> str:
    """Give a token of the testbed's own issuer. Raises NotFound where the testbed has not been up yet.

    Who `operates` the testbed is an admin of the marketplace, and of no party.
    """
    try:
        facts = json.loads((folder.issuer / _FOR_TOKENS).read_bytes())
    except FileNotFoundError:
        hint = "dynamos up makes one"
        raise NotFound("this testbed has no issuer of tokens", where=str(folder.issuer), hint=hint) from None
    except PermissionError as error:
        raise explain(error, folder.issuer) from error
    issuer = DevelopmentIssuer.load(folder.issuer)
    admin_of = (facts["audience"],) if operates else tuple(facts["adminOf"].get(user, ()))
    return issuer.token(user, ttl=ttl, audience=facts["audience"], admin_of=admin_of)


def known_users(folder: StateFolder) -> list[str]:
    """Give the users that the marketplace names."""
    try:
        return list(json.loads((folder.issuer / _FOR_TOKENS).read_bytes())["users"])
    except FileNotFoundError:
        return []


def free_port(*, preferred: int = 0) -> int:
    """Give a port that nobody listens on: the preferred one if it is free."""
    for port in dict.fromkeys((preferred, 0)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_LOOPBACK, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise Conflict("this machine has no free port", where=_LOOPBACK)


def check_port(port: int) -> None:
    """Raise Conflict where somebody listens on the port already."""
    if free_port(preferred=port) != port:
        hint = "stop what listens there, or give settings.apiPort another number (0 takes a free one)"
        raise Conflict(f"port {port} is in use", where="settings.apiPort", hint=hint)


def _last_api_port(folder: StateFolder) -> int:
    status = folder.read_status()
    port = status.api.rpartition(":")[2] if status else ""
    return int(port) if port.isdigit() else 0


def _authority(folder: StateFolder, marketplace: str) -> Authority:
    try:
        authority = Authority.load(folder.authority)
    except NotFound:
        return Authority.create(folder.authority, marketplace)
    if authority.marketplace != marketplace:
        raise Conflict(
            f"this state is of the marketplace {authority.marketplace!r}, not {marketplace!r}",
            where=str(folder.root),
            hint="dynamos down --purge removes it, or give the profile another name",
        )
    return authority


def _issuer(folder: StateFolder, marketplace: Marketplace) -> DevelopmentIssuer:
    try:
        issuer = DevelopmentIssuer.load(folder.issuer)
    except NotFound:
        issuer = DevelopmentIssuer.create(folder.issuer)
    admin_of: dict[str, list[str]] = {}
    for party in marketplace.parties.values():
        for user in party.admins:
            admin_of.setdefault(user, []).append(party.name)
    facts = {"audience": marketplace.name, "users": list(marketplace.users), "adminOf": admin_of}
    write_private(folder.issuer / _FOR_TOKENS, json.dumps(facts))
    return issuer


def _certify(authority: Authority, name: str, folder: Path, hosts: tuple[str, ...] = ()) -> None:
    """Give a unit its certificate, unless it has one that is good for these addresses too and for long enough."""
    private_folder(folder)
    held = all((folder / file).exists() for file in (CERTIFICATE, KEY, AUTHORITY))
    if not held or renewal_due(folder / CERTIFICATE) or not serves_at(folder / CERTIFICATE, hosts):
        authority.issue(name, folder, hosts=(*LOCAL_HOSTS, *hosts))


def _forget_others(folder: StateFolder, names: set[str]) -> None:
    """Remove the folders of units that the marketplace no longer has: their keys are nobody's."""
    for path in (folder.root / "units").iterdir():
        if path.name not in names:
            shutil.rmtree(path)
