"""Networks of a testbed: links between sites, overlays that containers see, and faults that happen to them."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from dynamos.model.units import Duration, Rate
from dynamos.model.values import Name, Value

UNDERLAY_MTU = 1500

_PERCENT = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*%")


def _share(value: Any) -> Any:
    """Read "0.5%" as 0.005; a plain number is a share of one already."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("expected a share like '0.5%'")  # noqa: TRY004  pydantic's word
    if not isinstance(value, str):
        return value
    found = _PERCENT.fullmatch(value.strip())
    if not found:
        raise ValueError(f"{value!r} is not a share like '0.5%'")
    return float(found[1]) / 100


def _at_most_one(value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError("a share lies between 0% and 100%")
    return value


Share = Annotated[
    float,
    BeforeValidator(_share),
    AfterValidator(_at_most_one),
    WithJsonSchema(
        {"anyOf": [{"type": "string", "pattern": _PERCENT.pattern}, {"type": "number", "minimum": 0, "maximum": 1}]}
    ),
]
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


class Change(Value):
    """Members of a direction that take another value; those that are absent stay as they are."""

    delay: Duration | None = None
    jitter: Duration | None = None
    loss: Share | None = None
    reorder: Share | None = None
    rate: Rate | None = None
    queue: int | None = Field(default=None, ge=1)

    def of(self, direction: Direction) -> Direction:
        """Give the direction as it is after the change."""
        kept = {name: getattr(direction, name) for name in Direction.model_fields}
        mine = {name: getattr(self, name) for name in Change.model_fields}
        return Direction(**{**kept, **{name: value for name, value in mine.items() if value is not None}})


class Link(Direction):
    """The network between two sites. Both ways are alike, except in what `forward` (from the first to the second) or
    `backward` says otherwise. `delay` is one way, so that a round trip takes twice as long."""

    between: tuple[Name, Name]
    mtu: int = Field(default=UNDERLAY_MTU, ge=576, le=9216)
    forward: Change | None = None
    backward: Change | None = None

    @model_validator(mode="after")
    def _two_sites(self) -> Self:
        if self.between[0] == self.between[1]:
            raise ValueError(f"a link joins two sites, not {self.between[0]!r} to itself; name another site")
        return self

    @property
    def name(self) -> str:
        """The link's name: its two sites in the order of the file."""
        return "-".join(self.between)

    def direction(self, source: str) -> Direction:
        """Give what a packet from `source` meets."""
        own = self.forward if source == self.between[0] else self.backward
        return (own or Change()).of(self)


class Overlay(Value):
    """The network that the parties' containers see: the driver is how, the scope is who shares one."""

    driver: DriverName = "none"
    scope: Scope = "marketplace"
    mtu: int | None = Field(default=None, ge=576, le=9216)
    options: dict[str, str] = Field(default_factory=dict)


class Group(Value):
    """Parties that share an overlay where the scope is `group`."""

    parties: tuple[Name, ...]


FaultAction = Literal["change", "cut", "silence", "heal", "power-off", "power-on"]


class Fault(Value):
    """Something that happens to a link or a site at a moment after the testbed is ready, or after an experiment says
    so. `silence` loses every packet and leaves the link up; `change` sets members of the link, both ways; `heal` gives
    a link back what the profile says of it."""

    at: Duration
    action: FaultAction
    link: str | None = None
    site: Name | None = None
    change: Change | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        of_site = self.action in ("power-off", "power-on")
        if (self.site is None) if of_site else (self.link is None):
            raise ValueError(f"{self.action} needs the {'site' if of_site else 'link'} that it happens to")
        if (self.link if of_site else self.site) is not None:
            raise ValueError(f"{self.action} happens to a {'site' if of_site else 'link'}, not to both or the other")
        if (self.action == "change") != (self.change is not None):
            raise ValueError(
                "change says nothing without the members to set, as in change: {delay: 200ms}"
                if self.action == "change"
                else f"{self.action} changes no members; leave 'change' out"
            )
        return self
