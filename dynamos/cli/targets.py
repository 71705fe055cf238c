"""Which testbed a verb is about, where its API is, and with whose token to ask."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dynamos.kit.errors import BadInput, NotFound, Unavailable

if TYPE_CHECKING:
    from dynamos.deploy.kubernetes.reaching import Reach
    from dynamos.deploy.states import StateFolder, TestbedStatus
    from dynamos.middleware.clients import Api
    from dynamos.testbed.proofs.subjects import Subject

STATE = ".dynamos"

StateOption = Annotated[
    Path, typer.Option("--state", envvar="DYNAMOS_STATE", help="The folder that holds the state of testbeds.")
]
TestbedOption = Annotated[
    str, typer.Option("--testbed", "-t", envvar="DYNAMOS_TESTBED", help="The testbed, where there are several.")
]
ApiOption = Annotated[
    str, typer.Option("--api", envvar="DYNAMOS_API", help="The address of an API elsewhere, instead of a testbed here.")
]
UserOption = Annotated[
    str, typer.Option("--as", help="Act as this user, with a token of the testbed's own issuer (or DYNAMOS_TOKEN).")
]


def folder_of(state: Path, testbed: str) -> StateFolder:
    """Give the state folder of the testbed that is meant: the named one, or the only one that there is.

    Of several, the only one that is up. Raises NotFound or BadInput that name what there is.
    """
    from dynamos.kit.words import suggest

    known = {folder.root.name: folder for folder in folders(state)}
    if testbed:
        if testbed not in known:
            hint = suggest(testbed, known) or "dynamos up PROFILE starts one"
            raise NotFound(f"there is no testbed {testbed!r} in {state}", hint=hint)
        return known[testbed]
    up = [folder for folder in known.values() if folder.is_held()]
    found: list[StateFolder] = up or list(known.values())
    if not found:
        raise NotFound(f"there is no testbed in {state}", hint="dynamos up PROFILE starts one")
    if len(found) > 1:
        names = ", ".join(folder.root.name for folder in found)
        raise BadInput(f"there are several testbeds: {names}", hint="say which with --testbed")
    return found[0]


def folders(state: Path) -> list[StateFolder]:
    """Give the state folders of all testbeds, by name."""
    from dynamos.deploy.states import StateFolder

    if not state.is_dir():
        return []
    found = (StateFolder(path) for path in sorted(state.iterdir()))
    return [folder for folder in found if any(path.exists() for path in (folder.lock, folder.status, folder.reach))]


def status_of(folder: StateFolder) -> TestbedStatus:
    """Give the status of a testbed that is up. Raises Unavailable where it is not."""
    refuse_cluster(folder)
    status = folder.read_status()
    if status is None or not folder.is_held():
        name = status.profile if status else "PROFILE"
        raise Unavailable(f"the testbed {folder.root.name!r} is not up", hint=f"dynamos up {name}")
    return status


def subject_of(state: Path, testbed: str) -> Subject:
    """Give a testbed that is up, with its networks. Raises Unavailable where it is down, or has none of its own."""
    from dynamos.deploy import profiles
    from dynamos.testbed.proofs.subjects import Subject

    folder = folder_of(state, testbed)
    return Subject.find(profiles.load(Path(status_of(folder).profile)), folder.world)


def api(state: Path, testbed: str, address: str, user: str) -> Api:
    """Give a client of the API that is meant, with the token that fits."""
    from dynamos.middleware.clients import Api

    if address:
        return Api(address, token=_token(user, None))
    folder = folder_of(state, testbed)
    return Api(address_of(folder), token=_token(user, folder))


def address_of(folder: StateFolder) -> str:
    """Give the address of a testbed's API. One on a cluster is reached by a port that is forwarded until we end.

    Raises Unavailable where it is not up, or not to be reached.
    """
    if is_on_cluster(folder):
        return _forwarded(folder)
    status = status_of(folder)
    if not status.api:
        raise Unavailable(f"the API of {status.testbed!r} is not ready", hint="dynamos status")
    return status.api


def is_on_cluster(folder: StateFolder) -> bool:
    """Tell whether a testbed is on a cluster, and nothing of this machine."""
    return folder.reach.exists() and not folder.is_held()


def refuse_cluster(folder: StateFolder) -> None:
    """Raise BadInput for a testbed that is on a cluster."""
    if is_on_cluster(folder):
        name = folder.root.name
        hint = f"dynamos stack outputs {name}; kubectl get pods --all-namespaces -l dynamos.dev/testbed={name}"
        raise BadInput(f"the testbed {name!r} is on a cluster, and its units are not of this machine", hint=hint)


def reach_of(folder: StateFolder) -> Reach:
    """Give how the cluster is reached that a testbed is on. Raises NotFound, Unavailable without the client."""
    try:
        from dynamos.deploy.kubernetes.reaching import Reach
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] not in ("lightkube", "httpx2"):
            raise
        hint = "pip install 'dynamos[kubernetes]'"
        raise Unavailable("the client of Kubernetes is not installed", hint=hint) from None
    return Reach.read(folder)


def _forwarded(folder: StateFolder) -> str:
    import atexit

    reach = reach_of(folder)
    if reach.address:
        return reach.address
    from dynamos.deploy.kubernetes.reaching import Forward

    forward = Forward.open(reach)
    atexit.register(forward.close)
    return forward.address


def user_of(user: str) -> str:
    """Give the name of whoever asks: as said with --as, else whose DYNAMOS_TOKEN is."""
    if user:
        return user
    if token := os.environ.get("DYNAMOS_TOKEN", ""):
        claims = _claims(token)
        return str(claims.get("preferred_username") or claims.get("sub", ""))
    raise BadInput("who asks?", hint="say so with --as USER, or put a token into DYNAMOS_TOKEN")


def _token(user: str, folder: StateFolder | None) -> str:
    """Give DYNAMOS_TOKEN, else a token of the testbed's own issuer for `user`, else none."""
    if token := os.environ.get("DYNAMOS_TOKEN", ""):
        return token
    if user and folder:
        from dynamos.deploy.provisioning import token_for

        return token_for(folder, user)
    return ""


def _claims(token: str) -> dict[str, Any]:
    """Read what a token says without checking it: whoever takes it checks it."""
    import base64
    import json

    try:
        middle = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
    except (IndexError, ValueError):
        raise BadInput("DYNAMOS_TOKEN is not a token", hint="it has three parts joined by dots") from None
    return claims if isinstance(claims, dict) else {}
