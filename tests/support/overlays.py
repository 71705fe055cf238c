"""Three sites on one WAN, in a world of their own: a node and two containers at each, and what may be asked of them."""

from __future__ import annotations

import os
from pathlib import Path

from dynamos.testbed.overlays.drivers import Driver, Member, Network, largest_mtu
from dynamos.testbed.worlds import World

SITES = ("ams", "los", "tok")
UNDERLAY_MTU = 1500
SUBNET = "10.80.{number}.0/24"


def unable() -> str:
    """Tell why no world with networks can be made here; empty where it can."""
    return "" if os.geteuid() == 0 else "needs root"


class Lab:
    """A world with a bridge as its WAN; each site has a node at 198.18.0.N and containers NAME1 and NAME2."""

    def __init__(self, folder: Path, sites=SITES, containers: int = 2) -> None:
        self.world = World.create(folder, "lab")
        try:
            self.wan = self.world.node("wan", "wan")
            self.wan.run(["ip", "link", "add", "lan", "type", "bridge"])
            self.wan.run(["ip", "link", "set", "lan", "up"])
            self.nodes, self.underlays, self.containers = {}, {}, {}
            for number, site in enumerate(sites, 1):
                self._site(number, site, containers)
        except BaseException:
            self.world.kill()
            raise

    def _site(self, number: int, site: str, containers: int) -> None:
        node = self.nodes[site] = self.world.node(site, site)
        self.underlays[site] = f"198.18.0.{number}"
        self.world.wire(node, "wan0", self.wan, f"port{number}", mtu=UNDERLAY_MTU)
        node.run(["ip", "addr", "add", f"198.18.0.{number}/24", "dev", "wan0"])
        self.wan.run(["ip", "link", "set", f"port{number}", "master", "lan"])
        for each in range(1, containers + 1):
            self.containers[f"{site}{each}"] = node.container(f"{site}{each}")

    def network(self, driver: Driver, name: str = "net", number: int = 1, **options: str) -> Network:
        """Give a network of its own subnet, with the MTU that fits."""
        subnet = SUBNET.format(number=number)
        return Network(name, number, subnet, largest_mtu(driver, UNDERLAY_MTU), options)

    def members(self, network: Network, *names: str) -> list[Member]:
        """Give a member of this network for each of these containers."""
        return [self.member(network, name) for name in names]

    def member(self, network: Network, name: str) -> Member:
        container = self.containers[name]
        place = 10 + list(self.containers).index(name)
        address = f"{network.subnet.rpartition('.')[0]}.{place}"
        return Member(name, container, self.nodes[container.site], self.underlays[container.site], address)
