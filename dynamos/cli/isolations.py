"""Isolation of a testbed that is on a cluster: how the command line has it proven, and what it says of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING

from dynamos.cli import targets
from dynamos.cli.sweeps import interruptible
from dynamos.kit.errors import BadInput, Conflict, TimedOut
from dynamos.testbed.locks import locked

if TYPE_CHECKING:
    from dynamos.deploy.states import StateFolder
    from dynamos.testbed.proofs.findings import Finding

_LOCK_SECONDS = 0.2
_LAST_PORT = 65535


def proven(folder: StateFolder, internet: str, told: Callable[[str], None]) -> Finding:
    """Prove the isolation of a testbed on a cluster. Ctrl-C and SIGTERM end it with nothing left.

    Raises BadInput for the address, Conflict where a proof of the testbed is under way, and as `proving.prove` does.
    """
    beyond = place(internet)
    reach = targets.reach_of(folder)
    from dynamos.deploy.kubernetes.kubectls import Kubectl
    from dynamos.deploy.kubernetes.proving import prove

    try:
        with locked(folder.root / "proof", within=_LOCK_SECONDS), interruptible():
            return prove(Kubectl(reach.kubeconfig, reach.context), reach.namespace, beyond, told)
    except TimedOut as error:
        if error.where != str(folder.root / "proof"):
            raise
        raise Conflict("a proof of this testbed is under way", where=folder.root.name, hint="wait for it") from None


def place(text: str) -> tuple[str, int]:
    """Read ADDRESS:PORT. Raises BadInput, also for a name: those who knock may find none."""
    address, _, port = text.rpartition(":")
    with suppress(ValueError):
        found = str(ip_address(address.removeprefix("[").removesuffix("]")))
        if 0 < int(port) <= _LAST_PORT:
            return found, int(port)
    raise BadInput(f"{text!r} is not the address and port of a server", hint="--internet 1.1.1.1:443")


def print_untold(found: Finding) -> None:
    """Print at what knocking told nothing."""
    from dynamos.cli.shows import print_table

    if found.untold:
        print()
        rows = [[each.target.name, each.target.address, each.target.protocol, each.target.port, each.tries, each.why]
                for each in found.untold]  # fmt: skip
        columns = ("nothing can be told of", "address", "by", "port", "tries", "why")
        print_table(columns, rows)
