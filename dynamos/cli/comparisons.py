"""`experiment compare`: two runs side by side."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from dynamos.experiments.comparisons import Comparison, Pair


class Form(StrEnum):
    """How a comparison is given."""

    TABLE = "table"
    JSON = "json"
    HTML = "html"


def compare(
    before: Annotated[str, typer.Argument(metavar="RUN", help="A run folder, or the beginning of its name.")],
    after: Annotated[str, typer.Argument(metavar="RUN", help="Another run of the same experiment.")],
    format: Annotated[  # noqa: A002
        Form, typer.Option("--format", help="How to give it; html writes a page and prints its path.")
    ] = Form.TABLE,
    out: Annotated[Path | None, typer.Option("--out", help="Where to write the page.")] = None,
    runs: Annotated[
        Path, typer.Option("--runs", envvar="DYNAMOS_RUNS", help="The folder that holds the folders of runs.")
    ] = Path("runs"),
) -> None:
    """Set two runs of an experiment side by side: what differed, each cell's change, and whether it exceeds noise."""
    from dynamos.cli.shows import print_json
    from dynamos.experiments import comparisons
    from dynamos.experiments.runs import find
    from dynamos.experiments.scripts import load

    found = [find(runs, name) for name in (before, after)]
    compared = comparisons.compare(*(comparisons.Side(run, load(run.script)) for run in found))
    if format is Form.JSON:
        print_json(compared.as_dict())
    elif format is Form.HTML or out:
        path = out or found[1].folder.parent / f"compare-{found[0].folder.name}-{found[1].folder.name}.html"
        print(comparisons.write(compared, path))
    else:
        _print(compared)


def _print(compared: Comparison) -> None:
    from dynamos.cli.shows import print_table
    from dynamos.experiments.wordings import levels

    names = [side.run.folder.name for side in (compared.before, compared.after)]
    rows = [(each.what, each.before, each.after) for each in compared.differences]
    print_table(("what differed", *names), rows, empty="nothing that was written differs")
    for measure in compared.measures:
        print_table(("cell", "before", "after", "change", "verdict"), map(_row, compared.of(measure)),
                    title=measure.label)  # fmt: skip
    for word, cells in (("before", compared.only_before), ("after", compared.only_after)):
        if cells:
            print_table((f"only {word}",), [(levels(cell),) for cell in cells])
    untold = f"; of {len(compared.untold)}, too few readings were taken to tell" if compared.untold else ""
    print(f"{len(compared.exceeding)} of {len(compared.pairs)} changes exceed noise{untold}")


def _row(pair: Pair) -> tuple[str, ...]:
    from dynamos.experiments.wordings import NOTHING, change, counts, figure, levels, verdict

    if not pair.measure.numeric:
        word = "others were read" if pair.differs else ""
        return levels(pair.cell), counts(pair.counts[0]), counts(pair.counts[1]), "", word
    medians = [figure(side.median.value if side else None) for side in (pair.before, pair.after)]
    if pair.contrast is None:
        return levels(pair.cell), *medians, "", ""
    told, within = change(pair.contrast, pair.measure)
    return (
        levels(pair.cell),
        *medians,
        f"{told} ({within})" if within != NOTHING else told,
        verdict(pair.contrast, pair.measure)[0],
    )
