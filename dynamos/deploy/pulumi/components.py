"""Components: a testbed as a Pulumi program composes it, from a profile or part by part.

    testbed = Testbed("three-sites", TestbedArgs(profile, folder))
    pulumi.export("sshConfig", testbed.ssh_config)

Each one's arguments are what it is, its outputs what others may use of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi
from pulumi import ComponentResource, Output, ResourceOptions

from dynamos.deploy.pulumi import resources
from dynamos.deploy.pulumi.inventories import inventory
from dynamos.deploy.pulumi.resources import after
from dynamos.model import sites
from dynamos.model.profiles import Profile
from dynamos.model.sites import host_name
from dynamos.testbed import items
from dynamos.testbed.items import WORLD, Key
from dynamos.testbed.wanted import PORTS, Wanted, wanted

_TYPE = "dynamos:testbed:"


@dataclass(frozen=True, slots=True)
class NodeArgs:
    """A machine: `item` and the `containers` on it where it is made in the `world`, `machine` where it exists."""

    site: str
    folder: Path
    item: items.Node
    containers: Sequence[items.Container] = ()
    router: resources.Router | None = None
    machine: sites.Node | None = None


class Node(ComponentResource):
    """A machine at a site."""

    address: Output[str]
    """Its address on the network of the sites, without a prefix; of a machine that exists, the one it is reached at."""
    ready: pulumi.Resource
    """What has to be there before anything is done on it."""

    def __init__(self, name: str, args: NodeArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__(f"{_TYPE}Node", name, {}, opts)
        self.containers: dict[str, resources.Container] = {}
        if args.machine is not None:
            self.ready = resources.Machine(name, args.site, args.machine, after(parent=self))
        else:
            assert args.router is not None
            on = {"router": args.router.id}
            self.ready = resources.Host(name, args.item, args.folder, on, after(args.router, parent=self))
            options = after(self.ready, parent=self, deleted_with=self.ready)
            for item in args.containers:
                on = {"node": self.ready.id}
                self.containers[item.name] = resources.Container(item.name, item, args.folder, on, options)
        self.address = self.ready.id.apply(lambda _: args.item.address.partition("/")[0])
        self.register_outputs({"site": args.site, "address": self.address, "containers": [*self.containers]})


@dataclass(frozen=True, slots=True)
class SiteArgs:
    """A place: its `nodes`, in order, and where the networks are ours its `router` in the `world`."""

    site: sites.Site
    folder: Path
    nodes: Sequence[items.Node]
    containers: Sequence[items.Container] = ()
    router: items.Router | None = None
    world: resources.World | None = None


class Site(ComponentResource):
    """A place with nodes, and the parties that work there."""

    router: resources.Router | None = None

    def __init__(self, name: str, args: SiteArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__(f"{_TYPE}Site", name, {}, opts)
        if args.router is not None and args.world is not None:
            options = after(args.world, parent=self, deleted_with=args.world)
            self.router = resources.Router(name, args.router, args.folder, {"world": args.world.id}, options)
        machines = {host_name(node.name): node for node in args.site.nodes.values()}
        self.nodes = {
            item.name: Node(
                item.name,
                NodeArgs(
                    site=name,
                    folder=args.folder,
                    item=item,
                    containers=[each for each in args.containers if each.node == item.name],
                    router=self.router,
                    machine=None if self.router else machines[item.name],
                ),
                ResourceOptions(parent=self, deleted_with=args.world),
            )
            for item in args.nodes
        }
        self.addresses = Output.all(**{node: made.address for node, made in self.nodes.items()})
        self.register_outputs({"parties": [*args.site.parties], "addresses": self.addresses})


@dataclass(frozen=True, slots=True)
class LinkArgs:
    """What joins two sites: `forward` and `backward` of the item are what packets meet each way."""

    item: items.Link
    folder: Path
    ends: tuple[resources.Router, resources.Router]


class Link(ComponentResource):
    """The network between two sites. What packets meet on it changes in place, while it is used."""

    def __init__(self, name: str, args: LinkArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__(f"{_TYPE}Link", name, {}, opts)
        options = after(*args.ends, parent=self, deleted_with=opts.deleted_with if opts else None)
        on = {str(end): router.id for end, router in zip(args.item.sites, args.ends, strict=True)}
        self.cable = resources.Cable(name, args.item, args.folder, on, options)
        self.delay = self.cable.item.apply(lambda item: item["forward"]["delay"])
        """One way, from the first of its sites to the second."""
        self.register_outputs({"sites": list(args.item.sites), "mtu": args.item.mtu, "delay": self.delay})


@dataclass(frozen=True, slots=True)
class OverlayArgs:
    """A network that containers share: who is in it are the seats of the item."""

    item: items.Overlay
    folder: Path
    members: Sequence[resources.Container]
    ways: Sequence[pulumi.Resource] = ()
    """What its packets go over: it is made after that."""


class Overlay(ComponentResource):
    """A network that containers share. Members come and go while it is used."""

    def __init__(self, name: str, args: OverlayArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__(f"{_TYPE}Overlay", name, {}, opts)
        options = after(*args.members, *args.ways, parent=self, deleted_with=opts.deleted_with if opts else None)
        on = {seat.container: member.id for seat, member in zip(args.item.seats, args.members, strict=True)}
        self.network = resources.Network(name, args.item, args.folder, on, options)
        self.members = self.network.item.apply(lambda item: {s["container"]: s["address"] for s in item["seats"]})
        """The address of every member in it."""
        facts = {"driver": args.item.driver, "subnet": args.item.subnet, "mtu": args.item.mtu}
        self.register_outputs({**facts, "members": self.members})


@dataclass(frozen=True, slots=True)
class TestbedArgs:
    """A profile that is right, and the folder of this machine that holds the testbed's state."""

    __test__ = False

    profile: Profile
    folder: Path


class Testbed(ComponentResource):
    """Sites, nodes, links and overlays of a profile, and the ways into them."""

    __test__ = False

    ssh_config: Output[str]
    """The file for `ssh -F`: every node by its name."""
    inventory: Output[str]
    """The file for `ansible-playbook -i`."""
    addresses: Output[dict[str, str]]
    """The address of every node on the network of the sites."""

    def __init__(self, name: str, args: TestbedArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__(f"{_TYPE}Testbed", name, {}, opts)
        self._profile, self._folder = args.profile, args.folder
        self._wanted: Wanted = wanted(args.profile)
        self.world = self._world(name)
        self.sites = {site: self._site(site) for site in args.profile.sites}
        self.links = {item.name: self._link(item) for item in self._wanted.of(items.Link).values()}
        self._routes = [self._route(item) for item in self._wanted.of(items.Routes).values()]
        made = self._wanted.of(items.Overlay).values() if self.world else ()
        self.overlays = {item.name: self._overlay(item) for item in made}
        self._open(name)

    def outputs(self) -> dict[str, Any]:
        """Give what the stack exports."""
        control = self._profile.sites[self._profile.control_site].gateway
        port = self._profile.settings.api_port or PORTS["api"]
        address = self.nodes[host_name(control.name)].address
        overlays = {name: overlay.members for name, overlay in self.overlays.items()}
        return {
            "driver": self._profile.driver,
            "sites": {name: {"parties": list(each.parties), "nodes": [*self.sites[name].nodes]}
                      for name, each in self._profile.sites.items()},
            "addresses": self.addresses,
            "overlays": overlays,
            "sshConfig": self.ssh_config,
            "inventory": self.inventory,
            "api": address.apply(lambda host: f"http://{host}:{port}"),
        }  # fmt: skip

    @property
    def nodes(self) -> dict[str, Node]:
        """The nodes of all sites by name."""
        return {name: node for site in self.sites.values() for name, node in site.nodes.items()}

    def _world(self, name: str) -> resources.World | None:
        """Make what everything else is in; machines that exist are in nothing, and only hold the stack's driver."""
        if self._profile.driver == "ssh":
            resources.Machines(name, self._folder, ResourceOptions(parent=self))
            return None
        return resources.World(name, self._wanted.items[WORLD], self._folder, ResourceOptions(parent=self))

    def _site(self, name: str) -> Site:
        args = SiteArgs(
            site=self._profile.sites[name],
            folder=self._folder,
            nodes=[node for node in self._wanted.of(items.Node).values() if node.site == name],
            containers=[each for each in self._wanted.of(items.Container).values() if each.site == name],
            router=self._wanted.of(items.Router).get(name),
            world=self.world,
        )
        return Site(name, args, ResourceOptions(parent=self))

    def _link(self, item: items.Link) -> Link:
        ends = (self._router(item.sites[0]), self._router(item.sites[1]))
        return Link(item.name, LinkArgs(item, self._folder, ends), self._inside())

    def _route(self, item: items.Routes) -> resources.Routes:
        needed: dict[str, pulumi.CustomResource] = {"router": self._router(item.name)}
        needed |= {key.name: self.links[key.name].cable for key in sorted(item.needs()) if key.kind == "link"}
        on = {name: resource.id for name, resource in needed.items()}
        options = after(*needed.values(), parent=self.sites[item.name], deleted_with=self.world)
        return resources.Routes(item.name, item, self._folder, on, options)

    def _overlay(self, item: items.Overlay) -> Overlay:
        containers = {name: made for node in self.nodes.values() for name, made in node.containers.items()}
        members = [containers[seat.container] for seat in item.seats]
        return Overlay(item.name, OverlayArgs(item, self._folder, members, self._routes), self._inside())

    def _open(self, name: str) -> None:
        """Make the files by which the nodes are reached."""
        machines = [] if self.world else [
            {**node.model_dump(include={"address", "port", "user", "identity"}), "name": host_name(node.name)}
            for site in self._profile.sites.values() for node in site.nodes.values()
        ]  # fmt: skip
        ready = {node: made.ready for node, made in self.nodes.items()}
        on = {node: made.id for node, made in ready.items()}  # type: ignore[attr-defined]
        options = after(*ready.values(), parent=self)
        access = resources.Access(name, self._folder, inventory(self._profile), machines, on=on, opts=options)
        self.ssh_config, self.inventory = access.ssh_config, access.inventory_path
        self.addresses = Output.all(**{node: made.address for node, made in self.nodes.items()})
        told = {"addresses": self.addresses, "sshConfig": self.ssh_config, "inventory": self.inventory}
        self.register_outputs(told)

    def _router(self, site: str) -> resources.Router:
        router = self.sites[site].router
        assert router is not None, Key("router", site)
        return router

    def _inside(self) -> ResourceOptions:
        return ResourceOptions(parent=self, deleted_with=self.world)
