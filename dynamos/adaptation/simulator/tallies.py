"""Tallies: figures over millions of readings, in memory that does not grow with them."""

from __future__ import annotations

from array import array
from math import exp, log

_LEAST = 1e-6
_STEP = log(1.005)
_BUCKETS = int(log(1e12) / _STEP) + 2


class Tally:
    """Counts readings (of at least a millionth): mean exactly, quantiles to within half a percent."""

    __slots__ = ("_buckets", "count", "largest", "total")

    def __init__(self) -> None:
        self._buckets = array("q", bytes(8 * _BUCKETS))
        self.count = 0
        self.total = 0.0
        self.largest = 0.0

    def add(self, reading: float) -> None:
        """Take one reading."""
        place = int(log(reading / _LEAST) / _STEP) + 1 if reading > _LEAST else 0
        self._buckets[place if place < _BUCKETS else _BUCKETS - 1] += 1
        self.count += 1
        self.total += reading
        self.largest = max(self.largest, reading)

    @property
    def mean(self) -> float:
        """The mean; 0 where there is no reading."""
        return self.total / self.count if self.count else 0.0

    def quantile(self, share: float) -> float:
        """Give the reading that this share of all are no greater than; 0 where there is none."""
        wanted, seen = share * self.count, 0
        for place, count in enumerate(self._buckets):
            seen += count
            if count and seen >= wanted:
                return min(self.largest, _LEAST * exp((place - 0.5) * _STEP)) if place else min(self.largest, _LEAST)
        return self.largest
