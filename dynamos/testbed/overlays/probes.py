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
    return silent(member.container, {peer.name: peer.address for peer in peers})


def silent(
    host: Host, addresses: Mapping[str, str], *, size: int = 56 + HEADERS, tries: int = 1, within: float = _PATIENCE
) -> list[str]:
    """Send each address packets of `size` bytes that may not be fragmented, and give the names that none came back
    from. What was learnt before of the path is forgotten first."""
    ping = f"ping -n -q -M do -s {size - HEADERS} -c {tries} -i 0.2 -w {within:g} -W {within:g}"
    lines = [f"{ping} {address} >/dev/null 2>&1 && echo {place} &" for place, address in enumerate(addresses.values())]
    told = scripts.run(host, "ip route flush cache\n" + "\n".join(lines) + "\nwait\n", within=within + 30).text.split()
    return [name for place, name in enumerate(addresses) if str(place) not in told]
