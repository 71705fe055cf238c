"""Placements: which of a party's agents runs its part of a job. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from dynamos.middleware.instances import staying
from dynamos.middleware.messages import Load, Presence


def choose(instances: Iterable[Presence], ours: Mapping[str, int], *, silent: Collection[str] = ()) -> Presence | None:
    """Give the agent with the least to do among those that stay, or None where none does.

    `ours` counts the parts that we know of at each, which its own word may not count yet. `silent` are those that did
    not hear the last thing they were told; they are chosen where there is nobody else.
    """
    there = staying(instances)
    heard = [each for each in there if each.instance not in silent]
    return min(heard or there, key=lambda each: _rank(each, ours.get(each.instance, 0)), default=None)


def _rank(instance: Presence, ours: int) -> tuple[float, int, str]:
    load = instance.load or Load()
    parts = max(load.parts, ours)
    return max(parts / max(1, load.capacity), load.cpu), ours, instance.instance
