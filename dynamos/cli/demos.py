"""`demo`: every idea of the system on this machine, with real data and real networks, and checked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dynamos.cli import targets
from dynamos.cli.experiments import RunsOption
from dynamos.cli.targets import StateOption

if TYPE_CHECKING:
    from rich.console import Console

WIDEST = 100
SITES, LOOPBACK = "three-sites", "laptop"
EXPERIMENT = "archetypes"


def add(app: typer.Typer) -> None:
    app.command("demo")(demo)


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the testbed up, to go on by yourself.")] = False,
    picture: Annotated[Path | None, typer.Option("--picture", help="Write what is shown into this SVG file.")] = None,
    profile: Annotated[
        str, typer.Option("--profile", help="three-sites or laptop, if not what this machine can.")
    ] = "",
    runs: RunsOption = Path("runs"),
    state: StateOption = Path(targets.STATE),
) -> None:
    """Show the whole in a minute: three sites and their networks proved, requests of both archetypes, a refusal, a
    duty, a time line, exact sums, an experiment and its report.

    Where networks cannot be made here it does the same on loopback, and says why. Everything is down again afterwards.
    Exit code 70 where a result is not what plain DuckDB computes.
    """
    from dynamos.cli.shows import console, save_picture
    from dynamos.cli.stories import Story

    out = console(record=picture is not None)
    out.width = min(out.width, WIDEST)
    name = profile or _chosen(out)
    with _testbed(state / "demo", name, keep=keep) as folder:
        story = Story(folder, name, out)
        story.tell()
    report = story.experiment(EXPERIMENT, runs, state)
    story.end()
    if keep:
        out.print(f"\nIt is still up: export DYNAMOS_STATE={state / 'demo'}; dynamos status; dynamos down")
    if picture:
        save_picture(out, picture, title="dynamos demo")
    print(report)


def _chosen(out: Console) -> str:
    """Give the profile with networks where they can be made here, else the one on loopback, and say why."""
    from dynamos.deploy import profiles
    from dynamos.deploy.networks import check_needs, check_rights
    from dynamos.kit.errors import Unavailable

    try:
        check_rights()
        check_needs(profiles.load(SITES), lambda: SITES)
    except Unavailable as error:
        out.print(f"On loopback, without networks of its own: {error}", style="yellow")
        return LOOPBACK
    return SITES


@contextmanager
def _testbed(state: Path, name: str, *, keep: bool) -> Iterator[Path]:
    """Give the folder for the demo's testbed; whatever happens, it is down and gone afterwards."""
    from dynamos.deploy.states import StateFolder
    from dynamos.deploy.testbeds import purge, take_down

    folder = StateFolder((state / name).resolve())
    done = False
    try:
        yield folder.root
        done = True
    finally:
        if not (keep and done) and folder.root.exists():
            take_down(folder)
            purge(folder)
