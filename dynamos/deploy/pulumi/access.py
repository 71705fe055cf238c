"""Access: the files by which ssh and Ansible reach a testbed's nodes, and machines that exist, as resources."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pulumi.dynamic import CheckFailure, CheckResult, CreateResult, DiffResult, ReadResult, UpdateResult

from dynamos.deploy.pulumi.inventories import reached
from dynamos.deploy.pulumi.machines import Machine
from dynamos.deploy.pulumi.providers import FOLDER, ON, Properties, Quiet
from dynamos.deploy.pulumi.works import Works
from dynamos.kit.errors import DynamosError

INVENTORY_FILE, SSH_CONFIG_FILE = "inventory.json", "ssh_config"
MACHINES, INVENTORY, SSH_CONFIG, INVENTORY_PATH = "machines", "inventory", "ssh_config", "inventory_path"


class AccessProvider(Quiet):
    """Opens the nodes to ssh and writes ssh's configuration and Ansible's inventory. With `machines` they exist
    already, and only the files are written."""

    def create(self, props: Properties) -> CreateResult:
        return CreateResult("access", _opened(props))

    def read(self, id_: str, props: Properties) -> ReadResult:
        """Without its files, or the world that they lead into, there is no access."""
        files = (Path(props.get(SSH_CONFIG, "")), Path(props.get(INVENTORY_PATH, "")))
        there = all(file.is_file() for file in files)
        if there and not props.get(MACHINES):
            there = Works(Path(props[FOLDER])).alive
        return ReadResult(id_, _own(props)) if there else ReadResult("", {})

    def diff(self, _id: str, olds: Properties, news: Properties) -> DiffResult:
        wanted = (FOLDER, ON, INVENTORY, MACHINES)
        return DiffResult(changes=any(olds.get(name) != news.get(name) for name in wanted), replaces=[])

    def update(self, _id: str, _olds: Properties, news: Properties) -> UpdateResult:
        return UpdateResult(_opened(news))

    def delete(self, _id: str, props: Properties) -> None:
        """Remove the files."""
        folder = Path(props[FOLDER])
        Works(folder).close_ssh()
        for name in (INVENTORY_FILE, SSH_CONFIG_FILE):
            (folder / name).unlink(missing_ok=True)


class MachineProvider(Quiet):
    """A machine that exists: it is asked who it is, and never made, changed or removed."""

    def check(self, _olds: Properties, news: Properties) -> CheckResult:
        identity = news.get("identity")
        if identity and not Path(identity).is_file():
            return CheckResult(news, [CheckFailure("identity", f"there is no file {identity!r}")])
        return CheckResult(news, [])

    def create(self, props: Properties) -> CreateResult:
        return CreateResult(f"machine/{props['name']}", {**_own(props), **_machine(props).ask(), "reached": True})

    def read(self, id_: str, props: Properties) -> ReadResult:
        """A machine that does not answer is not gone: the next `up` asks it again, and says what is wrong."""
        try:
            told = {**_machine(props).ask(), "reached": True}
        except DynamosError:
            told = {"reached": False}
        return ReadResult(id_, {**_own(props), **told})

    def diff(self, _id: str, olds: Properties, news: Properties) -> DiffResult:
        names = [name for name in ("name",) if olds.get(name) != news.get(name)]
        moved = any(olds.get(name) != news.get(name) for name in ("address", "port", "user", "identity", "site"))
        return DiffResult(changes=bool(names) or moved or not olds.get("reached"), replaces=names)

    def update(self, _id: str, _olds: Properties, news: Properties) -> UpdateResult:
        return UpdateResult({**_own(news), **_machine(news).ask(), "reached": True})

    def delete(self, _id: str, _props: Properties) -> None:
        """Leave the machine as it is."""


def _machine(props: Mapping[str, Any]) -> Machine:
    return Machine.of(props)


def _opened(props: Mapping[str, Any]) -> Properties:
    """Open the nodes, write the files, and give the properties with their places."""
    folder = Path(props[FOLDER])
    if machines := props.get(MACHINES):
        config = folder / SSH_CONFIG_FILE
        _write(config, "".join(_machine(each).entry() for each in machines))
    else:
        config = Works(folder).open_ssh()
    inventory = folder / INVENTORY_FILE
    _write(inventory, json.dumps(reached(props[INVENTORY], str(config)), indent=2) + "\n")
    return {**_own(props), SSH_CONFIG: str(config), INVENTORY_PATH: str(inventory)}


def _own(props: Mapping[str, Any]) -> Properties:
    return {name: value for name, value in props.items() if name != "__provider"}


def _write(path: Path, text: str) -> None:
    """Write a file that is its owner's only; nobody sees half of it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    near = path.with_name(f".{path.name}")
    with os.fdopen(os.open(near, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
        file.write(text)
    near.rename(path)
