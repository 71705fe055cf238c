"""Public material of members, read: every word of it comes from another site, and goes into configurations of ours."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TypeVar

from dynamos.kit.errors import BadInput
from dynamos.testbed.overlays.drivers import Material, Member, Network

T = TypeVar("T")

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_HIGHEST_PORT = 65535


@dataclass(frozen=True, slots=True)
class Peer:
    """A member as the others know it: where its container and its gateway are, and what its driver says beside."""

    name: str
    address: str
    underlay: str
    said: Mapping[str, str]

    def text(self, key: str, read: Callable[[str], T]) -> T:
        """Give what it says under `key`, as `read` takes it. Raises BadInput that names the member."""
        try:
            return read(self.said[key])
        except KeyError:
            raise BadInput(f"its material has no {key!r}", where=self.name) from None
        except ValueError as error:
            raise BadInput(f"its material has a wrong {key!r}: {error}", where=self.name) from None


def facts(member: Member) -> dict[str, str]:
    """Give what every driver's material begins with."""
    return {"address": member.address, "underlay": member.underlay}


def peers(network: Network, material: Material) -> dict[str, Peer]:
    """Read the material of all members, by name. Raises BadInput where a name or an address cannot be, or is twice."""
    found: dict[str, Peer] = {}
    for name, said in sorted(material.items()):
        if not _NAME.fullmatch(name):
            raise BadInput(f"{name!r} cannot be a member's name", hint="letters, digits, '.', '-', '_'")
        peer = Peer(name, "", "", said)
        address, underlay = (str(peer.text(key, IPv4Address)) for key in ("address", "underlay"))
        network.place(address)
        twin = next((o.name for o in found.values() if o.address == address or o.name.lower() == name.lower()), None)
        if twin:
            raise BadInput(f"its name or its address {address} is of {twin!r} already", where=name)
        found[name] = Peer(name, address, underlay, said)
    return found


def others(network: Network, member: Member, material: Material) -> list[Peer]:
    """Give the members but this one. Raises BadInput where it is not as it is among them."""
    everyone = peers(network, material)
    mine = everyone.pop(member.name, None)
    if mine is None or (mine.address, mine.underlay) != (member.address, member.underlay):
        raise BadInput("the material does not have this member as it is", where=member.name)
    return list(everyone.values())


def mac(text: str) -> str:
    """Read a hardware address of one device."""
    if not _MAC.fullmatch(text) or int(text[:2], 16) & 1:
        raise ValueError(f"{text!r} is no hardware address")
    return text


def port(text: str) -> int:
    """Read a port."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _HIGHEST_PORT:
        raise ValueError(f"{text!r} is no port")
    return int(text)
