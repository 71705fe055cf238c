"""Plans of overlays: which there are, who is in them, and with which number, subnet and mtu. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Network

from dynamos.model.networks import UNDERLAY_MTU
from dynamos.model.overheads import inner_mtu
from dynamos.model.profiles import Profile
from dynamos.model.sites import host_name
from dynamos.testbed.addresses import Addresses, bare, device
from dynamos.testbed.items import Container, Node, Overlay, Seat

MARKETPLACE, FIRST_GROUP, FIRST_REQUEST = 1, 16, 4096
"""The numbers of overlays, as VNIs."""
_NAME_LIMIT = 15
_TAKEN = ("market", "all", "lo")
"""What cannot be the name of a group's overlay: ours already, or the kernel's."""


def overlays(profile: Profile, containers: Mapping[str, Container], nodes: Mapping[str, Node]) -> Iterator[Overlay]:
    """Give the overlays that are there as long as the testbed is: none where the scope is `request`."""
    plan = Addresses(profile.subnets)
    if profile.overlay.scope == "marketplace" and containers:
        everybody = [(each, each.shared) for each in containers.values()]
        seats = _seats(profile, everybody, nodes)
        yield _overlay(profile, "market", MARKETPLACE, profile.subnets.marketplace, seats)
    for index, (name, group) in enumerate(profile.groups.items() if profile.overlay.scope == "group" else ()):
        subnet = plan.group(index)
        members = [
            (containers[host_name(party)], bare(device(subnet, at))) for at, party in enumerate(group.parties, 1)
        ]
        seats = _seats(profile, members, nodes)
        yield _overlay(profile, overlay_name(name), FIRST_GROUP + index, subnet, seats)


def request_overlay(profile: Profile, slot: int, members: Sequence[Container], nodes: Mapping[str, Node]) -> Overlay:
    """Give the overlay of one request: `slot` is from `addresses.Leases`, `members` are the containers that its parts
    run in, `nodes` those of the wanted state."""
    subnet = Addresses(profile.subnets).request(slot)
    seated = [(each, bare(device(subnet, at))) for at, each in enumerate(members, 1)]
    return _overlay(profile, f"request-{slot}", FIRST_REQUEST + slot, subnet, _seats(profile, seated, nodes))


def overlay_mtu(profile: Profile) -> int:
    """Give the largest packet that fits into the profile's overlay over every link."""
    carried = min((link.mtu for link in profile.links), default=UNDERLAY_MTU)
    return profile.overlay.mtu or inner_mtu(profile.overlay.driver, carried)


def overlay_name(text: str) -> str:
    """Give a name that a device can have: the text, or where it is too long or odd, one that is made from it."""
    plain = "".join(c if c.isascii() and c.isalnum() else "-" for c in text)
    if plain == text and len(text) <= _NAME_LIMIT and text not in _TAKEN and not text.startswith("request-"):
        return text
    code = hashlib.sha256(text.encode()).hexdigest()[:6]
    return f"{plain[: _NAME_LIMIT - len(code) - 1]}-{code}"


def _overlay(profile: Profile, name: str, number: int, subnet: IPv4Network, seats: tuple[Seat, ...]) -> Overlay:
    return Overlay(
        name=name,
        driver=profile.overlay.driver,
        scope=profile.overlay.scope,
        number=number,
        subnet=str(profile.subnets.containers if profile.overlay.driver == "none" else subnet),
        mtu=overlay_mtu(profile),
        options=dict(profile.overlay.options),
        seats=seats,
    )


def _seats(profile: Profile, members: Sequence[tuple[Container, str]], nodes: Mapping[str, Node]) -> tuple[Seat, ...]:
    """Give the members' places. In an overlay that is the underlay itself, they have their addresses of there."""
    routed = profile.overlay.driver == "none"
    return tuple(
        Seat(
            container=each.name,
            node=each.node,
            underlay=bare(nodes[each.node].address),
            address=bare(each.address) if routed else address,
        )
        for each, address in members
    )
