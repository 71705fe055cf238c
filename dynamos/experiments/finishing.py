"""Finishing: from the records of a run to everything that is made of them. It may be repeated at any time."""

from __future__ import annotations

from pathlib import Path

from dynamos.experiments import tables
from dynamos.experiments.runs import Run
from dynamos.experiments.scripts import Experiment
from dynamos.kit.errors import Unavailable


def finish(run: Run, experiment: Experiment) -> Path:
    """Write tables, report and description of a run, and give the path of the report.

    Raises Unavailable where the libraries of the extra `experiments` are not installed; the tables are there then.
    """
    tables.write(run, experiment)
    try:
        from dynamos.experiments import crates, reports  # noqa: PLC0415  of the extra
    except ModuleNotFoundError as error:
        hint = f"pip install 'dynamos[experiments]', then: dynamos experiment report {run.folder}"
        raise Unavailable(f"a report needs {error.name}, which is not installed", hint=hint) from error
    path = reports.write(run, experiment)
    crates.write(run, experiment)
    return path
