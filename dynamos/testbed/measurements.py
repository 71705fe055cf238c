"""Measurements: what packets between two hosts really meet."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from dynamos.kit.errors import JobFailed
from dynamos.model.networks import UNDERLAY_MTU
from dynamos.testbed import probes
from dynamos.testbed.boxes import Box
from dynamos.testbed.efforts import QUICK, Effort, Trip, schedule, spec
from dynamos.testbed.expectations import Expected
from dynamos.testbed.hosts import Host
from dynamos.testbed.intervals import wilson

_START = 0.3
_START_EACH = 0.04
_APART, _APART_ELSEWHERE = 0.1, 1.0
_PATIENCE = 30.0
_PYTHON = 'exec "$(command -v python3 || echo "$0")" -I -S -c "$1"'


@dataclass(frozen=True, slots=True)
class Place:
    """Where one measures from and to: a host at a site, with its address on the WAN and the mtu of its device."""

    site: str
    host: Host
    address: str
    mtu: int = UNDERLAY_MTU


@dataclass(frozen=True, slots=True)
class Measured:
    """What packets from one site to another met: seconds, shares of one, bits per second, bytes.

    `delay` is the median, from `delay_low` to `delay_high` in four of five cases; `jitter` the standard deviation, from
    the middle two thirds, which a busy machine does not disturb. `round_trip` tells that both are of the way there and
    back, as the hosts share no clock. `loss_low` to `loss_high` is the 95 % confidence interval of the loss. `rate` is
    of whole frames, as tc counts; none where none was expected, or the effort does not reach to it. `mtu` is the
    largest packet that gets through, and `refusal` what happens to one that is larger by a byte: refused "here" or on
    the "path", or "silent": a black hole.
    """

    source: str
    destination: str
    sent: int
    received: int
    delay: float | None
    delay_low: float | None
    delay_high: float | None
    jitter: float | None
    round_trip: bool
    loss: float
    loss_low: float
    loss_high: float
    reorder: float
    rate: float | None
    mtu: int
    refusal: str

    @property
    def black_hole(self) -> bool:
        """Whether small packets get through, and large ones vanish without a word."""
        return self.refusal == "silent"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def measure(source: Place, destination: Place, *, expected: Expected | None = None, effort: Effort = QUICK) -> Measured:
    """Measure what packets from one place to another meet. The rate is measured where one is expected.

    Raises JobFailed where a host cannot run the program that measures.
    """
    trip = (source.site, destination.site)
    return measure_all([source, destination], {trip: expected or Expected(())}, effort=effort)[trip]


def measure_all(
    places: Sequence[Place], expected: Mapping[tuple[str, str], Expected], *, effort: Effort = QUICK
) -> dict[tuple[str, str], Measured]:
    """Measure these ordered pairs of sites, all at the same time but for what would be in each other's way.

    Hosts that are boxes of a world share a clock, so that each way is measured by itself; others do not.
    """
    index = {place.site: number for number, place in enumerate(places)}
    pairs = [pair for pair in expected if pair[0] in index and pair[1] in index]
    trips = [Trip(index[a], index[b], places[index[b]].address, expected[a, b]) for a, b in pairs]
    together = all(isinstance(place.host, Box) for place in places)
    slack = _APART if together else _APART_ELSEWHERE
    plan = schedule(trips, len(places), effort, echo=not together, slack=slack)
    start = time.time() + _START + _START_EACH * len(places) if together else None
    within = plan.seconds + _PATIENCE
    with ThreadPoolExecutor(max(1, len(places))) as pool:
        tasks = [
            pool.submit(_run, place.host, spec(own, start), within)
            for place, own in zip(places, plan.hosts, strict=True)
        ]
        found = [task.result() for task in tasks]
    return {
        pair: _measured(pair, str(stream), found[trip.source], found[trip.destination], round_trip=not together)
        for stream, (pair, trip) in enumerate(zip(pairs, trips, strict=True))
    }


def _run(host: Host, told: Mapping[str, Any], within: float) -> dict[str, Any]:
    argv = ["sh", "-c", _PYTHON, sys.executable, _program()]
    completed = host.run(argv, stdin=json.dumps(told).encode(), within=within)
    try:
        answer: dict[str, Any] = json.loads(completed.stdout)
    except ValueError:
        raise JobFailed(
            f"the program that measures said nothing of use: {completed.text[:200]}", where=host.name
        ) from None
    return answer


@cache
def _program() -> str:
    return Path(probes.__file__).read_text(encoding="utf-8")


def _measured(
    pair: tuple[str, str], stream: str, source: Mapping[str, Any], destination: Mapping[str, Any], *, round_trip: bool
) -> Measured:
    sent = int(source["sent"].get(stream, 0))
    heard = destination["heard"].get(stream, {"received": 0, "overtook": 0, "times": {}})
    times = (source["echoes"].get(stream, {"times": {}}) if round_trip else heard)["times"]
    seconds = {int(quantile): at / 1e9 for quantile, at in times.items()}
    received = min(int(heard["received"]), sent)
    low, high = wilson(sent - received, sent)
    size = source["sizes"].get(stream, {"mtu": 0, "refusal": "none"})
    rate = destination["rates"].get(stream)
    return Measured(
        source=pair[0],
        destination=pair[1],
        sent=sent,
        received=received,
        delay=seconds.get(50),
        delay_low=seconds.get(10),
        delay_high=seconds.get(90),
        jitter=(seconds[84] - seconds[16]) / 2 if seconds else None,
        round_trip=round_trip,
        loss=1 - received / sent if sent else 1.0,
        loss_low=low,
        loss_high=high,
        reorder=heard["overtook"] / received if received else 0.0,
        rate=float(rate) if rate is not None else None,
        mtu=int(size["mtu"]),
        refusal=str(size["refusal"]),
    )
