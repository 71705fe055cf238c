"""Recordings: requests that an experiment has made, read from the folder of its run."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from dynamos.adaptation.simulator.calibration import Recorded
from dynamos.adaptation.simulator.scenes import ARCHETYPES
from dynamos.kit.errors import BadInput, NotFound

TABLES = ("trials", "requests", "stages")
OURS = "recorded.json"
_FEATURES = frozenset({"rows", "providers", "archetype", "parties"})
Row = Mapping[str, Any]


def read(folder: Path) -> list[Recorded]:
    """Give what a run has recorded: every answered request of one archetype, with its stages.

    Its trials have the factors `archetype` and `rows`, and `providers`, a number, unless it is always one; any other
    factor makes another kind of request. Raises NotFound where there are no tables, BadInput where they tell nothing.
    """
    trials, requests, stages = (_table(folder, name) for name in TABLES)
    factors = _factors(folder)
    cells = {row["trial"]: row for row in trials if not row["warmup"] and row["status"] == "done"}
    spans: dict[tuple[int, int], list[Row]] = defaultdict(list)
    for row in stages:
        spans[row["trial"], row["request"]].append(row)
    found = []
    for row in requests:
        cell = cells.get(row["trial"])
        if cell is not None and row["error"] is None:
            made = _recorded(cell, row, spans[row["trial"], row["request"]], factors)
            found += [made] if made is not None else []
    if not found:
        hint = "its factors have to be archetype, rows and providers, as in experiments/archetypes.py"
        raise BadInput("the run has no request to calibrate by", where=str(folder), hint=hint)
    return found


def ours() -> list[Recorded]:
    """Give the recording that comes with DYNAMOS: marketplace `bench` on two cores of a virtual machine."""
    text = files("dynamos.adaptation.simulator").joinpath(OURS).read_text()
    return [Recorded.model_validate(each) for each in json.loads(text)]


def _table(folder: Path, name: str) -> list[Row]:
    path = folder / f"{name}.parquet"
    if not path.is_file():
        hint = "give the folder of a run; `dynamos experiment report RUN` makes its tables"
        raise NotFound(f"there is no {path.name} in {folder}", where=str(folder), hint=hint)
    import pyarrow.parquet as pq  # noqa: PLC0415  heavy

    rows: list[Row] = pq.read_table(path).to_pylist()
    return rows


def _factors(folder: Path) -> frozenset[str]:
    """Give what the run has varied, as its plan says."""
    try:
        plan = json.loads((folder / "run.json").read_bytes())["plan"]
        return frozenset(name for trial in plan["trials"] for name in trial["cell"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotFound(f"there is no run in {folder}: {error}", where=str(folder), hint="give a run's folder") from None


def _recorded(cell: Row, request: Row, spans: Sequence[Row], factors: frozenset[str]) -> Recorded | None:
    """Give one request; None where it is of no archetype that is simulated, or its trace is not whole."""
    archetype, rows, providers = cell.get("archetype"), cell.get("rows"), cell.get("providers") or 1
    starts = [span for span in spans if span["name"] == "agent.start"]
    parts = {span["unit"]: span for span in spans if span["name"] == "part"}
    posted = [span["start"] for span in spans if span["depth"] == 0 and span["unit"] == "api"]
    if archetype not in ARCHETYPES or not isinstance(rows, int) or not isinstance(providers, int):
        return None
    moves = ARCHETYPES[archetype].moves_data
    if not starts or not posted or len(parts) != providers + moves:
        return None
    ends = {unit: span["start"] + span["seconds"] for unit, span in parts.items()}
    third = _third(spans) if moves else ""
    if moves and third not in parts:
        return None
    mine = [unit for unit in parts if unit != third]
    began = min(span["start"] for span in starts)
    last = max(ends.values())
    others = sorted((name, cell.get(name) or "no") for name in factors - _FEATURES)  # absent is as switched off
    return Recorded(
        kind=" ".join(f"{name}={'yes' if value is True else value}" for name, value in others) or "all",
        archetype=archetype,
        providers=providers,
        rows=rows,
        bytes=request["bytes"],
        seconds=request["seconds"],
        began=began,
        start=max(parts[unit]["start"] for unit in mine) - began,
        work=tuple(parts[unit]["seconds"] for unit in mine),
        tail=max(0.0, ends[third] - max(ends[unit] for unit in mine)) if moves else 0.0,
        last=last,
    )


def _third(spans: Sequence[Row]) -> str:
    """Give the unit that reads nobody's data: it runs no query."""
    units = {span["unit"] for span in spans if span["name"] == "part"}
    return next(iter(units - {span["unit"] for span in spans if span["name"] == "sql-query"}), "")
