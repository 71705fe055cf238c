"""Folders of runs that hold just what calibration reads."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq

from dynamos.adaptation.simulator.scenes import THROUGH


def run_folder(folder, *, cells, traced=True):
    """Write the tables of a run with one request in each trial."""
    trials, requests, stages = [], [], []
    for number, cell in enumerate(cells, 1):
        base = {"trial": number, "request": 0}
        trials.append({"trial": number, "warmup": number == 1, "status": "done", **cell})
        requests.append({**base, "error": None, "bytes": 1000, "seconds": 0.3})
        units = ["north", "third"] if cell["archetype"] == THROUGH else ["north"]
        stages.append({**base, "name": "POST", "unit": "api", "start": 0.0, "seconds": 0.29, "depth": 0})
        for unit in units if traced else ():
            later = 0.01 * (unit == "third")
            stages.append({**base, "name": "agent.start", "unit": unit, "start": 0.02, "seconds": 0.005, "depth": 0})
            stages.append({**base, "name": "part", "unit": unit, "start": 0.03, "seconds": 0.2 + later, "depth": 0})
        stages.append({**base, "name": "sql-query", "unit": "north", "start": 0.04, "seconds": 0.1, "depth": 1})
    for name, rows in (("trials", trials), ("requests", requests), ("stages", stages)):
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
    plan = {"trials": [{"cell": cell} for cell in cells]}
    (folder / "run.json").write_text(json.dumps({"plan": plan}))
