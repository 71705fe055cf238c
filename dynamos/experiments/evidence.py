"""Evidence: what was proved of a run's testbeds, as tables: links declared and measured, and who reaches whom."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dynamos.experiments.runs import PROOFS
from dynamos.experiments.wordings import NOTHING, figure

_MOST_NAMES = 24
_WORST = ("leak", "blocked", "open", "shut")


def read(folder: Path) -> list[dict[str, Any]]:
    """Give the proofs of every testbed of a run, by name. What cannot be read is told in its place."""
    found = []
    for path in sorted((folder / PROOFS).glob("*.json")):
        try:
            told = json.loads(path.read_bytes())
            found.append({"name": path.stem, **_of(told)})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            found.append({"name": path.stem, "testbed": path.stem, "damaged": f"{type(error).__name__}: {error}"})
    return found


def _of(told: Mapping[str, Any]) -> dict[str, Any]:
    links, isolation = told.get("links") or {}, told.get("isolation") or {}
    return {
        "testbed": told.get("testbed", ""),
        "networks": told.get("networks", ""),
        "links": [_link(pair) for pair in links.get("pairs", ())],
        "effort": links.get("effort", ""),
        "links_error": links.get("error"),
        "isolation": {name: isolation.get(name) for name in ("holds", "tries", "leaks", "blocked")},
        "isolation_error": isolation.get("error"),
        "phases": _phases(isolation.get("cells", ())),
        "leaks": [cell for cell in isolation.get("cells", ()) if cell["verdict"] != "ok"][:20],
    }


def _link(pair: Mapping[str, Any]) -> dict[str, Any]:
    declared, measured = pair["declared"], pair["measured"]
    times = 2 if measured.get("round_trip") else 1
    rate = declared.get("rate")
    return {
        "way": f"{pair['source']} → {pair['destination']}",
        "delay": _both(times * declared["delay"], measured["delay"], 1e3),
        "jitter": _both(declared["jitter"], measured["jitter"], 1e3),
        "loss": _both(declared["loss"], measured["loss"], 100),
        "rate": _both(rate, measured.get("rate"), 1e-6),
        "mtu": (str(declared["mtu"]), str(measured["mtu"] or NOTHING)),
        "deviations": [each["text"] for each in pair.get("deviations", ())],
    }


def _both(declared: float | None, measured: float | None, factor: float) -> tuple[str, str]:
    said = [NOTHING if each is None else figure(each * factor) for each in (declared, measured)]
    return said[0], said[1]


def _phases(cells: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Give, for each phase, the worst of what came of all tries from each source to each target."""
    phases: dict[str, dict[tuple[str, str], str]] = {}
    for cell in cells:
        kind = cell["verdict"] if cell["verdict"] != "ok" else ("open" if cell["observed"] else "shut")
        ways = phases.setdefault(cell["phase"], {})
        way = (cell["source"], cell["target"])
        ways[way] = min(ways.get(way, "shut"), kind, key=_WORST.index)
    found = []
    for phase, ways in phases.items():
        sources, targets = ([*dict.fromkeys(way[at] for way in ways)] for at in (0, 1))
        fits = len(sources) <= _MOST_NAMES and len(targets) <= _MOST_NAMES
        rows = [(source, [ways.get((source, target), "") for target in targets]) for source in sources]
        counted = {kind: sum(each == kind for each in ways.values()) for kind in _WORST}
        found.append({"phase": phase, "targets": targets, "rows": rows if fits else [], "counts": counted})
    return found
