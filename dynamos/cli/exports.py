"""`experiment export`: a run as one file that others can read and repeat."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dynamos.cli.experiments import RUNS, RunArgument, RunsOption, app


def add(_: typer.Typer) -> None:
    """Nothing more: the verb is one of `experiment`."""


@app.command()
def export(
    run: RunArgument,
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="The file to write: .zip or .tar.gz; else EXPERIMENT-RUN.zip.")
    ] = None,
    runs: RunsOption = Path(RUNS),
) -> None:
    """Write a run as one file, a valid RO-Crate, and print its path. `dynamos experiment run` repeats it from there,
    once it is unpacked."""
    from dynamos.experiments import crates, exports
    from dynamos.experiments.finishing import finish
    from dynamos.experiments.runs import find
    from dynamos.experiments.scripts import load

    found = find(runs, run)
    experiment = load(found.script)
    if not (found.folder / "trials.parquet").is_file():
        finish(found, experiment)
    crates.write(found, experiment)
    print(exports.export(found, file or Path(f"{found.plan.experiment}-{found.folder.name}.zip")))
