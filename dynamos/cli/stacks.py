"""`stack`: testbeds that last, provisioned with Pulumi."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dynamos.cli import targets
from dynamos.cli.shows import Format, FormatOption
from dynamos.cli.targets import StateOption
from dynamos.kit.errors import Unavailable

if TYPE_CHECKING:
    from dynamos.deploy.pulumi.stacks import Outcome, Stack
    from dynamos.deploy.pulumi.steps import Step

ProfileArgument = Annotated[str, typer.Argument(help="A profile's file, or the name of one that comes with DYNAMOS.")]

stack = typer.Typer(help="Provision testbeds that last, with Pulumi.", no_args_is_help=True)
_SIGNS = {"create": "+", "delete": "-", "update": "~"}
_WORDS = {"same": "unchanged", "create": "created", "update": "updated", "delete": "deleted", "replace": "replaced"}


def add(app: typer.Typer) -> None:
    app.add_typer(stack, name="stack")


@stack.command("up")
def up(
    profile: ProfileArgument,
    format: FormatOption = Format.TABLE,  # noqa: A002  the option's name
    state: StateOption = Path(targets.STATE),
) -> None:
    """Make the testbed that a profile describes, or what differs from it. Where nothing does, it does nothing."""
    done = stack_of(profile, state).up(_progress())
    _say(done, format, "is as its profile says")


@stack.command("preview")
def preview(
    profile: ProfileArgument,
    format: FormatOption = Format.TABLE,  # noqa: A002
    state: StateOption = Path(targets.STATE),
) -> None:
    """Tell what `up` would do, with every mistake of the profile, and do nothing."""
    found = stack_of(profile, state).preview()
    if format is not Format.JSON:
        for step in found.steps:
            print(f"{_SIGNS.get(step.action, '±')} {step}")
    _say(found, format, "was previewed")


@stack.command("refresh")
def refresh(
    profile: ProfileArgument,
    format: FormatOption = Format.TABLE,  # noqa: A002
    state: StateOption = Path(targets.STATE),
) -> None:
    """Look at what there is, and remember it: what was lost is mended by the next `up`."""
    done = stack_of(profile, state).refresh(_progress())
    _say(done, format, "was looked at")


@stack.command("destroy")
def destroy(
    profile: ProfileArgument,
    format: FormatOption = Format.TABLE,  # noqa: A002
    state: StateOption = Path(targets.STATE),
) -> None:
    """Remove the testbed and its stack, and leave nothing."""
    done = stack_of(profile, state).destroy(_progress())
    _say(done, format, "is gone")


@stack.command("outputs")
def outputs(
    profile: ProfileArgument,
    format: FormatOption = Format.TABLE,  # noqa: A002
    state: StateOption = Path(targets.STATE),
) -> None:
    """Print what a stack tells of its testbed: sites, addresses, how to reach the nodes."""
    from dynamos.cli.shows import print_facts, print_json

    told = stack_of(profile, state).outputs()
    if format is Format.JSON:
        print_json(told)
    else:
        print_facts({name: _words(value) for name, value in told.items()})


def stack_of(profile: str, state: Path) -> Stack:
    try:
        from dynamos.deploy.pulumi.stacks import Stack
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] not in ("pulumi", "semver", "grpc"):
            raise
        raise Unavailable("Pulumi's Python package is not installed", hint="pip install 'dynamos[infra]'") from None
    return Stack(profile, state)


def _progress() -> Callable[[Step], None]:
    """Give what says each step as it is done, on standard error."""
    from dynamos.cli.shows import note

    def told(step: Step) -> None:
        if step.phase != "begins":
            failed = " failed" if step.phase == "failed" else ""
            note(f"{_SIGNS.get(step.action, '±')} {step}{failed}")

    return told


def _say(done: Outcome, format: Format, what: str) -> None:  # noqa: A002
    from dynamos.cli.shows import print_json

    if format is Format.JSON:
        print_json(done.as_json())
        return
    counts = ", ".join(
        f"{count} {_WORDS.get(action, action)}" for action, count in sorted(done.counts.items()) if count
    )
    print(f"{done.stack} {what}: {counts or 'nothing'}")
    if config := done.outputs.get("sshConfig"):
        print(f"reach its nodes with ssh -F {config} NODE")


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_words(each)}" for name, each in value.items())
    return ", ".join(map(_words, value)) if isinstance(value, list) else str(value)
