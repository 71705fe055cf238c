"""Salvage: what is right of a profile that is wrong in places, so that the rest is looked at in the same pass."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from dynamos.kit.errors import Mistake
from dynamos.model.documents import Document
from dynamos.model.profiles import Profile

Place = tuple[str | int, ...]

_PASSES = 4
_NEEDED = {"name": "profile", "marketplace": ""}
_ITEM = 2
"""How deep what a profile lists stands: a site, a link, a member of its overlay."""


@dataclass(frozen=True, slots=True)
class Salvaged:
    """The profile as far as it is right, and every mistake of form.

    `lost` are the members of which something is missing that others refer to. `numbers` tells, for lists of which items
    were left out, which number each of the rest has in the file.
    """

    profile: Profile | None
    mistakes: tuple[Mistake, ...]
    lost: frozenset[str] = frozenset()
    numbers: Mapping[Place, list[int]] = field(default_factory=dict)


def salvage(document: Document) -> Salvaged:
    """Read a profile. Where it has mistakes, what is wrong is left out of what is given."""
    profile, mistakes = document.check(Profile)
    if profile or not isinstance(document.value, dict):
        return Salvaged(profile, tuple(mistakes))
    rest = copy.deepcopy(document.value)
    lost: set[str] = set()
    numbers: dict[Place, list[int]] = {}
    for _ in range(_PASSES):
        try:
            found = Profile.model_validate({**_NEEDED, **rest})
        except ValidationError as invalid:
            places = [tuple(step for step in error["loc"] if step != "[key]") for error in invalid.errors()]
        else:
            return Salvaged(found, tuple(mistakes), frozenset(lost), numbers)
        # from the end, so that the numbers of the items of a list that come before stay right
        for place in sorted({_there(rest, place) for place in places}, key=_order, reverse=True):
            _drop(rest, place, numbers)
            if place and (len(place) <= _ITEM or "parties" in place):
                lost.add(str(place[0]))
    return Salvaged(None, tuple(mistakes), frozenset(lost))


def _there(value: Any, place: Place) -> Place:
    """Give the place as far as it exists, of a missing member what should hold it; and no items of an item's lists,
    which mean something together only."""
    for depth, step in enumerate(place):
        inside = isinstance(value, dict) and step in value
        if not inside and not (isinstance(value, list) and isinstance(step, int) and step < len(value)):
            return place[:depth]
        if isinstance(step, int) and any(isinstance(above, int) for above in place[:depth]):
            return next(place[: at + 1] for at, above in enumerate(place) if isinstance(above, int))
        value = value[step]
    return place


def _order(place: Place) -> list[tuple[bool, str | int]]:
    return [(isinstance(step, str), step) for step in place]


def _drop(value: Any, place: Place, numbers: dict[Place, list[int]]) -> None:
    if not place:
        return
    *above, last = place
    for step in above:
        value = value[step]
    if isinstance(value, list):
        del numbers.setdefault(tuple(above), list(range(len(value))))[int(last)]
    del value[last]
