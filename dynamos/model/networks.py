"""Networks of a testbed: links between sites, overlays that containers see, and faults that happen to them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from dynamos.model.units import Duration, Rate
from dynamos.model.values import Name, Value

UNDERLAY_MTU = 1500


def _share(value: Any) -> Any:
    """Read "0.5%" as 0.005; a plain number is a share of one already."""
    if isinstance(value, str) and value.strip().endswith("%"):
        return float(value.strip()[:-1]) / 100
    return value


def _at_most_one(value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError("a share lies between 0% and 100%")
    return value


Share = Annotated[float, BeforeValidator(_share), AfterValidator(_at_most_one)]
"""A part of a whole, written "0.5%"."""

DriverName = Literal["none", "vxlan", "evpn", "wireguard", "ipsec", "nebula", "openvpn", "mtls"]
Scope = Literal["marketplace", "group", "request"]


class Direction(Value):
    """What a packet meets one way. `delay` is one way; `jitter` is its standard deviation; `queue` is in packets."""

    delay: Duration = Duration(0)
    jitter: Duration = Duration(0)
    loss: Share = 0.0
    reorder: Share = 0.0
    rate: Rate | None = None
    queue: int = Field(default=1000, ge=1)


class Link(Direction):
    """The network between two sites. Both ways are alike unless `forward` (from the first to the second) or `backward`
    says otherwise. `delay` is one way, so that a round trip takes twice as long."""

    between: tuple[Name, Name]
    mtu: int = Field(default=UNDERLAY_MTU, ge=576, le=9216)
    forward: Direction | None = None
    backward: Direction | None = None

    @model_validator(mode="after")
    def _two_sites(self) -> Self:
        if self.between[0] == self.between[1]:
            raise ValueError(f"a link joins two sites, not {self.between[0]!r} to itself")
        return self

    @property
    def name(self) -> str:
        """The link's name: its two sites in the order of the file."""
        return "-".join(self.between)

    def direction(self, source: str) -> Direction:
        """Give what a packet from `source` meets."""
        own = self.forward if source == self.between[0] else self.backward
        if own is not None:
            return own
        return Direction(**{name: getattr(self, name) for name in Direction.model_fields})


class Overlay(Value):
    """The network that the parties' containers see: the driver is how, the scope is who shares one."""

    driver: DriverName = "none"
    scope: Scope = "marketplace"
    mtu: int | None = Field(default=None, ge=576, le=9216)
    options: dict[str, str] = Field(default_factory=dict)


class Group(Value):
    """Parties that share an overlay where the scope is `group`."""

    parties: tuple[Name, ...]


class Fault(Value):
    """Something that happens to a link or a site at a moment after the testbed is ready, or after an experiment says
    so. `silence` loses every packet and leaves the link up; `change` sets members of the link."""

    at: Duration
    action: Literal["change", "cut", "silence", "heal", "power-off", "power-on"]
    link: str | None = None
    site: Name | None = None
    change: Direction | None = None
