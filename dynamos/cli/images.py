"""`images`: the container images that a cluster runs, built here without Docker and without being root."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dynamos.cli import targets
from dynamos.cli.shows import Format, FormatOption
from dynamos.cli.targets import StateOption

if TYPE_CHECKING:
    from dynamos.deploy.images import references

FOLDER = "images"
"""Where in the state folder they are, where nothing else is said."""

images = typer.Typer(help="Build, list and push the container images that a cluster runs.", no_args_is_help=True)

FolderOption = Annotated[
    Path | None, typer.Option("--from", help="The folder that they were built into; else `images` in the state folder.")
]
NamesArgument = Annotated[list[str] | None, typer.Argument(help="Which: dynamos, courier, bus. Without any, all.")]


def add(app: typer.Typer) -> None:
    app.add_typer(images, name="images")


@images.command("build")
def build(
    names: NamesArgument = None,
    to: Annotated[
        Path | None, typer.Option("--to", help="The folder to build them into; else `images` in the state folder.")
    ] = None,
    registry: Annotated[str, typer.Option("--registry", help="The name to import them under.")] = "",
    sources: Annotated[
        Path | None, typer.Option("--sources", help="An apt sources file to take Debian's packages from.")
    ] = None,
    format: FormatOption = Format.TABLE,  # noqa: A002  the option's name
    state: StateOption = Path(targets.STATE),
) -> None:
    """Build the images as OCI archives, each with its bill of materials beside it."""
    from dynamos.cli.shows import note
    from dynamos.deploy.images import builds
    from dynamos.deploy.images.references import NAMES

    place = to or state / FOLDER
    built = builds.build(place, names or NAMES, registry=registry, sources=sources, said=note)
    _show(built, place, registry, format)


@images.command("list")
def list_images(
    folder: FolderOption = None,
    registry: Annotated[str, typer.Option("--registry", help="The registry to name in the references.")] = "",
    format: FormatOption = Format.TABLE,  # noqa: A002
    state: StateOption = Path(targets.STATE),
) -> None:
    """List the images that were built: pinned references, sizes, and what is in them."""
    from dynamos.deploy.images import references

    place = folder or state / FOLDER
    _show(references.read(place), place, registry, format)


@images.command("push")
def push(
    registry: Annotated[str, typer.Argument(help="Host and path, such as registry.example.org/dynamos.")],
    names: NamesArgument = None,
    folder: FolderOption = None,
    ca: Annotated[Path | None, typer.Option("--ca", help="The authority of the registry's certificate (PEM).")] = None,
    plain_http: Annotated[
        bool, typer.Option("--plain-http", help="Speak without TLS; only to a registry on this machine.")
    ] = False,
    format: FormatOption = Format.TABLE,  # noqa: A002
    state: StateOption = Path(targets.STATE),
) -> None:
    """Push images that were built to a registry, with their bills of materials; only what is not there yet.

    The login is that of `docker login` or `podman login`, or DYNAMOS_REGISTRY_USER and DYNAMOS_REGISTRY_PASSWORD.
    """
    from dynamos.cli.shows import note, print_json, print_table
    from dynamos.deploy.images import logins, pushes, registries

    host, _ = registries.split(registry)
    login = logins.find(registry)
    with registries.Registry(host, login, plain=plain_http, authorities=str(ca or "")) as client:
        done = pushes.push(folder or state / FOLDER, registry, client, names or (), said=note)
    if format is Format.JSON:
        print_json([asdict(each) for each in done])
        return
    rows = [[each.reference, f"{each.sent / 1e6:.1f}", f"{each.skipped / 1e6:.1f}"] for each in done]
    print_table(("reference", "MB sent", "MB there"), rows)


def _show(built: dict[str, references.Built], folder: Path, registry: str, format: Format) -> None:  # noqa: A002
    from dynamos.cli.shows import print_json, print_table

    if format is Format.JSON:
        print_json([_told(each, folder, registry) for each in built.values()])
        return
    rows = [
        [each.reference(registry), f"{each.size / 1e6:.1f}", f"{each.unpacked / 1e6:.1f}", _contents(each)]
        for each in built.values()
    ]
    print_table(("reference", "MB", "MB unpacked", "packages"), rows)


def _contents(each: references.Built) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in each.contents.items())


def _told(each: references.Built, folder: Path, registry: str) -> dict[str, object]:
    files = {"archive": str(folder / each.archive), "sbom": str(folder / each.sbom)}
    return {**asdict(each), **files, "reference": each.reference(registry)}
