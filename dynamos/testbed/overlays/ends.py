"""Endpoints: what belongs to one member of one network on its hosts is called by both, so that networks and members
never touch; and whether something of it is there."""

from __future__ import annotations

from collections.abc import Sequence

from dynamos.kit.digests import digest
from dynamos.kit.errors import NotFound
from dynamos.testbed.hosts import Host
from dynamos.testbed.overlays import scripts
from dynamos.testbed.overlays.drivers import Member, Network

_IPV6_LEAST = 1280
"""The smallest packet that a network of IPv6 carries (RFC 8200)."""


def table(network: Network, member: Member) -> str:
    """Give the name of a member's own table of rules (nftables, family inet) at its node."""
    return f"overlay_{network.number:x}_{network.place(member.address):x}"


def metric(network: Network, member: Member) -> int:
    """Give the number by which those routes of a node are told apart that are there for this member."""
    return 1 + int(digest([network.number, network.place(member.address)])[:7], 16)


def hardware_address(number: int, place: int, *, side: int = 0) -> str:
    """Give a hardware address of our own (locally administered): number and place tell members apart, and the side of
    a cable its ends (0 the container, 1 the node)."""
    return bytes((2 + 4 * side, *(number & 0xFFFFFF).to_bytes(3, "big"), *(place & 0xFFFF).to_bytes(2, "big"))).hex(":")


def no_ipv6(network: Network) -> str:
    """Give the words for `ip link set` by which a device gives itself no address of IPv6. Where packets are smaller
    than IPv6 needs, the kernel has none of it on the device and takes no word about it."""
    return "addrgenmode none" if network.mtu >= _IPV6_LEAST else ""


def made_once(member: Member, device: str, create: str, body: str, inside: Sequence[str]) -> str:
    """Give a script that makes an endpoint: the command `create` makes its `device` in the container's network, then
    comes `body`, and then `inside`, which `ip` does in that network.

    Where the very same is there it does nothing; where something else or half of it is there, that goes first. The
    device bears the digest of how it was made, as the last thing that is done to it.
    """
    box, mark = member.container.name, digest([create, body, *inside])[:32]
    return (
        f"if ! why=$({create} 2>&1); then\n"
        f"case $(ip -n {box} link show dev {device} 2>/dev/null || true) in\n"
        f"*' alias {mark}') exit 0;;\n"
        f"?*) ip -n {box} link del {device}; {create};;\n"
        '*) echo "$why" >&2; exit 1;;\n'
        "esac; fi\n"
        f"{body}" + scripts.fed(f"ip -n {box} -batch -", (*inside, f"link set {device} alias {mark}"))
    )


def still(host: Host, tests: Sequence[str]) -> list[str]:
    """Give the lines that the commands print, with the host's name: something is there. None where the host is gone."""
    script = "\n".join(f'told=$({{ {test}; }} 2>/dev/null) || true\n[ -z "$told" ] || echo "$told"' for test in tests)
    try:
        told = scripts.run(host, script).text
    except NotFound:
        return []
    return [f"{host.name}: {line.strip()}" for line in told.splitlines() if line.strip()]


def rules(name: str, *chains: str, comment: str = "", inside: str = "") -> str:
    """Give the lines of a script that put a table of these chains in place, at once, whatever was there. `inside` are
    words that run a command in another network than the script's."""
    lines = [f'comment "{comment}"'] if comment else []
    lines += [f"chain {chain}" for chain in chains]
    batch = (f"table inet {name}", f"delete table inet {name}", f"table inet {name} {{", *lines, "}")
    return scripts.fed(f"{inside} nft -f -".strip(), batch)


def no_rules(name: str) -> str:
    """Give the lines of a script that remove a table, whether or not it is there."""
    return scripts.fed("nft -f -", (f"table inet {name}", f"delete table inet {name}"))
