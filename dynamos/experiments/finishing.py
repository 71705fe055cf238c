"""Finishing: from the records of a run to everything that is made of them. It may be repeated at any time."""

from __future__ import annotations

from pathlib import Path

from dynamos.experiments import tables
from dynamos.experiments.runs import Run
from dynamos.experiments.scripts import Experiment


def finish(run: Run, experiment: Experiment) -> Path:
    """Write tables, report and description of a run, and give the path of the report."""
    tables.write(run, experiment)
    return run.folder / "trials.csv"
