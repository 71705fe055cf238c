"""Intervals: what a number of events out of many says of their share."""

from __future__ import annotations

import math

_Z95 = 1.959963984540054


def wilson(events: int, trials: int) -> tuple[float, float]:
    """Give the 95 % confidence interval of a share by Wilson's score, which is right for shares near 0 and 1 too.

    Without trials it is everything. Source: E. B. Wilson, J. Am. Stat. Assoc. 22 (1927) 209.
    """
    if trials == 0:
        return 0.0, 1.0
    share, z2 = events / trials, _Z95**2
    middle = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = _Z95 / (1 + z2 / trials) * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2))
    low = 0.0 if events == 0 else max(0.0, middle - half)
    high = 1.0 if events == trials else min(1.0, middle + half)
    return low, high
