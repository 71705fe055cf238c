"""Layouts: where things stand on a map, so that distances on it are like those in the network. Pure, deterministic."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

Point = tuple[float, float]

_ROUNDS = 300
_NEAR = 1e-9


def spread(names: Sequence[str], lengths: Mapping[frozenset[str], float]) -> dict[str, Point]:
    """Give each name a place, so that the joined ones are about as far apart as `lengths` says, and others as far as
    the shortest path between them.

    Stress majorisation (Gansner, Koren and North, 2004), from a circle in the order of the names.
    """
    apart = _paths(names, lengths)
    places = {
        name: (
            math.cos(-math.pi / 2 + 2 * math.pi * at / len(names)),
            math.sin(-math.pi / 2 + 2 * math.pi * at / len(names)),
        )
        for at, name in enumerate(names)
    }
    for _ in range(_ROUNDS if len(names) > 1 else 0):
        places = {name: _pulled(name, places, apart) for name in names}
    return _upright(places)


def _pulled(name: str, places: Mapping[str, Point], apart: Mapping[tuple[str, str], float]) -> Point:
    """Give the place where the others want the name, each by how near it should be."""
    x, y = places[name]
    total, across, down = 0.0, 0.0, 0.0
    for other, (ox, oy) in places.items():
        if other == name:
            continue
        wanted = apart[name, other]
        weight = 1 / wanted**2
        far = math.hypot(x - ox, y - oy) or _NEAR
        across += weight * (ox + wanted * (x - ox) / far)
        down += weight * (oy + wanted * (y - oy) / far)
        total += weight
    return across / total, down / total


def _paths(names: Sequence[str], lengths: Mapping[frozenset[str], float]) -> dict[tuple[str, str], float]:
    """Give the length of the shortest path of each pair; of those without one, more than any other."""
    found = {(a, b): lengths.get(frozenset((a, b)), math.inf) for a in names for b in names if a != b}
    for via in names:
        for a, b in combinations(names, 2):
            if via not in (a, b):
                found[a, b] = found[b, a] = min(found[a, b], found[a, via] + found[via, b])
    longest = max((each for each in found.values() if each < math.inf), default=1.0)
    return {pair: each if each < math.inf else longest * 1.2 for pair, each in found.items()}


def _upright(places: Mapping[str, Point]) -> dict[str, Point]:
    """Turn the map so that it is broad rather than high, and its first name stands at the left."""
    count = len(places)
    if count < 2:  # noqa: PLR2004
        return dict.fromkeys(places, (0.0, 0.0))
    cx, cy = sum(x for x, _ in places.values()) / count, sum(y for _, y in places.values()) / count
    points = {name: (x - cx, y - cy) for name, (x, y) in places.items()}
    xx, yy = sum(x * x for x, _ in points.values()), sum(y * y for _, y in points.values())
    angle = 0.5 * math.atan2(2 * sum(x * y for x, y in points.values()), xx - yy)
    turned = {name: _turned(point, -angle) for name, point in points.items()}
    first = next(iter(turned.values()))
    return {name: (x if first[0] <= 0 else -x, y) for name, (x, y) in turned.items()}


def _turned(point: Point, angle: float) -> Point:
    x, y = point
    return x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)
