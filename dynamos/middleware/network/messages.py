"""What the orchestrator says to the network helper of a site, over the bus. The subject of each is in its docstring."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from dynamos.model.values import Name, Value

EXCHANGE_PORT = 8815
"""Where a party takes streams in a container: it has the network to itself."""


class Flow(Value):
    """Rows go from one party to another."""

    source: Name
    target: Name


class Prepare(Value):
    """`network.<SITE>.prepare`: make the containers and keys of this site's parties for the network of one job.
    Answer: Prepared.

    `parties` are all that take part, in an order that is the same for all sites; `slot` is a small number that no other
    network has now. Everything else the site works out by itself. What is not renewed or joined goes after LEASE.
    """

    job: str
    slot: int = Field(ge=0)
    parties: tuple[Name, ...]
    flows: tuple[Flow, ...]


class Prepared(Value):
    """What is public of this site's members, by container, and the address that each of its parties has."""

    material: dict[str, dict[str, str]]
    addresses: dict[Name, str]


class Join(Value):
    """`network.<SITE>.join`: bring this site's members in, and wait until they reach all others. Answer: empty."""

    job: str
    material: dict[str, dict[str, str]]


class Leave(Value):
    """`network.<SITE>.leave`: take this site's members out and remove what they had. Answer: Left."""

    job: str


class Left(Value):
    """What passed at each of this site's parties, and what of the network is left, which should be nothing."""

    passed: dict[Name, Passed] = Field(default_factory=dict)
    left: tuple[str, ...] = ()


class Passed(Value):
    """What a container's rules have counted, in packets: streams let in and out by peer's address, what was refused
    with an answer, and what was dropped without."""

    received: dict[str, int] = Field(default_factory=dict)
    sent: dict[str, int] = Field(default_factory=dict)
    refused: int = 0
    dropped_in: int = 0
    dropped_out: int = 0


class Renew(Value):
    """`network.<SITE>.renew`: these jobs are under way still. Answer: empty."""

    jobs: tuple[str, ...]


class Sound(Value):
    """`network.<SITE>.sound`: find out which link of the path to another site carries nothing. Answer: Sounding."""

    to: Name


class Sounding(Value):
    """What was found: a link that is cut (routers say so) or silent, or a site where nothing answers; or nothing."""

    link: str = ""
    state: Literal["", "cut", "silent"] = ""
    site: str = ""

    @property
    def text(self) -> str:
        """What a person is told; empty where nothing was found."""
        return f"{self.link} is {self.state}" if self.link else f"site {self.site} does not answer" if self.site else ""


LEASE = 20.0
"""Seconds after which a site removes the network of a job that nobody has renewed."""
RENEWAL = 5.0

Left.model_rebuild()
