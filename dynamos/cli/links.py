"""`link`: what the links of a testbed that is up are, and what becomes of them while it runs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dynamos.cli import targets
from dynamos.cli.shows import Format, FormatOption
from dynamos.cli.targets import StateOption, TestbedOption
from dynamos.kit.errors import BadInput, NotFound

if TYPE_CHECKING:
    from dynamos.model.networks import Change
    from dynamos.testbed.items import Link
    from dynamos.testbed.wans import Wan

LinkArgument = Annotated[str, typer.Argument(help="The link: its two sites, as in amsterdam-tokyo.")]

link = typer.Typer(help="List, change, cut, silence and heal links.", no_args_is_help=True)


class Way(StrEnum):
    """Which direction of a link: from its first site to its second, the other one, or both."""

    FORWARD = "forward"
    BACKWARD = "backward"
    BOTH = "both"


def add(app: typer.Typer) -> None:
    app.add_typer(link, name="link")


@link.command("list")
def list_links(
    format: FormatOption = Format.TABLE,  # noqa: A002
    state: StateOption = Path(targets.STATE),
    testbed: TestbedOption = "",
) -> None:
    """List the links as they are now: what they do to packets, whether they are cut or silent, and what does it."""
    from dynamos.cli.overviews import LINK_COLUMNS, link_facts, link_rows
    from dynamos.cli.shows import print_json, print_table

    found = link_facts(targets.subject_of(state, testbed))
    if format is Format.JSON:
        print_json(found)
        return
    print_table(LINK_COLUMNS, link_rows(found), empty="no links")


@link.command("set")
def set_link(
    name: LinkArgument,
    delay: Annotated[str, typer.Option("--delay", help="One way, as 70ms.")] = "",
    jitter: Annotated[str, typer.Option("--jitter", help="The delay's standard deviation, as 0.2ms.")] = "",
    loss: Annotated[str, typer.Option("--loss", help="The share of packets that get lost, as 0.5%.")] = "",
    reorder: Annotated[str, typer.Option("--reorder", help="The share of packets that overtake, as 0.5%.")] = "",
    rate: Annotated[str, typer.Option("--rate", help="Bits a second, as 200mbit.")] = "",
    queue: Annotated[int, typer.Option("--queue", min=0, help="Packets that wait at most; 0 leaves it.")] = 0,
    way: Annotated[Way, typer.Option("--way", help="From the first site to the second, back, or both.")] = Way.BOTH,
    state: StateOption = Path(targets.STATE),
    testbed: TestbedOption = "",
) -> None:
    """Change what a link does to packets, while it is used. What is not named stays as it is."""
    words = {"delay": delay, "jitter": jitter, "loss": loss, "reorder": reorder, "rate": rate, "queue": queue}
    change = _change({member: value for member, value in words.items() if value})
    wan = targets.subject_of(state, testbed).wan
    _tell(wan, name, lambda: wan.set(name, way.value, change))


@link.command("cut")
def cut(name: LinkArgument, state: StateOption = Path(targets.STATE), testbed: TestbedOption = "") -> None:
    """Cut a link: both routers see that it is down, and whoever sends over it is told so."""
    wan = targets.subject_of(state, testbed).wan
    _tell(wan, name, lambda: wan.cut(name))


@link.command("silence")
def silence(name: LinkArgument, state: StateOption = Path(targets.STATE), testbed: TestbedOption = "") -> None:
    """Have a link lose every packet and stay up: nobody is told."""
    wan = targets.subject_of(state, testbed).wan
    _tell(wan, name, lambda: wan.silence(name))


@link.command("heal")
def heal(
    name: Annotated[str, typer.Argument(help="The link; without one, all of them.")] = "",
    state: StateOption = Path(targets.STATE),
    testbed: TestbedOption = "",
) -> None:
    """Make a link what the profile says of it again."""
    wan = targets.subject_of(state, testbed).wan
    for each in [name] if name else list(wan.links()):
        _tell(wan, each, lambda each=each: wan.heal(each))


def _change(words: dict[str, Any]) -> Change:
    """Read what shall change. Raises BadInput that names the options that are wrong."""
    from pydantic import ValidationError

    from dynamos.model.networks import Change

    if not words:
        raise BadInput("nothing to set", hint="dynamos link set LINK --delay 200ms")
    try:
        return Change.model_validate(words)
    except ValidationError as error:
        told = [f"--{each['loc'][0]}: {each['msg'].removeprefix('Value error, ')}" for each in error.errors()]
        raise BadInput("; ".join(told)) from None


def _tell(wan: Wan, name: str, work: Any) -> None:
    from dynamos.cli.overviews import changes

    before = _named(wan.links(), name)
    after = work()
    print(changes(before, after) if before else f"{after.name} is {after.state}")


def _named(links: dict[str, Link], name: str) -> Link:
    from dynamos.kit.words import suggest

    found = next((each for each in links.values() if name in ("-".join(each.sites), "-".join(each.sites[::-1]))), None)
    if found is None and name not in links:
        hint = suggest(name, list(links)) or f"links: {', '.join(links) or 'none'}"
        raise NotFound(f"there is no link {name!r}", hint=hint)
    return found or links[name]
