"""Routers: a network of its own for each site in the WAN's box, which joins the site's nodes to the links.

Scripts here are for `sh -e` in that box.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_interface
from shlex import quote

from dynamos.testbed.boxes import Box
from dynamos.testbed.hosts import Completed
from dynamos.testbed.items import Hop

LAN = "lan"
"""The device of a router that its site's nodes are joined by, and the node's device is of that network too."""
NODE_DEVICE = "eth0"
PROTOCOL = "99"
"""The mark of routes that are ours, as opposed to those of a routing daemon."""

_SETTINGS = {
    "ipv4/ip_forward": "1",
    "ipv4/conf/all/ignore_routes_with_linkdown": "1",
    "ipv4/conf/default/ignore_routes_with_linkdown": "1",
    "ipv4/conf/all/rp_filter": "0",
    "ipv4/conf/default/rp_filter": "0",
    "ipv4/icmp_ratelimit": "0",  # whoever sends into nothing, or too much, is always told
    "ipv6/conf/all/disable_ipv6": "1",
    "ipv6/conf/default/disable_ipv6": "1",
}


class Router:
    """A router as a Host: runs commands in its network. Its files and processes are those of the WAN's box."""

    def __init__(self, box: Box, site: str) -> None:
        self._box = box
        self._site = site

    @property
    def name(self) -> str:
        return f"router of {self._site}"

    @property
    def site(self) -> str:
        return self._site

    def run(
        self, argv: Sequence[str], *, stdin: bytes | None = None, check: bool = True, within: float = 30.0
    ) -> Completed:
        """Run a command to its end. Raises JobFailed, TimedOut."""
        return self._box.run(self._inside(argv), stdin=stdin, check=check, within=within)

    def start(self, name: str, argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> int:
        """Start a daemon under a name that is unique at this router, and give its pid in the WAN's box."""
        return self._box.start(self._own(name), self._inside(argv), env=env)

    def stop(self, name: str) -> None:
        """End the daemon of that name. Does nothing where there is none."""
        self._box.stop(self._own(name))

    def put(self, path: str, content: bytes, *, mode: int = 0o644) -> None:
        """Write a file of the WAN's box."""
        self._box.put(path, content, mode=mode)

    def get(self, path: str) -> bytes:
        """Read a file of the WAN's box. Raises NotFound."""
        return self._box.get(path)

    def _inside(self, argv: Sequence[str]) -> list[str]:
        return ["ip", "netns", "exec", self._site, *argv]

    def _own(self, name: str) -> str:
        return f"{self._site}.{name}"


def made(site: str, address: str) -> str:
    """Give the script that makes a router, or mends one."""
    settings = "; ".join(f"echo {value} >/proc/sys/net/{name}" for name, value in _SETTINGS.items())
    return f"""
test -e /run/netns/{quote(site)} || ip netns add {quote(site)}
ip netns exec {quote(site)} sh -ec {quote(settings)}
ip -n {quote(site)} link show {LAN} >/dev/null 2>&1 || ip -n {quote(site)} link add {LAN} type bridge mcast_snooping 0
{_batch(site, ["link set lo up", f"addr flush dev {LAN}", f"addr add {address} dev {LAN}", f"link set {LAN} up"])}
"""


def gone(site: str) -> str:
    """Give the script that removes a router, and with it the router's end of its links and of its nodes' cables."""
    return f"test ! -e /run/netns/{quote(site)} || ip netns del {quote(site)}\n"


def joined(site: str, address: str, mtu: int) -> str:
    """Give the script that joins a node, whose network is descriptor 3, to its router."""
    port = _port(address)
    cable = f"link add {port} mtu {mtu} type veth peer name {NODE_DEVICE} mtu {mtu} netns /proc/self/fd/3"
    return f"""
ip -n {quote(site)} link del {port} 2>/dev/null || true
ip -n {quote(site)} {cable}
ip -n {quote(site)} link set {port} master {LAN} up
"""


def addressed(address: str, gateway: str) -> bytes:
    """Give the lines of `ip -batch` for a node that has been joined."""
    lines = [
        f"link set {NODE_DEVICE} up",
        f"addr replace {address} dev {NODE_DEVICE}",
        f"route replace default via {gateway} dev {NODE_DEVICE}",
    ]
    return "".join(f"{line}\n" for line in lines).encode()


def powered(site: str, *, on: bool) -> str:
    """Give the script that gives a site power, or takes it: without, its router knows no way to its nodes."""
    return f"ip -n {quote(site)} link set {LAN} {'up' if on else 'down'}\n"


def routed(site: str, hops: Iterable[Hop], devices: Mapping[str, str], there: Iterable[str]) -> str:
    """Give the script that makes a router know just these routes of ours. `devices` are of links, by their names;
    `there` are the destinations that it knows now."""
    lines = []
    wanted = {}
    for hop in hops:
        where = f"dev {devices[hop.link]} onlink" if hop.link else f"dev {LAN}"
        wanted[hop.destination] = f"route replace {hop.destination} via {hop.via} {where} proto {PROTOCOL}"
    lines += [f"route del {destination} proto {PROTOCOL}" for destination in there if destination not in wanted]
    lines += wanted.values()
    return _batch(site, lines) if lines else ""


def _port(address: str) -> str:
    """Give the name of the device, at the router, of the cable to the node of that address."""
    return f"port{int(ip_interface(address).ip) & 0xFFFF}"


def _batch(site: str, lines: Sequence[str]) -> str:
    text = "\n".join(lines)
    return f"ip -n {quote(site)} -batch - <<'END'\n{text}\nEND\n"
