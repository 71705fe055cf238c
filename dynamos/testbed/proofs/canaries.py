"""Canaries: a text that nobody else has is sent through an overlay, and looked for on the links.

A driver that does not encrypt shows it there, which proves that the look is a good one; one that does never may.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dynamos.kit.errors import Broken
from dynamos.model.overheads import TRAITS
from dynamos.testbed.hosts import Host
from dynamos.testbed.items import Overlay, Seat
from dynamos.testbed.proofs import programs
from dynamos.testbed.proofs.captures import Seen, Spot, captured
from dynamos.testbed.proofs.policies import Edge
from dynamos.testbed.proofs.programs import started, together

Verdict = Literal["ok", "plaintext", "unseen", "undelivered"]

EXCHANGE, TIMES = 8815, 1024
"""The port that a canary is sent to, and how often the text is in what is sent."""
_PATIENCE = 20.0
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Sighting:
    """What came of one canary: from a container to another through an overlay, and at how many packets it was seen at
    each spot. `bytes` are all that passed there, `missed` the packets that came too fast to be looked at."""

    overlay: str
    driver: str
    encrypts: bool
    source: str
    target: str
    delivered: bool
    seen: Mapping[str, int]
    sent: int
    bytes: int
    missed: int

    @property
    def verdict(self) -> Verdict:
        """`plaintext` is a leak; `unseen` means that the look proves nothing: it did not see what is in the open, or
        not as much as was sent; `undelivered` that the canary did not arrive."""
        if not self.delivered:
            return "undelivered"
        if any(self.seen.values()):
            return "plaintext" if self.encrypts else "ok"
        return "ok" if self.encrypts and self.bytes >= self.sent and not self.missed else "unseen"

    def as_dict(self) -> dict[str, Any]:
        """Give JSON-ready members."""
        members = {name: getattr(self, name) for name in self.__slots__}
        return members | {"seen": dict(self.seen), "verdict": self.verdict}


@dataclass(frozen=True, slots=True)
class Canaries:
    """All canaries of a proof."""

    sightings: tuple[Sighting, ...]

    @property
    def holds(self) -> bool:
        """Whether every one is as its driver says, and there was one."""
        return bool(self.sightings) and all(each.verdict == "ok" for each in self.sightings)

    def as_dict(self) -> dict[str, Any]:
        """Give JSON-ready members."""
        return {"holds": self.holds, "canaries": [each.as_dict() for each in self.sightings]}

    def check(self) -> None:
        """Raise Broken that names what is not as it must be; do nothing where all is."""
        wrong = [each for each in self.sightings if each.verdict != "ok"]
        if self.holds:
            return
        log = [f"{each.verdict}: {each.source} to {each.target} in {each.overlay} ({each.driver})" for each in wrong]
        what = f"{len(wrong)} of {len(self.sightings)} canaries are not as they must be"
        hint = "" if wrong else "no overlay has two members on different nodes"
        raise Broken(what if wrong else "no canary was sent", code="canary", hint=hint, log=log[:_SHOWN])


@dataclass(frozen=True, slots=True)
class _Canary:
    overlay: Overlay
    source: Seat
    target: Seat
    token: str
    text: str

    @property
    def size(self) -> int:
        return len(self.text) * TIMES


def canaries(
    overlays: Sequence[Overlay],
    hosts: Mapping[str, Host],
    spots: Sequence[Spot],
    edges: Mapping[str, Sequence[Edge]] | None = None,
) -> Canaries:
    """Send a canary both ways between every two members of each overlay that are on different nodes, and look for them
    at these spots. In an overlay that has `edges`, only these are flown.

    Where somebody serves the port already, the canary is the name that a client of TLS asks for, in the open.
    """
    birds = tuple(_birds(overlays, hosts, edges or {}))
    if not birds:
        return Canaries(())
    targets = list(dict.fromkeys(bird.target.container for bird in birds))
    listening = [(hosts[name], {"ports": [("tcp", EXCHANGE)]}) for name in targets]
    with started("listen", listening) as listeners:
        busy = {program.host.name for program in listeners if "busy" in program.told()}
        with captured(spots, [bird.text for bird in birds]) as capture:
            arrived = _fly(birds, hosts, busy)
    return Canaries(tuple(_sighting(bird, bird.token in arrived, capture.seen) for bird in birds))


def in_request(ask: Callable[[str], str], source: str, spots: Sequence[Spot]) -> Canaries:
    """Look for a canary at these spots while `ask` gets it in the rows that it asks `source` for and gives.

    Parties exchange rows by TLS of their own, so that it may be seen nowhere, whatever the overlay's driver.
    """
    text = f"canary-{secrets.token_hex(16)}"
    with captured(spots, [text]) as capture:
        delivered = text in ask(text)
    sighting = Sighting(
        overlay="any",
        driver="TLS of the parties",
        encrypts=True,
        source=source,
        target="requestor",
        delivered=delivered,
        seen={each.spot: each.found[text] for each in capture.seen},
        sent=len(text),
        bytes=max((each.bytes for each in capture.seen), default=0),
        missed=sum(each.missed for each in capture.seen),
    )
    return Canaries((sighting,))


def _birds(
    overlays: Sequence[Overlay], hosts: Mapping[str, Host], edges: Mapping[str, Sequence[Edge]]
) -> Iterator[_Canary]:
    for overlay in overlays:
        seats = {seat.container: seat for seat in overlay.seats if seat.container in hosts}
        pairs = [(source, target) for source in seats for target in seats if source != target]
        if overlay.name in edges:
            pairs = [(edge.source, edge.target) for edge in edges[overlay.name]]
        for source, target in pairs:
            if {source, target} <= seats.keys() and seats[source].node != seats[target].node:
                token, text = secrets.token_hex(8), f"canary-{secrets.token_hex(16)}"
                yield _Canary(overlay, seats[source], seats[target], token, text)


def _fly(birds: Sequence[_Canary], hosts: Mapping[str, Host], busy: set[str]) -> set[str]:
    """Send all canaries, and give the tokens of those that arrived whole."""

    def fly(source: str) -> set[str]:
        own = [bird for bird in birds if bird.source.container == source]
        knocks = [
            {
                "address": bird.target.address,
                "protocol": "tcp",
                "port": EXCHANGE,
                "token": bird.token,
                "text": bird.text,
                "times": TIMES,
                "tls": bird.target.container in busy,
            }
            for bird in own
        ]
        spec = {"patience": _PATIENCE, "knocks": knocks}
        told = programs.answers(hosts[source], "knock", spec, within=_PATIENCE + 60.0)
        return {bird.token for bird, answer in zip(own, told, strict=True) if answer in (str(bird.size), "tls")}

    sources = list(dict.fromkeys(bird.source.container for bird in birds))
    return {token for arrived in together(fly, sources) for token in arrived}


def _sighting(bird: _Canary, delivered: bool, seen: Sequence[Seen]) -> Sighting:
    driver = bird.overlay.driver
    return Sighting(
        overlay=bird.overlay.name,
        driver=driver,
        encrypts=TRAITS[driver].encrypts,
        source=bird.source.container,
        target=bird.target.container,
        delivered=delivered,
        seen={each.spot: each.found[bird.text] for each in seen},
        sent=len(bird.text),
        bytes=max((each.bytes for each in seen), default=0),
        missed=sum(each.missed for each in seen),
    )
