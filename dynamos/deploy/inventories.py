"""Inventories: a profile's nodes as Ansible sees them, with what runs on each, from the units (see `units`).

Nodes are those of a live testbed, or of a stack by its outputs. On each node a unit serves the machine as a world
serves its nodes (see `testbed.machines`), so that overlays and network helpers work there as they do in a world.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dynamos.deploy import places, profiles
from dynamos.deploy.states import StateFolder
from dynamos.deploy.units import AUTHORITY, CERTIFICATE, KEY, Places, Unit, sites_with_parties, units
from dynamos.jobs.zygotes import ONE_THREAD
from dynamos.kit.credentials import Credentials, dns_name
from dynamos.kit.digests import digest
from dynamos.kit.errors import BadInput, NotFound
from dynamos.knowledge import leaves, servers
from dynamos.knowledge.leaves import Leaf, remote_of, server_of
from dynamos.knowledge.permissions import ADMIN, API, BUS, rights
from dynamos.middleware.configs import AgentConfig, ApiConfig, HelperConfig
from dynamos.model.marketplaces import Marketplace
from dynamos.model.overheads import TRAITS
from dynamos.model.profiles import Profile
from dynamos.model.sites import host_name
from dynamos.testbed.items import Container, Overlay
from dynamos.testbed.overlays.registry import driver
from dynamos.testbed.ssh import SshAccess
from dynamos.testbed.wanted import PORTS, wanted
from dynamos.testbed.worlds import NODES, World

HOME = Path("/var/lib/dynamos")
WORLD = HOME / "world"
DESKS = HOME / "desks"
LOGS = Path("/var/log/dynamos")
GAUGES_PORT = 9464
"""Where a node serves metrics of its units, on its loopback device."""
PROGRAM = Path("/opt/dynamos/current/bin")
LOOPBACK = "127.0.0.1"
USER_LIMIT = 32
MACHINE, GAUGES = "node.machine", "node.metrics"
"""The unit, on each node with parties, that containers and daemons of overlays live under; and the one that serves
metrics of the units. No party can be called so, for the dot."""
DOOR = "node.door"
"""The unit that keeps the API's socket."""
DRAIN = 30.0
"""Seconds that a unit may take after SIGTERM to finish what it has begun."""
_STORE = "store"
_SERVERS = ("bus", "leaf")
_READY = {"bus": "Server is ready", "leaf": "Server is ready"}
_SAYS_ADDRESS = '^{"address"'


@dataclass(frozen=True, slots=True)
class Reached:
    """How the controller gets to one node: variables of Ansible's connection."""

    node: str
    site: str
    connection: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Inventory:
    """Groups with their hosts, variables of hosts, and those of all."""

    groups: Mapping[str, tuple[str, ...]]
    hosts: Mapping[str, Mapping[str, Any]]
    shared: Mapping[str, Any]


def inventory(name: str | Path, nodes: Iterable[Reached], control: Path, *, overlay: str = "") -> Inventory:
    """Give the inventory of a profile, by name or path, on these nodes. `control` is the folder of the controller's own
    state; `overlay` is another driver of overlays than the profile's, with that driver's own options.

    Raises BadInput where a node of the profile is missing, or where the profile has no nodes.
    """
    file = places.profile_file(name)
    profile = _with_driver(profiles.load(file), overlay)
    marketplace = profiles.resolve(profile)
    if profile.driver in ("processes", "kubernetes"):
        verb = "up" if profile.driver == "processes" else "stack up"
        hint = f"dynamos {verb} runs it; a profile with driver: namespaces or ssh has nodes"
        raise BadInput(f"the profile {profile.name!r} has no nodes to set up", where="$.driver", hint=hint)
    reached = {each.node: each for each in nodes}
    placed = _placed(profile, marketplace)
    wanted = {host_name(node): site.name for site in profile.sites.values() for node in site.nodes}
    if missing := sorted(wanted.keys() - reached.keys()):
        there = ", ".join(sorted(reached)) or "none"
        hint = "bring the whole testbed up, then run the playbook again"
        raise BadInput(f"nodes are missing: {', '.join(missing)}; there: {there}", where=profile.name, hint=hint)
    _check_helpers(profile)
    hosts = {
        node: {
            **reached[node].connection,
            "dynamos_site": site,
            "dynamos_units": [
                *_machine_unit(profile, node),
                *(made for each in placed.get(node, ()) for made in _made(profile, marketplace, each)),
                _gauges_unit(profile, node, placed.get(node, ())),
            ],
            "dynamos_overlays": _overlays(profile, node),
            "dynamos_identities": [_seen(identity) for each in placed.get(node, ()) for identity in _identities(each)],
        }
        for node, site in wanted.items()
    }
    shared = {
        "dynamos_marketplace": marketplace.name,
        "dynamos_profile": profile.name,
        "dynamos_profile_file": str(file.resolve()),
        "dynamos_parties": sorted(marketplace.parties),
        "dynamos_control": str(control),
        "dynamos_home": str(HOME),
        "dynamos_overlay": _overlay(profile),
        "dynamos_metrics_port": GAUGES_PORT,
        "dynamos_api_port": profile.settings.api_port or PORTS["api"],
        "dynamos_bus": _hub(placed),
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    return Inventory(_groups(marketplace, wanted, placed), hosts, shared)


def live(state: Path, name: str | Path, *, overlay: str = "") -> Inventory:
    """Give the inventory of a testbed that is up, from its state folder. Raises NotFound where it is not up."""
    folder = StateFolder(state.resolve())
    world = World.find(folder.world) or World.find(folder.root)
    if world is None:
        raise NotFound("the testbed is not up", where=str(state), hint="dynamos up, or pulumi up")
    nodes = world.nodes()
    config = SshAccess(world.folder).offer(nodes)
    ours = hashlib.sha256(f"{world.folder} {world.pid}".encode()).hexdigest()[:12]
    way = {
        "ansible_ssh_common_args": f'-F "{config}"',
        # Two testbeds have nodes of the same names: a connection that is kept must be this one's.
        "ansible_control_path_dir": f"~/.ansible/cp/{ours}",
    }
    reached = [Reached(node.name, node.site, {"ansible_host": node.name, **way}) for node in nodes]
    return inventory(name, reached, folder.root, overlay=overlay)


def from_outputs(outputs: Path, name: str | Path, control: Path, *, overlay: str = "") -> Inventory:
    """Give the inventory of a stack, from the JSON of `pulumi stack output --json`: its `inventory` is the file that
    says which nodes there are and how they are reached, or what is in it.

    Raises BadInput where the JSON is something else, NotFound where there is no such file.
    """
    try:
        told = json.loads(outputs.read_bytes())["inventory"]
        told = Path(told).read_bytes() if isinstance(told, str) and told.startswith("/") else told
        everybody = (json.loads(told) if isinstance(told, str | bytes) else told)["all"]
        shared = _connection(everybody.get("vars", {}))
        reached = [
            Reached(node, str(each["dynamos_site"]), {**shared, **_connection(each)})
            for node, each in everybody["hosts"].items()
        ]
    except FileNotFoundError:
        raise NotFound("there is no such file", where=str(outputs)) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        hint = "pulumi stack output --json > FILE"
        raise BadInput(f"these are not a stack's outputs: {error!r}", where=str(outputs), hint=hint) from None
    return inventory(name, reached, control.resolve(), overlay=overlay)


def _with_driver(profile: Profile, overlay: str) -> Profile:
    """Give the profile with another driver of overlays. Raises BadInput for one that is not known."""
    if overlay in ("", profile.overlay.driver):
        return profile
    told = {**profile.as_json(), "overlay": {"driver": overlay, "scope": profile.overlay.scope}}
    try:
        return Profile.model_validate(told)
    except ValidationError:
        known = ", ".join(TRAITS)
        raise BadInput(f"no overlay has the driver {overlay!r}", where="overlay", hint=f"known: {known}") from None


def _check_helpers(profile: Profile) -> None:
    """Raise BadInput where a site has parties on several nodes: its network helper works on its own node only."""
    for site in profile.sites.values():
        nodes = {host_name(site.node_of(party).name) for party in site.parties}
        if len(nodes) > 1:
            hint = "give each of these nodes a site of its own, or run it with `dynamos up`"
            what = f"the site {site.name!r} has parties on {len(nodes)} nodes, and Ansible serves one at each site"
            raise BadInput(what, where=f"$.sites.{site.name}.nodes", hint=hint)


def _connection(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if name.startswith("ansible_")}


def _placed(profile: Profile, marketplace: Marketplace) -> dict[str, list[Unit]]:
    """Give the units that run on nodes, by node."""
    data = {party: HOME / "data" / party for party in marketplace.parties}
    port = profile.settings.api_port or PORTS["api"]
    return units(profile, marketplace, Places(HOME / "units", data, api_port=port, world=WORLD))


def _machine(node: str) -> Path:
    """Give the folder in which a node is served, which is where a world has that of its nodes."""
    return WORLD / NODES / node


def _machine_unit(profile: Profile, node: str) -> Iterator[dict[str, Any]]:
    """Give the unit that containers live under, where parties have containers on this node."""
    names = [each.name for each in wanted(profile).of(Container).values() if each.node == node]
    if not names:
        return
    config = {"folder": str(_machine(node)), "containers": names}
    made = _own_unit(MACHINE, "machine", "root", "dynamos.testbed.machines", config)
    yield {**made, "rights": "all", "pinned": True}


def _gauges_unit(profile: Profile, node: str, beside: Iterable[Unit]) -> dict[str, Any]:
    """Give the unit that serves metrics of those beside it, on the node's loopback device."""
    doors = [DOOR for each in beside if isinstance(each.config, ApiConfig)]
    names = [*(each["name"] for each in _machine_unit(profile, node)), *(each.name for each in beside), *doors]
    config = {"units": names, "folder": str(HOME / "units"), "logs": str(LOGS), "port": GAUGES_PORT}
    return _own_unit(GAUGES, "metrics", user_of(GAUGES), "dynamos.deploy.gauges", config)


def _own_unit(name: str, role: str, user: str, module: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Give a unit that only nodes have, as the roles take it: a module that reads its configuration."""
    folder = HOME / "units" / name
    return {
        "name": name,
        "role": role,
        "user": user,
        "folder": str(folder),
        "data": "",
        "config": json.dumps(config, indent=2) + "\n",
        "files": [],
        "command": [str(PROGRAM / "python"), "-m", module, str(folder / "config.json")],
        "ready": _SAYS_ADDRESS,
        "environment": {},
        "jobs": False,
        "rights": "",
    }


def _overlays(profile: Profile, node: str) -> list[dict[str, Any]]:
    """Give the overlays that stay, of those that the node has a seat in."""
    found = wanted(profile).of(Overlay).values()
    return [each.as_json() for each in found if any(seat.node == node for seat in each.seats)]


def _networks(profile: Profile) -> str:
    """Give a digest of the networks that parties exchange rows in."""
    told = [each.as_json() for each in wanted(profile).of(Overlay).values()]
    return digest([profile.overlay.as_json(), told])[:16]


def _overlay(profile: Profile) -> dict[str, Any]:
    """Give what all nodes know of overlays: the driver, the scope, and what each program is installed from."""
    name = profile.overlay.driver
    programs = {**driver(name).capabilities.programs, "nft": "nftables", "ip": "iproute2"}
    return {"driver": name, "scope": profile.overlay.scope, "programs": programs, "world": str(WORLD / NODES)}


def _made(profile: Profile, marketplace: Marketplace, unit: Unit) -> Iterator[dict[str, Any]]:
    """Give a unit as the roles take it, after the door that it answers at, where it has one."""
    made = _unit(profile, marketplace, unit)
    if isinstance(unit.config, ApiConfig):
        yield _door(unit.config, made["user"])
    yield made


def _door(config: ApiConfig, user: str) -> dict[str, Any]:
    """Give the unit that keeps the API's socket while the API is restarted: it runs as the API's user."""
    door = {"name": DOOR, "host": LOOPBACK, "port": config.port}
    return {**_own_unit(DOOR, "door", user, "dynamos.kit.doors", door), "pinned": True}


def _unit(profile: Profile, marketplace: Marketplace, unit: Unit) -> dict[str, Any]:
    """Give a unit as the roles take it."""
    folder = HOME / "units" / unit.name
    serves = unit.role in _SERVERS
    config = str(folder / "config.json")
    command = [str(PROGRAM / "nats-server"), "--config", config]
    if not serves:
        command = [str(PROGRAM / "python"), "-m", "dynamos.deploy.unit", unit.role, config]
    return {
        "name": unit.name,
        "role": unit.role,
        "user": _runs_as(unit),
        "folder": str(folder),
        "data": str(unit.config.data) if isinstance(unit.config, AgentConfig) else "",
        # A text: Ansible looks for templates in every member of a structure, and these are large.
        "config": _server_config(profile, marketplace, unit, folder) if serves else _config(unit),
        "files": [name for name in unit.files if name not in (CERTIFICATE, KEY, AUTHORITY)],
        "command": command,
        "ready": _READY.get(unit.role, _SAYS_ADDRESS),
        # A zygote is forked before the first thread is started: libraries must not start any when they are loaded. An
        # agent takes streams where its container is, so that it is started anew where the networks are others.
        "environment": {**ONE_THREAD, "DYNAMOS_NETWORKS": _networks(profile)} if unit.role == "agent" else {},
        "jobs": unit.role == "agent",
        # An agent's nursery enters containers; the agent itself gives this up as soon as it has one.
        "rights": {"agent": "sys_admin", "network": "all"}.get(unit.role, ""),
    }


def _config(unit: Unit) -> str:
    """Give a unit's configuration on a node, where every agent is a user of its own."""
    config = unit.config
    if isinstance(config, AgentConfig):
        config = config.model_copy(update={"desk": DESKS / config.name})
    elif isinstance(config, HelperConfig):
        parties = config.profile.sites[config.site].parties
        config = config.model_copy(update={"desks": DESKS, "users": {each: user_of(each) for each in parties}})
    elif isinstance(config, ApiConfig):
        config = config.model_copy(update={"descriptor": -1, "host": LOOPBACK, "door": DOOR})
    assert config is not None, "a unit that is no server has a configuration"
    config = config.model_copy(update={"drain": DRAIN})
    return json.dumps(config.as_json(), indent=2, sort_keys=True) + "\n"


def _server_config(profile: Profile, marketplace: Marketplace, unit: Unit, folder: Path) -> str:
    """Give the configuration of a server of the bus."""
    parties = tuple(marketplace.parties)
    placed = _placed(profile, marketplace)
    if unit.role == "bus":
        text = servers.config(
            marketplace=marketplace.name,
            parties=parties,
            credentials=_credentials(folder),
            store=folder / _STORE,
            port=PORTS["bus"],
            host=unit.hosts[0],
            sites=sites_with_parties(profile),
            behind=[each for units in placed.values() for leaf in units for each in leaf.speaks_for],
            leaf_port=PORTS["leaf"],
        )
    else:
        site = unit.name.removeprefix(server_of(""))
        speaks_for = {each: _credentials(folder / remote_of(each)) for each in unit.speaks_for}
        leaf = Leaf(site, unit.hosts[0], PORTS["bus"], _credentials(folder), speaks_for)
        hub = f"{_hub_address(placed)}:{PORTS['leaf']}"
        table = rights(parties, sites_with_parties(profile))
        text = leaves.config(leaf, marketplace=marketplace.name, table=table, hub=hub)
    return text


def _identities(unit: Unit) -> list[tuple[str, Path, tuple[str, ...], str]]:
    """Give the names that a unit needs certificates for, each with its folder, the addresses and the owner."""
    folder, user = HOME / "units" / unit.name, _runs_as(unit)
    found = [(unit.name, folder, unit.hosts, user)]
    if isinstance(unit.config, AgentConfig):
        found = [(unit.name, folder, (unit.config.host,), user)]
    elif isinstance(unit.config, ApiConfig):
        found = [(unit.name, folder, (unit.config.gateway,), user)]
    found += [(remote_of(each), folder / remote_of(each), (), user) for each in unit.speaks_for]
    if unit.name == BUS:
        found.append((ADMIN, HOME / "units" / ADMIN, (), user))
    return found


def _seen(identity: tuple[str, Path, tuple[str, ...], str]) -> dict[str, Any]:
    name, folder, hosts, user = identity
    return {"name": name, "folder": str(folder), "hosts": [host for host in hosts if host], "user": user}


def _runs_as(unit: Unit) -> str:
    """Give the user of a unit: the network helper changes networks, which only root may."""
    return "root" if unit.role == "network" else user_of(unit.name)


def user_of(unit: str) -> str:
    """Give the system user that a unit runs as: no two units share one."""
    name = f"dynamos-{dns_name(unit)}"
    return (
        name if len(name) <= USER_LIMIT else f"{name[: USER_LIMIT - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    )


def _groups(
    marketplace: Marketplace, wanted: Mapping[str, str], placed: Mapping[str, list[Unit]]
) -> dict[str, tuple[str, ...]]:
    groups: dict[str, list[str]] = {"control": [], "provider": [], "compute": []}
    named = {party for each in marketplace.agreements.values() for party in each.compute_providers}
    for node, site in wanted.items():
        groups.setdefault(f"site_{_word(site)}", []).append(node)
        for unit in placed.get(node, ()):
            if unit.name in (BUS, API) and node not in groups["control"]:
                groups["control"].append(node)
            if unit.role == "agent":
                party = marketplace.parties[unit.name]
                groups.setdefault(f"party_{_word(unit.name)}", []).append(node)
                for role in ("provider",) * bool(party.data) + ("compute",) * (unit.name in named):
                    if node not in groups[role]:
                        groups[role].append(node)
    return {name: tuple(each) for name, each in groups.items()}


def _hub_address(placed: Mapping[str, list[Unit]]) -> str:
    return next(unit.hosts[0] for each in placed.values() for unit in each if unit.name == BUS)


def _hub(placed: Mapping[str, list[Unit]]) -> str:
    return f"tls://{_hub_address(placed)}:{PORTS['bus']}"


def _word(name: str) -> str:
    """Give a name as Ansible's groups have them: letters, digits and '_'."""
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in name)


def _credentials(folder: Path) -> Credentials:
    return Credentials(folder / CERTIFICATE, folder / KEY, folder / AUTHORITY)
