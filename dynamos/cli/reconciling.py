"""`reconcile`, and `up --dry-run`: what has to be done to a testbed, and doing it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dynamos.cli import targets
from dynamos.cli.shows import Format, FormatOption
from dynamos.cli.targets import StateOption, TestbedOption

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dynamos.deploy.states import StateFolder
    from dynamos.testbed.actions import Action

_STYLES = {"+": "green", "~": "yellow", "-": "red"}


def add(app: typer.Typer) -> None:
    app.command("reconcile")(reconcile)


def reconcile(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and do nothing.")] = False,
    format: FormatOption = Format.TABLE,  # noqa: A002
    state: StateOption = Path(targets.STATE),
    testbed: TestbedOption = "",
) -> None:
    """Make the networks of a testbed what its profile says again: links that were changed, nodes that are gone."""
    from dynamos.cli.shows import Progress
    from dynamos.testbed import apply
    from dynamos.testbed.namespaced import NamespacesGround
    from dynamos.testbed.plans import plan

    subject = targets.subject_of(state, testbed)
    ground = NamespacesGround(subject.world.folder)
    if dry_run:
        print_actions(plan(subject.wanted, ground.look()), format)
        return
    with Progress("mending") as shown:
        done = apply.reconcile(ground, subject.wanted, lambda step: shown.say(str(step.action)))
    print_actions(done, format)


def rehearse(folder: StateFolder, path: Path, format: Format) -> None:  # noqa: A002
    """Print what `up` would do: actions on networks, then the units that would be started."""
    from dynamos.deploy import profiles
    from dynamos.deploy.units import Places, units
    from dynamos.testbed.facts import Facts
    from dynamos.testbed.namespaced import NamespacesGround
    from dynamos.testbed.plans import plan
    from dynamos.testbed.wanted import wanted

    profile = profiles.load(path)
    marketplace = profiles.resolve(profile)
    facts = NamespacesGround(folder.world).look() if profile.driver == "namespaces" else Facts()
    places = Places(units=folder.root / "units", data={}, bus="", world=folder.world)
    by_node = {node: [each.name for each in own] for node, own in units(profile, marketplace, places).items()}
    print_actions(plan(wanted(profile), facts), format, by_node if not folder.is_held() else {})


def print_actions(actions: Sequence[Action], format: Format, units: dict[str, Any] | None = None) -> None:  # noqa: A002
    """Print what was done or would be: `+` is made, `~` changed, `-` removed; and the units that would start."""
    from dynamos.cli.shows import console, print_json, styled

    if format is Format.JSON:
        told = {"actions": [{"do": str(each)[0], "item": str(each.key), "text": str(each)[2:]} for each in actions]}
        print_json(told | ({"units": units} if units is not None else {}))
        return
    out = console()
    for each in map(str, actions):
        out.print(styled(each, _STYLES[each[0]]), soft_wrap=True)
    for node, names in (units or {}).items():
        out.print(styled(f"> start at {node}: {', '.join(names)}", "green"), soft_wrap=True)
    if not actions and not units:
        print("everything is as the profile says")
