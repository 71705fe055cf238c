"""Instances: processes that are one unit together, such as two agents of one party during an upgrade.

Each says that it is there under a key of its own, which only its unit may write: `<UNIT>.<INSTANCE>`.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence

from dynamos.knowledge.permissions import API, ORCHESTRATOR
from dynamos.middleware.messages import Load, Presence

POD = "POD_NAME"
"""The environment variable with the name of the pod that a process is in, if it is in one."""
ADDRESS = "POD_IP"
"""The environment variable with the address of that pod."""
_UNFIT = re.compile(r"[^A-Za-z0-9_-]+")
_LONGEST = 48


def fresh() -> str:
    """Give a name that no other instance has or had: a token, with the pod's name in front where there is one."""
    pod = _UNFIT.sub("-", os.environ.get(POD, ""))[-_LONGEST:].strip("-")
    return f"{pod}-{secrets.token_hex(6)}" if pod else secrets.token_hex(6)


def host(configured: str) -> str:
    """Give the address that an instance serves at: as configured, or its pod's own where that is empty."""
    return configured or os.environ.get(ADDRESS, "")


def key_of(unit: str, instance: str) -> str:
    """Give the key of an instance in the bucket of presences."""
    return f"{unit}.{instance}"


def parsed(key: str) -> tuple[str, str]:
    """Give unit and instance of a key; an empty instance for a key that is no instance's."""
    unit, _, instance = key.partition(".")
    return unit, "" if "." in instance else instance


def named(key: str, value: Presence) -> Presence:
    """Give what an instance says as that of who its key names: what a key does not say, its value cannot say either."""
    unit, instance = parsed(key)
    return value.model_copy(update={"party": unit, "instance": instance})


def by_unit(online: Mapping[str, Presence]) -> dict[str, tuple[Presence, ...]]:
    """Give the instances of every unit, each by its name."""
    found: dict[str, list[Presence]] = {}
    for key, value in sorted(online.items()):
        unit, instance = parsed(key)
        if instance:
            found.setdefault(unit, []).append(named(key, value))
    return {unit: tuple(values) for unit, values in found.items()}


def parties(online: Mapping[str, Presence]) -> dict[str, tuple[Presence, ...]]:
    """Give the agents of every party."""
    return {unit: found for unit, found in by_unit(online).items() if unit not in (ORCHESTRATOR, API)}


def staying(instances: Iterable[Presence]) -> tuple[Presence, ...]:
    """Give those that take what is new."""
    return tuple(each for each in instances if not each.leaving)


def together(instances: Sequence[Presence]) -> Presence:
    """Give several instances as one: what the oldest says, with the load of all that take what is new."""
    count = staying(instances) or tuple(instances)
    oldest = min(count, key=lambda each: (each.active_since, each.instance))
    return oldest.model_copy(update={"load": load_of(count)})


def load_of(instances: Iterable[Presence]) -> Load | None:
    """Give the load of several instances: parts, places and memory add up, processor time weighs by the places."""
    loads = [each.load for each in instances if each.load is not None]
    if len(loads) < 2:  # noqa: PLR2004
        return next(iter(loads), None)
    capacity = sum(load.capacity for load in loads)
    return Load(
        parts=sum(load.parts for load in loads),
        capacity=capacity,
        cpu=round(sum(load.cpu * load.capacity for load in loads) / max(1, capacity), 3),
        memory=sum(load.memory for load in loads),
        memory_share=max(load.memory_share for load in loads),
    )
