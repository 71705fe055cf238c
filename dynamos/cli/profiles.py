"""`profile`: the files that describe testbeds."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dynamos.cli.shows import Format, FormatOption
from dynamos.kit.errors import DynamosError

if TYPE_CHECKING:
    from dynamos.model.marketplaces import Marketplace
    from dynamos.model.profiles import Profile

ProfileArgument = Annotated[str, typer.Argument(help="A profile's file, or the name of one that comes with DYNAMOS.")]

profile = typer.Typer(help="Validate, list, show and install profiles.", no_args_is_help=True)
_MATRIX_UP_TO = 10


class Picture(StrEnum):
    """How a profile is shown."""

    TABLE = "table"
    JSON = "json"
    SVG = "svg"


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
    """List the profiles that there are: here in profiles/, those that come with DYNAMOS, and installed ones."""
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
def show(
    path: ProfileArgument,
    format: Annotated[Picture, typer.Option("--format", help="How to print it; svg is a map.")] = Picture.TABLE,  # noqa: A002
) -> None:
    """Show what a profile gives: sites, links, parties with their data, users, settings; or a map of it."""
    from dynamos.cli.shows import print_json
    from dynamos.deploy.maps import draw_map
    from dynamos.deploy.profiles import validate as check

    found = check(path)
    if format is Picture.SVG:
        print(draw_map(found.profile), end="")
    elif format is Picture.JSON:
        print_json({"profile": found.profile.as_json(), "marketplace": found.marketplace.as_json()})
    else:
        _print_profile(found.profile, found.marketplace)


def _print_profile(profile: Profile, marketplace: Marketplace) -> None:
    from dynamos.cli.shows import print_facts, print_table
    from dynamos.testbed.overlay_plans import overlay_mtu

    overlay, networks = profile.overlay, profile.driver != "processes"
    print_facts(
        {
            "profile": profile.name,
            "": profile.description,
            "marketplace": marketplace.name,
            "driver": profile.driver,
            "overlay": f"{overlay.driver}, scope {overlay.scope}, mtu {overlay_mtu(profile)}" if networks else "",
            "groups": "; ".join(f"{name}: {', '.join(group.parties)}" for name, group in profile.groups.items()),
            "open": "yes: anybody may ask in anybody's name" if profile.settings.open else "no",
            "archetypes": ", ".join(marketplace.archetypes),
            "request types": ", ".join(marketplace.request_types),
            "users": ", ".join(marketplace.users),
        }
    )
    print()
    rows = [
        [party.name, profile.site_of(party.name), "; ".join(f"{n}({', '.join(t)})" for n, t in party.data.items())]
        for party in marketplace.parties.values()
    ]
    print_table(("party", "site", "data sets"), rows)
    if profile.sites:
        control = {name: "control" if name == profile.control_site else "" for name in profile.sites}
        sites = [[n, ", ".join(s.nodes), ", ".join(s.parties), control[n]] for n, s in profile.sites.items()]
        print()
        print_table(("site", "nodes", "parties", ""), sites)
    if profile.links:
        print()
        _print_links(profile)


def _print_links(profile: Profile) -> None:
    """Print a matrix of delays where it fits, and what each link is."""
    from dynamos.cli.shows import print_table

    names = list(profile.sites)
    if len(names) <= _MATRIX_UP_TO:
        rows = [[one, *("·" if one == other else _delay(profile, one, other) for other in names)] for one in names]
        print_table(("delay, one way", *names), rows)
        print()
    links = []
    for link in profile.links:
        ways = [(here, there, link.direction(here)) for here, there in (link.between, link.between[::-1])]
        alike = ways[0][2] == ways[1][2]
        for here, there, way in ways[:1] if alike else ways:
            shares = [f"{share * 100:.3g}%" if share else "" for share in (way.loss, way.reorder)]
            cells = [way.delay, way.jitter or "", way.rate or "", *shares, way.queue, link.mtu]
            links.append([f"{here} {'↔' if alike else '→'} {there}", *map(str, cells)])
    print_table(("link", "delay", "jitter", "rate", "loss", "reorder", "queue", "mtu"), links)


def _delay(profile: Profile, one: str, other: str) -> str:
    link = profile.link(f"{one}-{other}")
    return str(link.direction(one).delay) if link else ""


@profile.command("install")
def install(
    source: Annotated[str, typer.Argument(help="A file, a folder, or the address of a git repository.")],
    force: Annotated[bool, typer.Option("--force", help="Take the place of installed ones of the same name.")] = False,
    format: FormatOption = Format.TABLE,  # noqa: A002
) -> None:
    """Install the profiles of a file, a folder or a git repository, with their marketplaces, after all were checked.

    They go to the folder that DYNAMOS_PROFILES names, else to the user's own folder for data.
    """
    from dynamos.cli.shows import Progress, print_json
    from dynamos.deploy import installs

    with Progress(f"fetching {source}"):
        found = installs.install(source, force=force)
    if format is Format.JSON:
        print_json({"profiles": found.profiles, "marketplaces": found.marketplaces, "folder": str(found.folder)})
        return
    markets = f", and the marketplaces {', '.join(found.marketplaces)}" if found.marketplaces else ""
    print(f"installed {', '.join(found.profiles)}{markets} in {found.folder}")


@profile.command("schema")
def schema() -> None:
    """Print the JSON Schema of profiles, for editors."""
    from dynamos.cli.shows import print_json
    from dynamos.deploy.profiles import schema as described

    print_json(described())
