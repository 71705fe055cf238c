"""Probes inside an overlay of packets: does a peer answer, and does a packet of this size get through whole?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dynamos.testbed.hosts import Host
from dynamos.testbed.overlays import scripts
from dynamos.testbed.overlays.drivers import Member

PROGRAMS = {"ping": "iputils-ping"}
HEADERS = 28
"""What IPv4 and ICMP add to the bytes that ping sends."""
_PATIENCE = 2.0


def unreached(member: Member, peers: Sequence[Member]) -> list[str]:
    """Ping all peers once from the member's container, all at once, and give the names of the silent ones."""
    return _pinged(member.container, {peer.name: peer.address for peer in peers}, f"-s 56 -c 1 -w {_PATIENCE:g}")


def silent(
    host: Host, addresses: Mapping[str, str], *, size: int, tries: int = 1, within: float = _PATIENCE
) -> list[str]:
    """Send each address packets of `size` bytes that may not be fragmented, and give the names that none came back
    from. What was learnt before of the path is forgotten first."""
    scripts.run(host, "ip route flush cache")
    return _pinged(host, addresses, f"-M do -s {size - HEADERS} -c {tries} -i 0.2 -w {within:g} -W {within:g}")


def _pinged(host: Host, addresses: Mapping[str, str], options: str) -> list[str]:
    lines = [
        f"ping -n -q {options} {address} >/dev/null 2>&1 && echo {n} &" for n, address in enumerate(addresses.values())
    ]
    told = scripts.run(host, "\n".join((*lines, "wait"))).text.split()
    return [name for n, name in enumerate(addresses) if str(n) not in told]
