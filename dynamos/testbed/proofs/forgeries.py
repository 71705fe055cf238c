"""Forgeries: packets of outsiders who have guessed an overlay's number and the addresses in it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from dynamos.testbed.hosts import Host
from dynamos.testbed.items import Overlay, Seat
from dynamos.testbed.overlays import ends
from dynamos.testbed.proofs import programs
from dynamos.testbed.proofs.programs import together

VXLAN_PORT = 4789
_HIGHEST_PORT = 65535
_SECONDS = 30.0
_EVERYBODY = "ff:ff:ff:ff:ff:ff"


@dataclass(frozen=True, slots=True)
class Forgery:
    """A try of an outsider at one seat of an overlay; whoever hears `token` was reached."""

    outsider: str
    overlay: Overlay
    seat: Seat
    token: str


def forgeries(overlays: Sequence[Overlay], outsiders: Sequence[str]) -> tuple[Forgery, ...]:
    """Give all that these outsiders (hosts of the underlay) can try: at seats of overlays that they have none in."""
    return tuple(
        Forgery(outsider, overlay, seat, secrets.token_hex(8))
        for overlay in overlays
        for outsider in outsiders
        if all(seat.node != outsider for seat in overlay.seats)
        for seat in overlay.seats
    )


def send(attempts: Sequence[Forgery], hosts: Mapping[str, Host], port: int) -> None:
    """Have every outsider send its packets for the datagram port `port` of the seats, all at once."""
    by_outsider: dict[str, list[dict[str, Any]]] = {}
    for each in attempts:
        by_outsider.setdefault(each.outsider, []).extend(packets(each, port, hosts.get(each.seat.container)))
    together(
        lambda item: programs.run(hosts[item[0]], "forge", {"packets": item[1]}, within=_SECONDS), by_outsider.items()
    )


def packets(attempt: Forgery, port: int, container: Host | None) -> list[dict[str, Any]]:
    """Give the packets of a try: the outsider knows all that one might find out, but is not in the overlay."""
    overlay, seat = attempt.overlay, attempt.seat
    place = int(IPv4Address(seat.address)) - int(IPv4Network(overlay.subnet).network_address)
    base = int(overlay.options.get("port", VXLAN_PORT))
    pretended = next((each.address for each in overlay.seats if each != seat), seat.address)
    return [
        {
            "to": seat.underlay,
            "port": to,
            "number": overlay.number,
            "mac": mac,
            "source": pretended,
            "target": seat.address,
            "target_port": port,
            "text": f"{attempt.token} 0\n",
        }
        for to in sorted({VXLAN_PORT, base, min(base + place, _HIGHEST_PORT)})
        for mac in _hardware_addresses(overlay, place, container)
    ]


def _hardware_addresses(overlay: Overlay, place: int, container: Host | None) -> list[str]:
    """Give what the endpoint's hardware address is, or may be."""
    found = [ends.hardware_address(overlay.number, place), _EVERYBODY]
    if container is not None:
        told = container.run(["cat", f"/sys/class/net/{overlay.name}/address"], check=False).text.strip()
        found += [told] if told and told not in found else []
    return found
