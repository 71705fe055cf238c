"""The contract of an overlay driver. A driver works through hosts only, so that it serves namespaces and real
machines.

Each site makes its own keys; only what `prepare` gives crosses, and no party or controller ever holds another's key.
What crosses comes from somebody else: a driver reads it with `materials` before it uses a word of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, ip_address, ip_network
from typing import Protocol

from dynamos.kit.errors import BadInput, Mistake
from dynamos.model.networks import DriverName
from dynamos.model.overheads import TRAITS, inner_mtu
from dynamos.testbed.hosts import Host

LONGEST_NAME = 15
HIGHEST_NUMBER = 2**24 - 1


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a driver is: `layer` 2, 3 or 4; whether it encrypts; the bytes that it adds to each packet; the
    programs (names, or paths where they are not in the PATH) and kernel features (names in `needs.FEATURES`) that it
    needs; each program with the Debian package that brings it."""

    layer: int
    encrypts: bool
    overhead: int
    programs: Mapping[str, str] = field(default_factory=dict)
    kernel: tuple[str, ...] = ()


def capabilities_of(driver: DriverName, programs: Mapping[str, str], kernel: tuple[str, ...] = ()) -> Capabilities:
    """Give a driver's capabilities, with its traits from the one place that profiles are checked against."""
    traits = TRAITS[driver]
    return Capabilities(traits.layer, traits.encrypts, traits.overhead, programs, kernel)


@dataclass(frozen=True, slots=True)
class Network:
    """One overlay: its name is unique in the testbed and at most 15 characters long, its number in 1..2**24-1.

    `mtu` is of a packet inside. The endpoint in a container is a device of the network's name, where the driver makes
    one for each network.
    """

    name: str
    number: int
    subnet: str
    mtu: int
    options: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        odd = any(not (c.isascii() and (c.isalnum() or c in "-_")) for c in self.name)
        if not 1 <= len(self.name) <= LONGEST_NAME or odd or self.name[0] in "-_" or self.name in ("lo", "all"):
            raise BadInput(
                f"{self.name!r} cannot be the name of an overlay",
                hint=f"1 to {LONGEST_NAME} letters, digits, '-' and '_', the first of them a letter or digit",
            )
        if not 1 <= self.number <= HIGHEST_NUMBER:
            raise BadInput(f"the overlay {self.name!r} has the number {self.number}, not one of 1..{HIGHEST_NUMBER}")
        try:
            ip_network(self.subnet)
        except ValueError as error:
            raise BadInput(f"the overlay {self.name!r} has no subnet: {error}") from None

    @property
    def range(self) -> IPv4Network:
        """The subnet as a value."""
        return IPv4Network(self.subnet)

    def place(self, address: str) -> int:
        """Give which one of the subnet's addresses it is, counted from 0: a small number that is a member's own."""
        place = int(IPv4Address(address)) - int(self.range.network_address)
        if not 0 < place < self.range.num_addresses:
            raise BadInput(f"{address} is not in the subnet {self.subnet} of the overlay {self.name!r}")
        return place


@dataclass(frozen=True, slots=True)
class Member:
    """One container in an overlay.

    `name` is what the others find it by. `gateway` is the host (the site's node) that its packets leave
    from, and `container.name` is what `ip netns` calls the container's network there. `underlay` is the gateway's
    address on the WAN, `address` the container's in the overlay, both without a prefix.
    """

    name: str
    container: Host
    gateway: Host
    underlay: str
    address: str

    def __post_init__(self) -> None:
        for what, text in (("underlay", self.underlay), ("address", self.address)):
            try:
                ip_address(text)
            except ValueError:
                raise BadInput(f"{text!r} is no address", where=f"{self.name}.{what}") from None


Material = Mapping[str, Mapping[str, str]]
"""What every member of a network made public, by the member's name."""


class Driver(Protocol):
    """Makes overlays. Every call is idempotent and may be repeated after an interruption anywhere."""

    @property
    def name(self) -> DriverName: ...

    @property
    def capabilities(self) -> Capabilities: ...

    def missing(self, host: Host) -> list[Mistake]:
        """Tell what this host lacks, each with the remedy; empty where the driver works there."""
        ...

    def prepare(self, network: Network, member: Member) -> dict[str, str]:
        """Make the member's own keys at its site and give its public material, and nothing secret.

        Made again, the keys are the same until the member leaves.
        """
        ...

    def join(self, network: Network, member: Member, material: Material) -> None:
        """Bring the member in, knowing every member's public material by name, its own too. Waits until its endpoint is
        up.

        It then knows these members and no others: joined again with the material of more or fewer, it takes up who is
        new and forgets who left. Joined again with the same material it changes nothing that is in use.
        """
        ...

    def unreached(self, network: Network, member: Member, peers: Sequence[Member]) -> list[str]:
        """Probe now, once and within a few seconds, and give the names of those peers that the member does not reach.

        A member reaches a peer when something of the peer's own end has answered through the overlay.
        """
        ...

    def leave(self, network: Network, member: Member) -> None:
        """Take the member out and remove its endpoint, daemon and keys. A container that is gone is no obstacle."""
        ...

    def verify_gone(self, network: Network, member: Member) -> list[str]:
        """Look, and give what is left of it, empty where nothing is: devices, daemons, files, rules, routes, names."""
        ...


def largest_mtu(driver: Driver, underlay_mtu: int) -> int:
    """Give the largest packet that fits into this driver's overlays where the WAN carries `underlay_mtu` bytes."""
    return inner_mtu(driver.name, underlay_mtu)
