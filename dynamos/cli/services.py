"""`service`: the services that are installed, and the start of one of your own."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dynamos.cli.shows import Format

service = typer.Typer(help="List services, begin one of your own.", no_args_is_help=True)


class Label(StrEnum):
    """Which part of a chain a service belongs to."""

    PROVIDER = "dataProvider"
    COMPUTE = "computeProvider"


def add(app: typer.Typer) -> None:
    app.add_typer(service, name="service")


@service.command("list")
def list_services(
    format: Annotated[Format, typer.Option("--format", help="How to print the answer.")] = Format.TABLE,  # noqa: A002
) -> None:
    """List the services that are installed on this machine."""
    from dynamos.cli.shows import print_json, print_table
    from dynamos.services import catalogue

    found = [catalogue.manifest(name) for name in catalogue.names()]
    if format is Format.JSON:
        print_json([each.as_json() for each in found])
        return
    rows = [[each.name, each.label, each.inputs, ", ".join(each.options), each.description] for each in found]
    print_table(("service", "label", "inputs", "options", "description"), rows)


@service.command("new")
def new(
    name: Annotated[str, typer.Argument(help="Its name: lower-case words joined by '-'.")],
    language: Annotated[str, typer.Option("--language", help="python, bash, c or go.")] = "python",
    label: Annotated[Label, typer.Option("--label", help="Whose part of the chain it is in.")] = Label.COMPUTE,
    into: Annotated[Path, typer.Option("--into", help="The folder to make its folder in.")] = Path(),
) -> None:
    """Make a folder with a new service that runs at once: the program, its test, and its entry for a marketplace."""
    from dynamos.deploy.states import explained
    from dynamos.services.new import create

    folder = into / name
    with explained(folder):
        create(folder, name, language, label=label.value)
    print(f"{folder} is made; {folder / 'README.md'} says what comes next")
