"""Captures: what hosts see of certain texts on their devices, in whole packets."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from dynamos.kit.errors import Broken
from dynamos.testbed.hosts import Host
from dynamos.testbed.proofs.programs import Started, started, together


@dataclass(frozen=True, slots=True)
class Spot:
    """Where one may look: a device of a host. `name` is what a person calls it: the link, or the node."""

    name: str
    host: Host
    device: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen at a spot: packets and their bytes, packets that came too fast to be looked at, and how many had
    each text."""

    spot: str
    packets: int
    bytes: int
    missed: int
    found: Mapping[str, int]


class Capture:
    """A capture under way; `seen` is filled in when it has ended."""

    def __init__(self, spots: Sequence[Spot]) -> None:
        self.spots = tuple(spots)
        self.seen: tuple[Seen, ...] = ()


@contextmanager
def captured(spots: Sequence[Spot], texts: Sequence[str]) -> Iterator[Capture]:
    """Look for texts at these spots while the body runs; what was seen is known afterwards."""
    capture = Capture(spots)
    hosts = list(dict.fromkeys(spot.host.name for spot in spots))
    by_host = {name: [spot for spot in spots if spot.host.name == name] for name in hosts}
    specs: list[tuple[Host, Mapping[str, Any]]] = [
        (own[0].host, {"devices": [spot.device for spot in own], "texts": list(texts)}) for own in by_host.values()
    ]
    with started("capture", specs) as programs:
        yield capture
        told = together(_ended, programs)
    capture.seen = tuple(
        seen for name, devices in zip(hosts, told, strict=True) for seen in _seen(by_host[name], devices)
    )


def way_device(host: Host, to: str) -> str:
    """Give the device that a host sends packets to this address over. Raises JobFailed where it has no way."""
    words = host.run(["ip", "-o", "route", "get", to]).text.split()
    return words[words.index("dev") + 1]


def _ended(program: Started) -> dict[str, Any]:
    told = program.stop()
    try:
        devices: dict[str, Any] = json.loads(told)["devices"]
    except (ValueError, KeyError):
        raise Broken("a capture ended before it was stopped", where=program.host.name) from None
    return devices


def _seen(spots: Sequence[Spot], devices: Mapping[str, Any]) -> Iterator[Seen]:
    for spot in spots:
        said = devices[spot.device]
        yield Seen(spot.name, said["packets"], said["bytes"], said["missed"], said["found"])
