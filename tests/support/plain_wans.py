"""A WAN without impairments: each router is a node of its own, links are cables. What grounds are tried on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dynamos.kit.digests import digest
from dynamos.testbed import items
from dynamos.testbed.boxes import Box
from dynamos.testbed.facts import Facts
from dynamos.testbed.items import Item, Key, Link, Router, Routes
from dynamos.testbed.journals import Journal
from dynamos.testbed.namespaced import JOURNAL
from dynamos.testbed.nodes import Node
from dynamos.testbed.worlds import World

_PROTOCOL = "77"


class PlainWan:
    """Routers as nodes, links as cables that can be cut."""

    def __init__(self, world: World) -> None:
        self._world = world

    def look(self) -> Facts:
        known = Journal(self._world.folder / JOURNAL).read()[0]
        routers = {node.name: node for node in self._world.nodes() if node.name.startswith("router-")}
        found: dict[Key, Item] = {}
        for key, item in known.items():
            if isinstance(item, Router) and f"router-{key.name}" in routers:
                found[key] = item
            elif isinstance(item, Link) and (seen := self._seen(item, routers)):
                found[key] = seen
            elif isinstance(item, Routes) and (router := routers.get(f"router-{key.name}")):
                found[key] = item.model_copy(update={"hops": _hops(router, item)})
        return Facts(found)

    def make(self, *made: Item) -> None:
        for item in made:
            self._make(item)

    def _make(self, item: Item) -> None:
        if isinstance(item, Router):
            router = self._router(item.name)
            lines = [
                "ip link add lan type bridge 2>/dev/null || true", "ip link set lan up",
                f"ip addr replace {item.address} dev lan", "echo 1 > /proc/sys/net/ipv4/ip_forward",
            ]  # fmt: skip
            router.run(["sh", "-ec", "\n".join(lines)])
        elif isinstance(item, Link):
            ends = [self._router(site) for site in item.sites]
            device = _device(item.name)
            if not _has(ends[0], device):
                self._world.wire(ends[0], device, ends[1], device, mtu=item.mtu)
            for end, address in zip(ends, item.addresses, strict=True):
                end.run(["ip", "addr", "replace", address, "dev", device])
            self.change(item, item)
        else:
            self.change(item, item)

    def change(self, _: Item, after: Item) -> None:
        if isinstance(after, Link):
            device = _device(after.name)
            rules = f"table inet {device}\ndelete table inet {device}\n"
            if after.state != "up":
                hook = "type filter hook postrouting priority 0"
                rules += f"table inet {device} {{ chain out {{ {hook}; oifname {device} drop; }};\n}}\n"
            for site in after.sites:
                self._router(site).run(["ip", "link", "set", device, "mtu", str(after.mtu)])
                self._router(site).run(["nft", "-f", "-"], stdin=rules.encode())
        elif isinstance(after, Routes):
            lines = [f"route add {hop.destination} via {hop.via} proto {_PROTOCOL}" for hop in after.hops]
            router = self._router(after.name)
            router.run(["ip", "route", "flush", "proto", _PROTOCOL])
            router.run(["ip", "-batch", "-"], stdin="\n".join(lines).encode())

    def remove(self, item: Item) -> None:
        if isinstance(item, Router):
            self._router(item.name).destroy()
        elif isinstance(item, Link):
            self._router(item.sites[0]).run(["ip", "link", "del", _device(item.name)], check=False)
        elif isinstance(item, Routes):
            self._router(item.name).run(["ip", "route", "flush", "proto", _PROTOCOL])

    def plug(self, node: Box, item: items.Node) -> None:
        router, device = self._router(item.site), _device(item.name)
        if not _has(node, "wan0"):
            router.run(["ip", "link", "del", device], check=False)
            self._world.wire(node, "wan0", router, device, mtu=item.mtu)
        router.run(["ip", "link", "set", device, "master", "lan"])
        node.run(["ip", "addr", "replace", item.address, "dev", "wan0"])
        node.run(["ip", "route", "replace", "default", "via", item.gateway])

    def plugged(self, node: Box, item: items.Node) -> bool:
        return item.address in node.run(["ip", "addr", "show", "dev", "wan0"], check=False).text

    def _router(self, site: str) -> Node:
        return self._world.node(f"router-{site}", site)

    def _seen(self, link: Link, routers: Mapping[str, Node]) -> Link | None:
        ends = [routers.get(f"router-{site}") for site in link.sites]
        if None in ends or not all(_has(end, _device(link.name)) for end in ends if end):
            return None
        device = _device(link.name)
        told = _told(ends[0], ["ip", "-j", "link", "show", "dev", device])[0]
        cut = ends[0] is not None and ends[0].run(["nft", "list", "table", "inet", device], check=False).code == 0
        return link.model_copy(update={"mtu": told["mtu"], "state": "cut" if cut else "up"})


def _hops(router: Node, item: Routes) -> tuple[items.Hop, ...]:
    there = {
        (each["dst"], each["gateway"]) for each in _told(router, ["ip", "-j", "route", "show", "proto", _PROTOCOL])
    }
    return tuple(hop for hop in item.hops if (hop.destination, hop.via) in there)


def _told(box: Any, argv: list[str]) -> Any:
    return json.loads(box.run(argv).text or "[]")


def _has(box: Box, device: str) -> bool:
    return box.run(["ip", "link", "show", "dev", device], check=False).code == 0


def _device(name: str) -> str:
    return f"x{digest([name])[:10]}"
