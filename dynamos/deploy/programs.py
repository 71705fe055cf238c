"""The units of a profile as supervised processes: `python -m dynamos.deploy.programs STATE PROFILE` runs them."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from dynamos.deploy import profiles, unit
from dynamos.deploy.forks import leave
from dynamos.deploy.logs import log_json
from dynamos.deploy.processes import Program
from dynamos.deploy.provisioning import CONFIG, Grounds, certify, configure, prepare_grounds
from dynamos.deploy.states import StateFolder, write_private
from dynamos.deploy.supervisor import Prepared, supervise
from dynamos.deploy.units import Unit
from dynamos.kit.credentials import Credentials
from dynamos.kit.errors import BadInput, DynamosError
from dynamos.knowledge import servers
from dynamos.knowledge.permissions import ADMIN, BUS
from dynamos.knowledge.provisioning import provision

FURNISHED = "furnished"
"""The task that makes the data and writes the units' configurations."""
KNOWLEDGE = "knowledge"
"""The task that makes the buckets and logs on the bus."""
SHARED_DATA = "data"
"""Generated data lie beside the testbeds' folders: two testbeds of one marketplace share them."""

_BUS_CONFIG = "bus.json"
_LOOK_SECONDS = 0.2


def prepare(folder: StateFolder, path: Path) -> Prepared:
    """Read the profile, make keys and certificates, and give the programs in the order of their dependence.

    Raises what is wrong with the profile, the marketplace, the folder, or this machine.
    """
    profile = profiles.load(path)
    if profile.name == SHARED_DATA:
        raise BadInput("a profile cannot be called 'data'", where=f"{path} ($.name)", hint="give it another name")
    marketplace = profiles.resolve(profile)
    grounds = prepare_grounds(folder, profile, marketplace)
    certify(grounds)
    programs = (
        _bus(grounds),
        _task(folder, KNOWLEDGE, partial(_provision, grounds), (BUS,)),
        _task(folder, FURNISHED, partial(_furnish, grounds), ()),
        *(_unit(grounds, each) for each in grounds.units() if each.name != BUS),
    )
    return Prepared(marketplace.name, programs, profile.settings.open)


def _unit(grounds: Grounds, each: Unit) -> Program:
    config = grounds.folder.unit(each.name) / CONFIG
    after = tuple(KNOWLEDGE if name == BUS else name for name in each.after)
    log = grounds.folder.unit_log(each.name)
    return Program(
        each.name, each.role, partial(unit.run, each.role, config), log, (*after, FURNISHED, unit.ROLES[each.role][0])
    )


def _bus(grounds: Grounds) -> Program:
    """The NATS server; it is ready when it takes connections."""
    own = grounds.folder.unit(BUS)
    text = servers.config(
        marketplace=grounds.marketplace.name,
        parties=tuple(grounds.marketplace.parties),
        credentials=_credentials(grounds.folder, BUS),
        store=own / "store",
        port=grounds.bus_port,
    )
    write_private(own / _BUS_CONFIG, text)
    command = servers.command(own / _BUS_CONFIG)

    def become(_tell: int) -> int:
        os.execv(command[0], command)  # noqa: S606

    return Program(BUS, "bus", become, grounds.folder.unit_log(BUS), probe=partial(_takes_connections, grounds))


def _takes_connections(grounds: Grounds) -> str | None:
    with socket.socket() as probe:
        probe.settimeout(_LOOK_SECONDS)
        return grounds.bus if probe.connect_ex(("127.0.0.1", grounds.bus_port)) == 0 else None


def _provision(grounds: Grounds) -> None:
    admin = _credentials(grounds.folder, ADMIN)
    asyncio.run(provision(grounds.bus, admin, tuple(grounds.marketplace.parties)))


def _furnish(grounds: Grounds) -> None:
    data = profiles.prepare(grounds.profile, grounds.folder.root.parent / SHARED_DATA / grounds.marketplace.name)
    configure(grounds, data)


def _task(folder: StateFolder, name: str, work: Callable[[], None], after: tuple[str, ...]) -> Program:
    """Give a program that does `work` once, in a process of its own, and tells what went wrong."""
    return Program(name, "task", partial(unit.once, name, work), folder.root / f"{name}.log", after, task=True)


def _credentials(folder: StateFolder, name: str) -> Credentials:
    own = folder.unit(name)
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
