"""Verifications: what was declared of links against what packets really meet, for every ordered pair of sites."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dynamos.kit.errors import JobFailed
from dynamos.testbed.efforts import DELAY_SECONDS, DELAY_SHARE, QUICK, Effort
from dynamos.testbed.expectations import Expected, expected
from dynamos.testbed.intervals import wilson
from dynamos.testbed.items import Link, Routes
from dynamos.testbed.measurements import Measured, Place, measure_all

ATTEMPTS = 3
"""How often a pair that is out of tolerance is measured: machines are busy, and one of twenty 95 % intervals misses."""

_JITTER_SECONDS, _JITTER_SHARE = 0.001, 0.2
_RATE_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Deviation:
    """Something that is not as declared, by more than its tolerance."""

    what: str
    declared: float
    measured: float | None
    text: str

    def as_dict(self) -> dict[str, Any]:
        return {"what": self.what, "declared": self.declared, "measured": self.measured, "text": self.text}


@dataclass(frozen=True, slots=True)
class Verified:
    """One ordered pair of sites, with the last of its measurements."""

    source: str
    destination: str
    declared: Expected
    measured: Measured
    deviations: tuple[Deviation, ...]
    attempts: int

    @property
    def name(self) -> str:
        """The link and the way over it, or all links of a longer way."""
        links = ", ".join(self.declared.links) or "no link"
        return f"{links} ({self.source} to {self.destination})"

    def as_dict(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "destination": self.destination,
            "declared": self.declared.as_dict(),
            "measured": self.measured.as_dict(),
            "deviations": [each.as_dict() for each in self.deviations],
            "attempts": self.attempts,
        }


@dataclass(frozen=True, slots=True)
class Verification:
    """Every ordered pair, how much effort was made, and how long it took (s)."""

    pairs: tuple[Verified, ...]
    effort: str
    seconds: float

    @property
    def failed(self) -> tuple[Verified, ...]:
        return tuple(pair for pair in self.pairs if pair.deviations)

    def require(self) -> None:
        """Raise JobFailed that names the links which are not as declared."""
        if not self.failed:
            return
        told = [f"{pair.name}: {'; '.join(each.text for each in pair.deviations)}" for pair in self.failed]
        raise JobFailed(
            "links are not as declared: " + " | ".join(told),
            hint="measure again with more effort, or when the machine is less busy",
            pairs=[pair.as_dict() for pair in self.failed],
        )

    def as_dict(self) -> dict[str, Any]:
        return {"pairs": [pair.as_dict() for pair in self.pairs], "effort": self.effort, "seconds": self.seconds}


def verify(
    links: Mapping[str, Link],
    routes: Mapping[str, Routes],
    places: Sequence[Place],
    *,
    effort: Effort = QUICK,
    attempts: int = ATTEMPTS,
) -> Verification:
    """Measure every ordered pair of places against what its links say, and again those that deviate.

    Tolerances: delay 1 ms or 5 %, jitter 1 ms or 20 %, loss and reordering within their 95 % intervals, rate 10 %
    where the effort measures it, the MTU exactly. `links` and `routes` are by their names, as in a wanted state.
    """
    began = time.monotonic()
    declared = {
        (a.site, b.site): _fitting(expected(a.site, b.site, b.address, links, routes), a, b)
        for a in places
        for b in places
        if a.site != b.site
    }
    found: dict[tuple[str, str], Verified] = {}
    left = declared
    for attempt in range(1, attempts + 1):
        for pair, measured in measure_all(places, left, effort=effort).items():
            deviations = tuple(compare(declared[pair], measured))
            found[pair] = Verified(*pair, declared[pair], measured, deviations, attempt)
        left = {pair: declared[pair] for pair, verified in found.items() if verified.deviations}
        if not left:
            break
    return Verification(tuple(found[pair] for pair in declared), effort.name, time.monotonic() - began)


def compare(declared: Expected, measured: Measured) -> Iterator[Deviation]:
    """Give what of a pair is out of tolerance."""
    if not measured.loss_low <= declared.loss <= measured.loss_high:
        interval = f"{measured.loss_low:.3%} to {measured.loss_high:.3%}"
        yield Deviation("loss", declared.loss, measured.loss, f"loss {declared.loss:.3%} declared, {interval} measured")
    if declared.loss >= 1 or measured.delay is None or measured.jitter is None:
        return
    times = 2 if measured.round_trip else 1
    for what, seconds, got, least, share in (
        ("delay", times * declared.delay, measured.delay, DELAY_SECONDS, DELAY_SHARE),
        ("jitter", math.sqrt(times) * declared.jitter, measured.jitter, _JITTER_SECONDS, _JITTER_SHARE),
    ):
        if abs(got - seconds) > max(least, share * seconds):
            text = f"{what} {_ms(seconds)} declared, {_ms(got)} measured"
            yield Deviation(what, seconds, got, text)
    yield from _order(declared, measured)
    yield from _capacity(declared, measured)


def _order(declared: Expected, measured: Measured) -> Iterator[Deviation]:
    low, high = wilson(round(measured.reorder * measured.received), measured.received)
    if not low <= declared.reorder <= high:
        text = f"reordering {declared.reorder:.3%} declared, {low:.3%} to {high:.3%} measured"
        yield Deviation("reorder", declared.reorder, measured.reorder, text)


def _capacity(declared: Expected, measured: Measured) -> Iterator[Deviation]:
    got = measured.rate
    if declared.rate and got is not None and abs(got - declared.rate) > _RATE_SHARE * declared.rate:
        text = f"rate {declared.rate / 1e6:.4g} Mbit/s declared, {got / 1e6:.4g} Mbit/s measured"
        yield Deviation("rate", declared.rate, measured.rate, text)
    if measured.black_hole:
        text = f"packets larger than {measured.mtu} bytes vanish without a word: an MTU black hole"
        yield Deviation("black-hole", declared.mtu, measured.mtu, text)
    elif measured.mtu != declared.mtu:
        text = f"mtu {declared.mtu} declared, {measured.mtu} measured"
        yield Deviation("mtu", declared.mtu, measured.mtu, text)


def _fitting(declared: Expected, source: Place, destination: Place) -> Expected:
    return replace(declared, mtu=min(declared.mtu, source.mtu, destination.mtu))


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.4g} ms"
