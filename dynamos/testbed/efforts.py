"""Efforts: how much of a testbed's time measuring takes, and when each host sends what. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from dynamos.testbed.expectations import Expected
from dynamos.testbed.probes import HEADERS

ETHERNET = 14
DELAY_SECONDS, DELAY_SHARE = 0.001, 0.05
"""By how much a delay may differ from what is declared: by the larger of both."""


@dataclass(frozen=True, slots=True)
class Effort:
    """Paces: for `seconds`, at most one every `interval`, and at least `packets` of them. Floods: `flood` seconds each,
    over ways of at most so many `links`: a longer way takes as much of the emulator as all of its links."""

    name: str
    seconds: float
    interval: float
    packets: int
    flood: float
    links: int


QUICK = Effort("quick", seconds=2.0, interval=0.002, packets=100, flood=0.5, links=1)
THOROUGH = Effort("thorough", seconds=15.0, interval=0.002, packets=2000, flood=2.0, links=16)


class Trip(NamedTuple):
    """One ordered pair of hosts: its ends by their indexes, the address that is sent to, and what is expected."""

    source: int
    destination: int
    address: str
    expected: Expected


_AT_ONCE = 4000.0
"""Packets per second that all hosts of one machine may send together without being in each other's way."""
_SHARE_OF_RATE = 0.1
_PACE_BYTES = 64
_WIRE_BYTES = _PACE_BYTES + HEADERS + ETHERNET
_OVERDRIVE = 1.25
_FLOODS_RATE = 400e6
_AFTER = 0.3
_SIZES_SECONDS = 1.5
_FEWEST, _MOST = 50, 20_000
_JITTERS_APART = 4
_MEDIAN_ERROR = 1.2533
"""The standard error of a normal sample's median, in that of its mean."""
_LONGER = 6


class Schedule(NamedTuple):
    """What each host is to do, by its index, and how long all of it takes."""

    hosts: Sequence[dict[str, Any]]
    seconds: float


def schedule(trips: Sequence[Trip], hosts: int, effort: Effort, *, echo: bool, slack: float) -> Schedule:
    """Give what each host is to do for these trips. A trip's index is the number of its stream.

    Paces and sizes go at the same time, as they take little of a link; then floods, side by side where they neither
    share a link nor an end. `slack` is by how many seconds hosts may begin apart.
    """
    plans: list[dict[str, Any]] = [{"paces": [], "sizes": [], "floods": [], "hears": []} for _ in range(hosts)]
    longest = max((trip.expected.delay + 5 * trip.expected.jitter for trip in trips), default=0.0)
    interval = max(effort.interval, len(trips) / _AT_ONCE)
    quiet = _SIZES_SECONDS + 4 * longest
    for stream, trip in enumerate(trips):
        own = max(interval, _own_interval(trip.expected))
        count = min(max(math.ceil(effort.seconds / own), _least(effort, trip.expected, own)), _MOST)
        plans[trip.source]["paces"].append(
            {"to": trip.address, "stream": stream, "count": count, "interval": own, "size": _PACE_BYTES, "echo": echo,
             "at": slack + own * stream / max(len(trips), 1)}
        )  # fmt: skip
        size = {"to": trip.address, "stream": stream, "expected": trip.expected.mtu, "at": slack}
        plans[trip.source]["sizes"].append(size)
        quiet = max(quiet, count * own + longest)
    end = slack + quiet + _AFTER
    for batch in _batches(trips, effort.links):
        until = end + effort.flood * (_OVERDRIVE + 0.1) + longest + _AFTER
        for stream in batch:
            trip = trips[stream]
            rate = _OVERDRIVE * float(trip.expected.rate or 0)
            flood = {"to": trip.address, "stream": stream, "rate": rate, "seconds": effort.flood,
                     "size": trip.expected.mtu - HEADERS, "at": end}  # fmt: skip
            plans[trip.source]["floods"].append(flood)
            plans[trip.destination]["hears"].append({"stream": stream, "from": end - slack, "until": until})
        end = until + slack
    return Schedule([{**plan, "end": end + slack} for plan in plans], end + slack)


def _own_interval(expected: Expected) -> float:
    """Give the shortest interval at which paces neither fill a slow link nor are in each other's way."""
    of_rate = _WIRE_BYTES * 8 / (_SHARE_OF_RATE * expected.rate) if expected.rate else 0.0
    return max(of_rate, _JITTERS_APART * expected.jitter)


def _least(effort: Effort, expected: Expected, interval: float) -> int:
    """Give the fewest packets that are worth it, where they would take no more than some times as long: as many as it
    takes for the median of jittered delays to be known three times better than its tolerance."""
    tolerance = max(DELAY_SECONDS, DELAY_SHARE * expected.delay)
    settled = math.ceil((3 * _MEDIAN_ERROR * expected.jitter / tolerance) ** 2)
    return max(min(max(effort.packets, settled), math.ceil(_LONGER * effort.seconds / interval)), _FEWEST)


def _batches(trips: Sequence[Trip], links: int) -> list[list[int]]:
    """Give which floods go side by side: no two over one link the same way, from one host, or to one, and all of them
    together, each counted once for each of its links, no more than one machine carries."""
    batches: list[tuple[list[int], set[Any], float]] = []
    for stream, trip in enumerate(trips):
        if not trip.expected.rate or trip.expected.loss >= 1 or len(trip.expected.links) > links:
            continue
        takes = {("from", trip.source), ("to", trip.destination), *trip.expected.ways}
        rate = float(trip.expected.rate) * max(1, len(trip.expected.links))
        for index, (batch, taken, sum_of_rates) in enumerate(batches):
            if not takes & taken and sum_of_rates + rate <= _FLOODS_RATE:
                batches[index] = ([*batch, stream], taken | takes, sum_of_rates + rate)
                break
        else:
            batches.append(([stream], takes, rate))
    return [batch for batch, _, _ in batches]


def spec(plan: Mapping[str, Any], start: float | None) -> dict[str, Any]:
    """Give what a host's program reads; `start` is a time of day that all hosts share, if they share one."""
    return {**plan, "start": start}
