"""`profile`: the files that describe testbeds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dynamos.cli.shows import Format
from dynamos.kit.errors import DynamosError

ProfileArgument = Annotated[str, typer.Argument(help="A profile's file, or the name of one that comes with DYNAMOS.")]
FormatOption = Annotated[Format, typer.Option("--format", help="How to print the answer.")]

profile = typer.Typer(help="Validate, list and show profiles.", no_args_is_help=True)


def add(app: typer.Typer) -> None:
    app.add_typer(profile, name="profile")


@profile.command("validate")
def validate(path: ProfileArgument, format: FormatOption = Format.TABLE) -> None:  # noqa: A002
    """Say everything that is wrong with a profile and its marketplace at once, each with file, line and hint."""
    from dynamos.cli.shows import note, print_json
    from dynamos.deploy.profiles import validate as check

    found = check(path)
    if format is Format.JSON:
        warnings = [{"where": w.where, "message": w.message, "hint": w.hint} for w in found.warnings]
        print_json({"profile": found.profile.name, "valid": True, "warnings": warnings})
        return
    for warning in found.warnings:
        note(f"warning {warning}")
    parties = ", ".join(found.marketplace.parties)
    print(f"{found.profile.name} is right: marketplace {found.marketplace.name}, parties {parties}")


@profile.command("list")
def list_profiles(format: FormatOption = Format.TABLE) -> None:  # noqa: A002
    """List the profiles that there are: here in profiles/, and those that come with DYNAMOS."""
    from dynamos.cli.shows import print_json, print_table
    from dynamos.deploy.places import profile_names
    from dynamos.deploy.profiles import load

    found = []
    for name in profile_names():
        try:
            each = load(name)
            found.append((each.name, Path(each.marketplace).name, each.description))
        except DynamosError as error:
            found.append((name, "", f"{error.message}: dynamos profile validate {name}"))
    if format is Format.JSON:
        print_json([dict(zip(("name", "marketplace", "description"), row, strict=True)) for row in found])
        return
    print_table(("profile", "marketplace", "description"), found, empty="no profiles")


@profile.command("show")
def show(path: ProfileArgument, format: FormatOption = Format.TABLE) -> None:  # noqa: A002
    """Show what a profile gives: its parties with their data, its users, its settings."""
    from dynamos.cli.shows import print_facts, print_json, print_table
    from dynamos.deploy.profiles import validate as check

    found = check(path)
    if format is Format.JSON:
        print_json({"profile": found.profile.as_json(), "marketplace": found.marketplace.as_json()})
        return
    sites: dict[str, Any] = {party: name for name, site in found.profile.sites.items() for party in site.parties}
    print_facts(
        {
            "profile": found.profile.name,
            "": found.profile.description,
            "marketplace": found.marketplace.name,
            "driver": found.profile.driver,
            "open": "yes: anybody may ask in anybody's name" if found.profile.settings.open else "no",
            "archetypes": ", ".join(found.marketplace.archetypes),
            "request types": ", ".join(found.marketplace.request_types),
            "users": ", ".join(found.marketplace.users),
        }
    )
    rows = [
        [
            party.name,
            sites.get(party.name, ""),
            "; ".join(f"{name}({', '.join(tables)})" for name, tables in party.data.items()),
        ]
        for party in found.marketplace.parties.values()
    ]
    print_table(("party", "site", "data sets"), rows)
