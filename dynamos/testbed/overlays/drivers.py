"""The contract of an overlay driver. A driver works through hosts only, so that it serves namespaces and real
machines.

Each site makes its own keys; only what `material` gives crosses, and no party or controller ever holds another's key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from dynamos.kit.errors import Mistake
from dynamos.testbed.hosts import Host


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a driver is: `layer` 2, 3 or 4; whether it encrypts; the bytes that it adds to each packet; the
    programs and kernel features that it needs, each with the Debian package that brings it."""

    layer: int
    encrypts: bool
    overhead: int
    programs: Mapping[str, str] = field(default_factory=dict)
    kernel: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Network:
    """One overlay: its name is unique in the testbed and at most 15 characters long, its number in 1..2**24-1."""

    name: str
    number: int
    subnet: str
    mtu: int
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Member:
    """One container in an overlay. `gateway` is the host (the site's node) that its packets leave from, `underlay` the
    gateway's address on the WAN, `address` the container's address in the overlay."""

    name: str
    container: Host
    gateway: Host
    underlay: str
    address: str


class Driver(Protocol):
    """Makes overlays. Every call is idempotent and may be repeated after an interruption anywhere."""

    @property
    def name(self) -> str: ...

    @property
    def capabilities(self) -> Capabilities: ...

    def missing(self, host: Host) -> list[Mistake]:
        """Tell what this host lacks, each with the remedy; empty where the driver works there."""
        ...

    def prepare(self, network: Network, member: Member) -> dict[str, str]:
        """Make the member's own keys and endpoint at its site and give its public material, and nothing secret."""
        ...

    def join(self, network: Network, member: Member, material: Mapping[str, Mapping[str, str]]) -> None:
        """Bring the member in, knowing every member's public material by name. Waits until its endpoint is up."""
        ...

    def leave(self, network: Network, member: Member) -> None:
        """Take the member out and remove its endpoint, daemon and keys."""
        ...

    def verify_gone(self, network: Network, member: Member) -> list[str]:
        """Give what is left of it, empty where nothing is: devices, daemons, files, rules, routes."""
        ...
