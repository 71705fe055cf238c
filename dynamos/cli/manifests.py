"""`manifests`: a profile as Kubernetes' own files, for whoever applies them in another way than by Pulumi."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from dynamos.cli import targets
from dynamos.cli.stacks import ProfileArgument
from dynamos.cli.targets import StateOption
from dynamos.kit.errors import BadInput, Unavailable


def add(app: typer.Typer) -> None:
    app.command("manifests")(manifests)


def manifests(
    profile: ProfileArgument,
    to: Annotated[
        Path | None, typer.Option("--to", help="Write everything into this folder, keys and data in one of their own.")
    ] = None,
    state: StateOption = Path(targets.STATE),
) -> None:
    """Print what a profile is on a cluster, as YAML without keys and data; or write all of it, for `kubectl apply -k`.

    Keys are made in the testbed's state, and stay the same from call to call.
    """
    from dynamos.cli.shows import note
    from dynamos.deploy import profiles
    from dynamos.deploy.places import profile_file

    path = profile_file(profile)
    checked = profiles.validate(path)
    if checked.profile.driver != "kubernetes":
        what = f"the profile {checked.profile.name!r} has the driver {checked.profile.driver!r}"
        raise BadInput(what, where=f"{path} ($.driver)", hint="only the driver kubernetes has manifests")
    try:
        from dynamos.deploy.kubernetes.examining import drafted
        from dynamos.deploy.kubernetes.manifests import objects
        from dynamos.deploy.kubernetes.writing import text_of, write
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] not in ("lightkube", "httpx2"):
            raise
        hint = "pip install 'dynamos[kubernetes]'"
        raise Unavailable("the client of Kubernetes is not installed", hint=hint) from None
    found = objects(drafted(checked.profile, state.resolve()))
    if to is None:
        sys.stdout.write(text_of(found.public))
        note(f"{len(found.private)} objects with keys and data are not shown: --to FOLDER writes them, too")
        return
    files = write(found, to)
    count = len(found.public) + len(found.private)
    print(f"{count} objects in {len(files)} files are in {to}; keys and data are in {to / 'private'}: keep that folder")
    print(f"kubectl apply --server-side -k {to / 'private'} && kubectl apply --server-side -k {to}")
