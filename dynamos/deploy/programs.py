"""The units of a profile as supervised processes: `python -m dynamos.deploy.programs STATE PROFILE` runs them."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from dynamos.deploy import networks, profiles, timelines, unit
from dynamos.deploy.forks import HERE, Place, leave
from dynamos.deploy.logs import log_json
from dynamos.deploy.networks import TESTBED
from dynamos.deploy.processes import Program
from dynamos.deploy.provisioning import CONFIG, Grounds, certify, configure, prepare_grounds
from dynamos.deploy.states import StateFolder, write_private
from dynamos.deploy.supervisor import Prepared, supervise
from dynamos.deploy.units import Unit, behind_leaves, sites_with_parties
from dynamos.kit.credentials import Credentials
from dynamos.kit.errors import BadInput, DynamosError
from dynamos.knowledge import leaves, servers
from dynamos.knowledge.leaves import Leaf, remote_of
from dynamos.knowledge.permissions import ADMIN, API, BUS, rights
from dynamos.knowledge.provisioning import provision
from dynamos.middleware.configs import AgentConfig
from dynamos.testbed.chronicles import Chronicle
from dynamos.testbed.wanted import PORTS

FURNISHED = "furnished"
"""The task that makes the data and writes the units' configurations."""
DATA_SECONDS = 90.0
"""Data of ten million rows take seconds to make on a machine that does nothing else, and far more on a busy one."""
KNOWLEDGE = "knowledge"
"""The task that makes the buckets and logs on the bus."""
SHARED_DATA = "data"
"""Generated data lie beside the testbeds' folders: two testbeds of one marketplace share them."""

NETWORKS_SECONDS = 90.0
"""How long sites, links and overlays may take: routing protocols have to find their neighbours, and sites are many."""

_BUS_CONFIG = "bus.json"
_LOOK_SECONDS = 0.2
_SERVERS = ("bus", "leaf")


def prepare(folder: StateFolder, path: Path) -> Prepared:
    """Read the profile, make keys and certificates, and give the programs in the order of their dependence.

    Raises what is wrong with the profile, the marketplace, the folder, or this machine.
    """
    profile = profiles.load(path)
    if profile.name == SHARED_DATA:
        raise BadInput("a profile cannot be called 'data'", where=f"{path} ($.name)", hint="give it another name")
    if profile.driver == "kubernetes":
        hint = f"dynamos stack up {profile.name}, or dynamos manifests {profile.name}"
        raise BadInput("the driver 'kubernetes' is not of this machine", where=f"{path} ($.driver)", hint=hint)
    marketplace = profiles.resolve(profile)
    if profile.driver == "namespaces":
        networks.check_rights()
        networks.check_needs(profile, lambda: profiles.where(path, "overlay", "driver"))
    grounds = prepare_grounds(folder, profile, marketplace)
    certify(grounds)
    if not grounds.own_networks:
        return Prepared(marketplace.name, _told_apart(_programs(grounds)), profile.settings.open)
    world = networks.World(folder, profile)
    world.clear()  # what an earlier life left
    Chronicle(folder.root).clear()
    first = replace(_task(folder, TESTBED, world.bring_up, ()), within=NETWORKS_SECONDS)
    programs = [first, *_programs(grounds, world)]
    if profile.timeline:
        programs.append(timelines.program(folder, profile.timeline, [each.name for each in programs]))
    return Prepared(marketplace.name, _told_apart(programs), profile.settings.open, world.check, world.clear)


def _told_apart(programs: Sequence[Program]) -> tuple[Program, ...]:
    """Raise BadInput where a party has the name of one of the testbed's own programs."""
    counts = Counter(each.name for each in programs)
    for name in (name for name, count in counts.items() if count > 1):
        raise BadInput(f"the name {name!r} is taken", code="name-taken", hint="give this party another name")
    return tuple(programs)


def _programs(grounds: Grounds, world: networks.World | None = None) -> tuple[Program, ...]:
    placed = grounds.placed()
    hub = next(node for node, each in placed if each.name == BUS)
    admin = world.place(hub, reads=lambda: [grounds.folder.unit(ADMIN)]) if world else HERE
    return (
        _task(grounds.folder, KNOWLEDGE, partial(_provision, grounds), (BUS,), admin),
        replace(_task(grounds.folder, FURNISHED, partial(_furnish, grounds), ()), within=DATA_SECONDS),
        *(
            _server(grounds, node, each, world) if each.role in _SERVERS else _unit(grounds, node, each, world)
            for node, each in placed
        ),
    )


def _unit(grounds: Grounds, node: str, each: Unit, world: networks.World | None) -> Program:
    config = grounds.folder.unit(each.name) / CONFIG
    after = [KNOWLEDGE if name == BUS else name for name in each.after]
    after += [KNOWLEDGE, FURNISHED, unit.ROLES[each.role][0], *([TESTBED] if world else [])]
    handed = (_listener(grounds).detach(),) if world and each.name == API else ()
    return Program(
        each.name, each.role, partial(unit.run, each.role, config), grounds.folder.unit_log(each.name),
        tuple(dict.fromkeys(after)), place=_place(grounds, node, each, world), handed=handed,
    )  # fmt: skip


def _listener(grounds: Grounds) -> socket.socket:
    """Give a socket of this machine that the API is handed: so it is reached from here, and needs no way out of its
    node."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", grounds.api_port))
    listener.listen(512)
    return listener


def _server(grounds: Grounds, node: str, each: Unit, world: networks.World | None) -> Program:
    """A NATS server, the hub or a site's leaf; it is ready when it takes connections."""
    own = grounds.folder.unit(each.name)
    text = _hub_config(grounds, each) if each.role == "bus" else _leaf_config(grounds, each)
    write_private(own / _BUS_CONFIG, text)
    command = servers.command(own / _BUS_CONFIG)

    def become(_tell: int) -> int:
        os.execv(command[0], command)  # noqa: S606

    after = (*each.after, *([TESTBED] if world else []))
    probe = partial(world.listens, node, PORTS["bus"]) if world else partial(_takes_connections, grounds)
    log = grounds.folder.unit_log(each.name)
    return Program(each.name, each.role, become, log, after, probe=probe, place=_place(grounds, node, each, world))


def _hub_config(grounds: Grounds, each: Unit) -> str:
    own = grounds.folder.unit(each.name)
    behind = [name for names in behind_leaves(grounds.profile).values() for name in names]
    return servers.config(
        marketplace=grounds.marketplace.name,
        parties=tuple(grounds.marketplace.parties),
        credentials=_credentials(own),
        store=own / "store",
        host=each.hosts[0] if each.hosts else "127.0.0.1",
        port=PORTS["bus"] if each.hosts else grounds.bus_port,
        sites=sites_with_parties(grounds.profile),
        behind=behind,
        leaf_port=PORTS["leaf"],
    )


def _leaf_config(grounds: Grounds, each: Unit) -> str:
    own = grounds.folder.unit(each.name)
    site = next(s for s in grounds.profile.sites if leaves.server_of(s) == each.name)
    hub = next(other for _, other in grounds.placed() if other.name == BUS)
    units = {name: _credentials(own / remote_of(name)) for name in each.speaks_for}
    leaf = Leaf(site, each.hosts[0], PORTS["bus"], _credentials(own), units)
    table = rights(grounds.marketplace.parties, sites_with_parties(grounds.profile))
    where = f"{hub.hosts[0]}:{PORTS['leaf']}"
    return leaves.config(leaf, marketplace=grounds.marketplace.name, table=table, hub=where)


def _place(grounds: Grounds, node: str, each: Unit, world: networks.World | None) -> Place:
    if world is None:
        return HERE
    own = grounds.folder.unit(each.name)

    def reads() -> list[Path]:
        """Where the data lie is known once they have been made: the agent's configuration tells."""
        if not isinstance(each.config, AgentConfig):
            return list(each.reads)
        return [_agent_config(own).data, *each.reads]

    return world.place(node, reads=reads, writes=(own, *each.writes))


def _agent_config(own: Path) -> AgentConfig:
    config = unit.read_config("agent", own / CONFIG)
    assert isinstance(config, AgentConfig)
    return config


def _takes_connections(grounds: Grounds) -> str | None:
    with socket.socket() as probe:
        probe.settimeout(_LOOK_SECONDS)
        return grounds.bus if probe.connect_ex(("127.0.0.1", grounds.bus_port)) == 0 else None


def _provision(grounds: Grounds) -> None:
    admin = _credentials(grounds.folder.unit(ADMIN))
    hub = next(each for _, each in grounds.placed() if each.name == BUS)
    url = f"tls://{hub.hosts[0]}:{PORTS['bus']}" if hub.hosts else grounds.bus
    asyncio.run(provision(url, admin, tuple(grounds.marketplace.parties)))


def _furnish(grounds: Grounds) -> None:
    configure(grounds, profiles.prepare(grounds.profile, _shared_data(grounds)))


def _shared_data(grounds: Grounds) -> Path:
    return grounds.folder.root.parent / SHARED_DATA / grounds.marketplace.name


def _task(
    folder: StateFolder, name: str, work: Callable[[], None], after: tuple[str, ...], place: Place = HERE
) -> Program:
    """Give a program that does `work` once, in a process of its own, and tells what went wrong."""
    return Program(
        name, "task", partial(unit.once, name, work), folder.root / f"{name}.log", after, task=True, place=place
    )


def _credentials(own: Path) -> Credentials:
    return Credentials(own / "certificate.pem", own / "key.pem", own / "authority.pem")


def main() -> None:
    """Run from the command line: STATE is the testbed's own folder, PROFILE the file."""
    state, profile = (Path(word) for word in sys.argv[1:3])
    log_json()
    code = 0
    try:
        supervise(StateFolder(state), profile, prepare)
    except DynamosError as error:
        code = error.exit
    leave(code)


if __name__ == "__main__":
    main()
