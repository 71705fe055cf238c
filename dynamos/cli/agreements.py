"""`agreement`: what a party allows whom."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from dynamos.cli import targets
from dynamos.cli.shows import Format, FormatOption
from dynamos.cli.targets import ApiOption, StateOption, TestbedOption, UserOption
from dynamos.kit.errors import BadInput, NotFound
from dynamos.kit.words import suggest

PartyArgument = Annotated[str, typer.Argument(help="The party whose agreement it is.")]
BASE = "/api/v1/policyEnforcer/agreements"
ANY = "any"

agreement = typer.Typer(help="List, show and change what parties allow.", no_args_is_help=True)


def add(app: typer.Typer) -> None:
    app.add_typer(agreement, name="agreement")


@agreement.command("list")
def list_agreements(
    user: UserOption = "",
    format: FormatOption = Format.TABLE,  # noqa: A002
    state: StateOption = Path(targets.STATE),
    testbed: TestbedOption = "",
    api: ApiOption = "",
) -> None:
    """List the agreements, as far as you may see them."""
    from dynamos.cli.shows import print_json, print_table

    with targets.api(state, testbed, api, user) as client:
        found = client.get(BASE)
    if format is Format.JSON:
        print_json(found)
        return
    rows = [
        [each["name"], ", ".join(each.get("relations") or {}) or "-", _any(each.get("archetypes")),
         _any(each.get("computeProviders"))]
        for each in found
    ]  # fmt: skip
    print_table(("party", "users", "archetypes", "compute providers"), rows, empty="no agreements")


@agreement.command("show")
def show(
    party: PartyArgument,
    user: UserOption = "",
    format: FormatOption = Format.TABLE,  # noqa: A002
    state: StateOption = Path(targets.STATE),
    testbed: TestbedOption = "",
    api: ApiOption = "",
) -> None:
    """Show one agreement, as far as you may see it."""
    from dynamos.cli.shows import print_json

    with targets.api(state, testbed, api, user) as client:
        found = client.get(_path(party))
    if format is Format.JSON:
        print_json(found)
    else:
        _print_agreement(found)


@agreement.command("set")
def put(
    party: PartyArgument,
    file: Annotated[Path, typer.Argument(help="The whole agreement, as YAML or JSON; - for standard input.")],
    user: UserOption = "",
    state: StateOption = Path(targets.STATE),
    testbed: TestbedOption = "",
    api: ApiOption = "",
) -> None:
    """Replace a party's agreement. Jobs that it no longer permits are re-planned or stopped."""
    value = _read(file)
    with targets.api(state, testbed, api, user) as client:
        client.call("PUT", _path(party), body={"name": party, **value})
    print(f"the agreement of {party} is changed")


@agreement.command("revoke")
def revoke(
    party: PartyArgument,
    whom: Annotated[str, typer.Argument(help="The user whose relation ends.")],
    user: UserOption = "",
    state: StateOption = Path(targets.STATE),
    testbed: TestbedOption = "",
    api: ApiOption = "",
) -> None:
    """End what a party allows one user; their running jobs at that party are stopped."""
    with targets.api(state, testbed, api, user) as client:
        answer = client.call("GET", _path(party))
        value = answer.json()
        relations = dict(value.get("relations") or {})
        if whom not in relations:
            hint = suggest(whom, relations) or "only the party's admins see everybody's relations"
            raise NotFound(f"{party} has no relation to {whom!r} that you can see", hint=hint)
        del relations[whom]
        # Only if nobody changed it meanwhile: their change must not be undone by ours.
        only_if = {"if-match": answer.headers["etag"]} if "etag" in answer.headers else {}
        client.call("PUT", _path(party), body={**value, "relations": relations}, headers=only_if)
    print(f"{party} allows {whom} nothing any more")


@agreement.command("simulate")
def simulate(
    party: PartyArgument,
    file: Annotated[Path, typer.Argument(help="The agreement as it would be, as YAML or JSON; - for standard input.")],
    past: Annotated[int, typer.Option(help="How many of the newest decisions of the past to look at.")] = 1000,
    user: UserOption = "",
    format: FormatOption = Format.TABLE,  # noqa: A002
    state: StateOption = Path(targets.STATE),
    testbed: TestbedOption = "",
    api: ApiOption = "",
) -> None:
    """Tell what an agreement would stop, allow or have run in another way. Nothing changes."""
    from dynamos.cli.shows import print_json

    value = _read(file)
    with targets.api(state, testbed, api, user) as client:
        body = {"name": party, **value}
        found = client.call("POST", f"{_path(party)}/simulate", body=body, params={"past": past}).json()
    if format is Format.JSON:
        print_json(found)
    else:
        _print_rehearsal(found)


def _read(file: Path) -> dict[str, Any]:
    """Read an agreement without its name."""
    import yaml

    from dynamos.cli.requests import read_text

    try:
        value = yaml.safe_load(read_text(file))
    except yaml.YAMLError as error:
        raise BadInput(f"this is neither YAML nor JSON: {error}", where=str(file)) from None
    if not isinstance(value, dict):
        raise BadInput("an agreement is an object", where=str(file))
    return value


def _print_rehearsal(found: Mapping[str, Any]) -> None:
    """Print what would become of each running job, and of requests of the past those to which something would happen;
    each kind of these once, with how often it came."""
    from collections import Counter

    from dynamos.cli.shows import print_table

    rows = [[each["job"], *_fate(each)] for each in found.get("running", ())]
    columns = ("user", "request type", "what becomes of it", "under", "why")
    print_table(("running job", *columns), rows, empty=f"no job runs in which {found['party']} provides data")
    past = found.get("past", ())
    fates = Counter(tuple(_fate(each)) for each in past if each["effect"] not in ("untouched", "still-refused"))
    empty = f"of the last {len(past)} requests to {found['party']}, each would get the same answer"
    print_table(("requests", *columns), [[number, *fate] for fate, number in fates.most_common()], empty=empty)
    if found.get("untold"):
        print(f"{found['untold']} older requests cannot be told of: only their digests were kept")


def _fate(each: Mapping[str, Any]) -> list[str]:
    before, after = (", ".join(each.get(name, ())) or "-" for name in ("before", "after"))
    ways = before if before == after else f"{before} -> {after}"
    why = "; ".join(reason["message"] for reason in each.get("reasons", ()))
    return [each["user"], each["requestType"], each["effect"].replace("-", " "), ways, why]


def _path(party: str) -> str:
    return f"{BASE}/{quote(party, safe='')}"


def _print_agreement(found: Mapping[str, Any]) -> None:
    from dynamos.cli.shows import print_facts, print_table

    print_facts(
        {
            "party": found["name"],
            "archetypes": _any(found.get("archetypes")),
            "compute providers": _any(found.get("computeProviders")),
            "duties": "; ".join(f"{kind}: {', '.join(names)}" for kind, names in (found.get("duties") or {}).items()),
        }
    )
    rows = [
        [who, _any(r.get("requestTypes")), _any(r.get("dataSets")), _tables(r.get("tables")),
         _any(r.get("allowedArchetypes")), _any(r.get("allowedComputeProviders")), ", ".join(r.get("duties") or ())]
        for who, r in (found.get("relations") or {}).items()
    ]  # fmt: skip
    columns = ("user", "request types", "data sets", "tables", "archetypes", "compute providers", "duties")
    print_table(columns, rows, empty="no relations that you may see")


def _any(names: object) -> str:
    return ", ".join(map(str, names)) if isinstance(names, list) and names else "-"


def _tables(tables: Mapping[str, Any] | None) -> str:
    if tables is None:
        return ANY
    return "; ".join(f"{name}({', '.join(columns)})" if columns else name for name, columns in tables.items()) or "-"
