"""Resources: each kind of thing in a testbed as the engine knows it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pulumi
from pulumi import Input, Output, ResourceOptions
from pulumi.dynamic import Resource

from dynamos.deploy.pulumi.access import INVENTORY, MACHINES, AccessProvider, MachineProvider
from dynamos.deploy.pulumi.providers import FOLDER, ITEM, ON, GroundProvider, ItemProvider, MachinesProvider
from dynamos.model import sites
from dynamos.testbed.items import Item

Standing = Mapping[str, Input[str]]
"""What something stands on: ids by name. It is made again when one of them is another."""


class _ItemResource(Resource):
    """An item of a testbed in namespaces, with what it is as `item`."""

    item: Output[dict[str, Any]]

    def __init__(self, name: str, item: Item, folder: Path, on: Standing, opts: ResourceOptions) -> None:
        props = {ITEM: item.as_json(), FOLDER: str(folder), ON: dict(on), "broken": None}
        super().__init__(ItemProvider(item.kind), name, props, opts)


class World(Resource, module="testbed", name="Ground"):
    """The world of a testbed in namespaces. It is the stack's ground, as machines are, so that neither is taken for the
    other: the engine asks the one that is wanted about the one that is there."""

    def __init__(self, name: str, item: Item, folder: Path, opts: ResourceOptions) -> None:
        props = {ITEM: item.as_json(), FOLDER: str(folder), "driver": "namespaces", "broken": None}
        super().__init__(GroundProvider("world"), name, props, opts)


class Machines(Resource, module="testbed", name="Ground"):
    """The machines of a testbed that exist."""

    def __init__(self, name: str, folder: Path, opts: ResourceOptions) -> None:
        super().__init__(MachinesProvider(), name, {"testbed": name, "driver": "ssh", FOLDER: str(folder)}, opts)


class Router(_ItemResource, module="testbed", name="Router"):
    """What joins a site to the links."""


class Cable(_ItemResource, module="testbed", name="Link"):
    """A link between two routers."""


class Routes(_ItemResource, module="testbed", name="Routes"):
    """What a site's router knows of the others."""


class Host(_ItemResource, module="testbed", name="Node"):
    """A node in namespaces."""


class Container(_ItemResource, module="testbed", name="Container"):
    """What one party's programs run in."""


class Network(_ItemResource, module="testbed", name="Overlay"):
    """A network that containers share."""


class Machine(Resource, module="testbed", name="Machine"):
    """A machine that exists, taken by ssh."""

    def __init__(self, name: str, site: str, node: sites.Node, opts: ResourceOptions) -> None:
        where = {"address": node.address, "port": node.port, "user": node.user, "identity": node.identity}
        told = {"host": None, "system": None, "architecture": None, "reached": None}
        super().__init__(MachineProvider(), name, {"name": name, "site": site, **where, **told}, opts)


class Access(Resource, module="testbed", name="Access"):
    """The files by which ssh and Ansible reach the nodes."""

    ssh_config: Output[str]
    inventory_path: Output[str]

    def __init__(
        self,
        name: str,
        folder: Path,
        inventory: Mapping[str, Any],
        machines: list[dict[str, Any]],
        *,
        on: Standing,
        opts: ResourceOptions,
    ) -> None:
        props: dict[str, Any] = {FOLDER: str(folder), INVENTORY: dict(inventory), MACHINES: machines, ON: dict(on)}
        super().__init__(AccessProvider(), name, {**props, "ssh_config": None, "inventory_path": None}, opts)


def after(*resources: pulumi.Resource, **options: Any) -> ResourceOptions:
    """Give options of a resource that is made after these."""
    return ResourceOptions(depends_on=list(resources), **options)
