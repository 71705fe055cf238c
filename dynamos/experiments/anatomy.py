"""Anatomy: where the time of a request goes, from the stages that its trace tells. Pure.

Stages lie within each other and beside each other, so their lengths do not add up to the whole. Here every moment of a
request counts for one stage: the one that began last of those under way. These shares do add up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dynamos.experiments.records import Record, Stage

CONTROL = ("api", "orchestrator", "bus", "gateway")
"""Units that are no party's; what any party does bears one name."""
BETWEEN = "between stages"
OTHER = "other stages"


@dataclass(frozen=True, slots=True)
class Anatomy:
    """Mean seconds by stage, of so many requests. The means of the shares add up to that of the whole."""

    requests: int
    seconds: Mapping[str, float]

    @property
    def total(self) -> float:
        return sum(self.seconds.values())


def dissect(records: Iterable[Record]) -> Anatomy | None:
    """Give where the time of these trials' requests went; None where no trace was kept."""
    requests = [own for record in records for own in _requests(record.stages) if own]
    if not requests:
        return None
    shares = [_shares(stages) for stages in requests]
    names = dict.fromkeys(name for share in shares for name in share)
    return Anatomy(len(shares), {name: float(np.mean([share.get(name, 0.0) for share in shares])) for name in names})


def label(stage: Stage) -> str:
    """Give what a stage is called: who does it, and what."""
    return f"{stage.unit}: {stage.name}" if stage.unit in CONTROL else f"party: {stage.name}"


def lumped(found: Sequence[Anatomy], most: int) -> list[tuple[str, list[float]]]:
    """Give the longest stages of several, each with its seconds in every one, the longest first; the rest as one."""
    names = dict.fromkeys(name for each in found for name in each.seconds)
    ordered = sorted(names, key=lambda name: -sum(each.seconds.get(name, 0.0) for each in found))
    kept = ordered if len(ordered) <= most else ordered[: most - 1]
    rows = [(name, [each.seconds.get(name, 0.0) for each in found]) for name in kept]
    if rest := ordered[len(kept) :]:
        rows.append((OTHER, [sum(each.seconds.get(name, 0.0) for name in rest) for each in found]))
    return rows


def _requests(stages: Sequence[Stage]) -> list[list[Stage]]:
    found: dict[int, list[Stage]] = {}
    for stage in stages:
        found.setdefault(stage.request, []).append(stage)
    return list(found.values())


def _shares(stages: Sequence[Stage]) -> dict[str, float]:
    """Give every moment from the first stage's begin to the last one's end to one stage."""
    found: dict[str, float] = {}
    edges = sorted({edge for stage in stages for edge in (stage.start, stage.start + stage.seconds)})
    for begin, end in pairwise(edges):
        under_way = [s for s in stages if s.start <= begin and s.start + s.seconds >= end]
        last = max(under_way, key=lambda stage: (stage.start, stage.depth), default=None)
        name = label(last) if last else BETWEEN
        found[name] = found.get(name, 0.0) + end - begin
    return found
