"""`demo`: every idea of the system on this machine, with real data, and checked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from dynamos.cli import targets
from dynamos.cli.targets import StateOption

WIDEST = 100


def add(app: typer.Typer) -> None:
    app.command("demo")(demo)


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the testbed up, to go on by yourself.")] = False,
    picture: Annotated[Path | None, typer.Option("--picture", help="Write what is shown into this SVG file.")] = None,
    state: StateOption = Path(targets.STATE),
) -> None:
    """Show the whole in half a minute: three airlines, both archetypes, a refusal, a duty, a time line, exact sums.

    Starts a testbed of its own, and stops it. Exit code 70 where a result is not what plain DuckDB computes.
    """
    from dynamos.cli.shows import console, save_picture
    from dynamos.cli.stories import Story

    out = console(record=picture is not None)
    out.width = min(out.width, WIDEST)
    with _testbed(state / "demo", keep=keep) as story:
        Story(story, out).tell()
    if keep:
        out.print(f"\nIt is still up: export DYNAMOS_STATE={state / 'demo'}; dynamos status; dynamos down")
    if picture:
        save_picture(out, picture, title="dynamos demo")


@contextmanager
def _testbed(state: Path, *, keep: bool) -> Iterator[Path]:
    """Give the folder for the demo's testbed; whatever happens, it is down and gone afterwards."""
    from dynamos.deploy.states import StateFolder
    from dynamos.deploy.testbeds import purge, take_down

    folder = StateFolder((state / "laptop").resolve())
    done = False
    try:
        yield folder.root
        done = True
    finally:
        if not (keep and done) and folder.root.exists():
            take_down(folder)
            purge(folder)
