"""`token`: who you are, for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dynamos.cli import targets
from dynamos.cli.targets import StateOption, TestbedOption
from dynamos.kit.errors import BadInput


def add(app: typer.Typer) -> None:
    app.command("token")(token)


def token(
    user: Annotated[str, typer.Argument(help="The user, as agreements name them.")],
    ttl: Annotated[str, typer.Option("--ttl", help='How long it holds, such as "1h".')] = "1h",
    state: StateOption = Path(targets.STATE),
    testbed: TestbedOption = "",
) -> None:
    """Print a token of the testbed's own issuer, for `Authorization: Bearer` or DYNAMOS_TOKEN.

    The issuer is for development: whoever can read the testbed's state folder can be any user.
    """
    from dynamos.cli.shows import note
    from dynamos.deploy.provisioning import known_users, token_for
    from dynamos.kit.words import suggest
    from dynamos.model.units import Duration

    try:
        seconds = float(Duration.parse(ttl))
    except ValueError as error:
        raise BadInput(str(error), where="--ttl") from None
    folder = targets.folder_of(state, testbed)
    made = token_for(folder, user, ttl=seconds)
    known = known_users(folder)
    if known and user not in known:
        note(f"the marketplace knows no user {user!r}: agreements will permit nothing. {suggest(user, known)}".rstrip())
    print(made)
