"""Spans: what every unit did for one job, from its trace and from what its runners measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

_MS = 1e6


@dataclass(frozen=True, slots=True)
class Span:
    """What a unit did from one time to another, in nanoseconds since the epoch; `depth` in the tree of spans."""

    unit: str
    name: str
    start: int
    end: int
    depth: int = 0
    failed: bool = False


def spans_of(records: Sequence[Mapping[str, Any]], job: Mapping[str, Any]) -> list[Span]:
    """Give the spans of a trace with the steps of the job, by unit and start, each as deep as it is in the tree."""
    parents = {record["span"]: record.get("parent", "") for record in records}

    def depth(span: str) -> int:
        found, seen = 0, {span}
        while (span := parents.get(span, "")) in parents and span not in seen:
            seen.add(span)
            found += 1
        return found

    found = [
        Span(r["unit"], r["name"], r["start_ns"], r["end_ns"], depth(r["span"]), r.get("status") == "error")
        for r in records
    ]
    deepest: dict[str, int] = {}
    for span in found:
        deepest[span.unit] = max(deepest.get(span.unit, 0), span.depth)
    named = {(span.unit, span.name.removeprefix("step ")) for span in found}
    found += [step for step in _steps(job, deepest) if (step.unit, step.name.removeprefix("step ")) not in named]
    units = {s.unit for s in found}
    first = {unit: min(s.start for s in found if s.unit == unit) for unit in units}
    outer = {unit: min(s.depth for s in found if s.unit == unit) for unit in units}
    found.sort(key=lambda s: (first[s.unit], s.unit, s.start, s.depth))
    return [replace(s, depth=s.depth - outer[s.unit]) for s in found]


def _steps(job: Mapping[str, Any], deepest: Mapping[str, int]) -> list[Span]:
    """Give the services that ran, as their runner measured them."""
    found = []
    for party, part in (job.get("parts") or {}).items():
        for usage in part.get("usages") or ():
            if usage.get("started"):
                start = int(datetime.fromisoformat(usage["started"]).timestamp() * 1e9)
                end = start + int(usage.get("wallMs", 0) * _MS)
                failed = bool(usage.get("exit"))
                found.append(Span(party, usage["service"], start, end, deepest.get(party, 0) + 1, failed))
    return found
