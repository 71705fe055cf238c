"""The network between a cluster's sites: a world of the testbed with its routers and links, whose nodes are elsewhere.

`main` makes it, in a process inside the cluster's pid namespace, so that it ends with the cluster.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from cluster.specs import ClusterSpec, Machine
from dynamos.kit.errors import Unavailable
from dynamos.testbed import routers
from dynamos.testbed.boxes import Box
from dynamos.testbed.items import Link, Router, Routes
from dynamos.testbed.wans import Wan
from dynamos.testbed.worlds import World

_LAN = routers.LAN


def words(spec: ClusterSpec) -> str:
    """Give what has to be said to `main` of a cluster."""
    kinds = {"routers": spec.routers, "links": spec.links, "routes": spec.routes}
    return json.dumps({"name": spec.name, **{k: [i.model_dump(mode="json") for i in v] for k, v in kinds.items()}})


def main(folder: str, text: str) -> None:
    """Make a world with routers and links and routes."""
    told = json.loads(text)
    wan = Wan.create(World.create(Path(folder), told["name"]))
    wan.put_router(*(Router.model_validate(each) for each in told["routers"]))
    wan.put_link(*(Link.model_validate(each) for each in told["links"]))
    wan.put_routes(*(Routes.model_validate(each) for each in told["routes"]))


def wan_of(folder: Path) -> Wan:
    """Give the network of a cluster that is up. Raises Unavailable."""
    found = Wan.find(World(folder, "", ""))
    if found is None:
        raise Unavailable("the cluster's network is gone", where=str(folder))
    return found


def plug(wan: Wan, machine: Machine, box: Box) -> None:
    """Join a machine to its site's router. Its network is the machine's own, the router's is the world's: root alone
    may lay a cable between them, and does so without touching the network that it is in itself."""
    end = port(machine)
    router = os.open(f"/proc/{wan.box.pid}/root/run/netns/{machine.site}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        wan.router(machine.site).run(["ip", "link", "del", end], check=False)
        cable = f"ip link add {routers.NODE_DEVICE} mtu {machine.mtu} type veth peer name {end} mtu {machine.mtu}"
        box.run(["sh", "-ec", f"{cable} netns /proc/self/fd/3"], fds=[router])
    finally:
        os.close(router)
    wan.router(machine.site).run(["ip", "link", "set", end, "master", _LAN, "up"])
    box.run(["ip", "-batch", "-"], stdin=routers.addressed(machine.address, machine.gateway))
    box.run(["sh", "-ec", _SETTINGS])


def port(machine: Machine) -> str:
    """Give the name of the device, at the router, of the cable to a machine."""
    return f"port-{machine.ip.rpartition('.')[2]}"


_SETTINGS = """
echo 1 > /proc/sys/net/ipv4/ip_forward
for each in all default; do echo 0 > /proc/sys/net/ipv4/conf/$each/rp_filter; done
"""
