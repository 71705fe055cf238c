"""`adapt`: what the loop has decided, why, and what it would decide."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dynamos.cli import simulating, targets
from dynamos.cli.shows import Format, FormatOption
from dynamos.cli.targets import ApiOption, StateOption, TestbedOption, UserOption
from dynamos.kit.errors import BadInput, Conflict, NotFound

if TYPE_CHECKING:
    from dynamos.adaptation.decisions import Decision, Record
    from dynamos.adaptation.replays import Replayed, Summary
    from dynamos.middleware.clients import Api

BASE = "/api/v1/adaptation"
MOST_RECORDS = 10_000
SHOWN = 20
OPERATOR = "operator"
PlannerOption = Annotated[str, typer.Option("--planner", help="Only decisions of this planner.")]

adapt = typer.Typer(help="See what adaptation has decided and why, and try other planners.", no_args_is_help=True)


def add(app: typer.Typer) -> None:
    app.add_typer(adapt, name="adapt")


adapt.command("simulate")(simulating.simulate)


@adapt.command("log")
def log(
    limit: Annotated[int, typer.Option("--limit", min=1, max=MOST_RECORDS, help="At most so many, the newest.")] = 20,
    planner: PlannerOption = "",
    job: Annotated[str, typer.Option("--job", help="Only decisions about this job.")] = "",
    save: Annotated[
        Path | None, typer.Option("--save", help="Write the log as it is to this file, for `adapt replay`.")
    ] = None,
    user: UserOption = "",
    format: FormatOption = Format.TABLE,  # noqa: A002
    state: StateOption = Path(targets.STATE),
    testbed: TestbedOption = "",
    api: ApiOption = "",
) -> None:
    """List adaptation decisions, the newest first: those about your own jobs, or everybody's for who operates it."""
    from dynamos.adaptation.decisions import Decision
    from dynamos.cli.shows import print_json, print_table

    with _api(state, testbed, api, user) as client:
        if save is not None:
            _save(client.get(f"{BASE}/records", limit=MOST_RECORDS), save)
            return
        found = client.get(f"{BASE}/decisions", limit=limit, planner=planner, job=job)
    if format is Format.JSON:
        print_json(found)
        return
    rows = [_row(Decision.model_validate(each)) for each in found]
    print_table(
        ("job", "at", "planner", "pick", "symptoms", "expected ms", "came ms", "state"),
        rows,
        empty="no adaptation decisions yet",
    )


@adapt.command("explain")
def explain(
    job: Annotated[str, typer.Argument(help="The job's id; without one, the newest decision.")] = "",
    user: UserOption = "",
    format: FormatOption = Format.TABLE,  # noqa: A002
    state: StateOption = Path(targets.STATE),
    testbed: TestbedOption = "",
    api: ApiOption = "",
) -> None:
    """Explain one decision on one screen: what was known, what was possible, why this, what came of it."""
    from dynamos.adaptation import screens
    from dynamos.adaptation.decisions import Decision
    from dynamos.cli.shows import print_json

    with _api(state, testbed, api, user) as client:
        found = client.get(f"{BASE}/decisions", limit=1, job=job)
    if not found:
        raise NotFound("there are no adaptation decisions yet", hint="dynamos request asks for data")
    if format is Format.JSON:
        print_json(found[0])
        return
    print("\n".join(screens.explain(Decision.model_validate(found[0]))))


@adapt.command("replay")
def replay(
    file: Annotated[
        Path | None, typer.Argument(help="A log written by `adapt log --save`; without one, the testbed's.")
    ] = None,
    planner: Annotated[str, typer.Option("--planner", help="Another planner: what would it have picked?")] = "",
    options: Annotated[str, typer.Option("--options", help="That planner's options, as JSON.")] = "{}",
    user: UserOption = "",
    format: FormatOption = Format.TABLE,  # noqa: A002
    state: StateOption = Path(targets.STATE),
    testbed: TestbedOption = "",
    api: ApiOption = "",
) -> None:
    """Decide again over a recorded log. The same planner decides the same; else what differs is told, and it fails."""
    from dynamos.adaptation import replays
    from dynamos.cli.shows import print_json

    if file is None:
        with _api(state, testbed, api, user) as client:
            raw = client.get(f"{BASE}/records", limit=MOST_RECORDS)
    else:
        raw = _load(file)
    replayed = replays.replay(_records(raw), planner=planner, options=_options(options))
    told = replays.summary(replayed)
    if format is Format.JSON:
        print_json(_as_json(told))
    else:
        _print(told, planner)
    if told.different and not planner:
        raise Conflict(f"{len(told.different)} of {len(replayed)} decisions are not the same", code="replay-differs")


def _api(state: Path, testbed: str, address: str, user: str) -> Api:
    """Give a client of the API that is meant: as who operates the testbed, where nobody else is named."""
    from dynamos.deploy.provisioning import token_for
    from dynamos.middleware.clients import Api

    if address or user or os.environ.get("DYNAMOS_TOKEN"):
        return targets.api(state, testbed, address, user)
    folder = targets.folder_of(state, testbed)
    return Api(targets.address_of(folder), token=token_for(folder, OPERATOR, operates=True))


def _row(decision: Decision) -> list[str]:
    from dynamos.adaptation.screens import clock

    effect = decision.effect
    came = f"{effect.experience.seconds * 1e3:.0f}" if effect and effect.experience else "-"
    symptoms = ", ".join(f"{each.kind} {each.subject}" for each in decision.situation.symptoms)
    expected = f"{decision.expected.seconds * 1e3:.0f}" if decision.expected else "-"
    pick = decision.judgement.option.name + (" (refused)" if decision.refused else "")
    return [
        decision.job, clock(decision.at), decision.planner, pick, symptoms or "-", expected, came,
        effect.state if effect else "-",
    ]  # fmt: skip


def _print(told: Summary, planner: str) -> None:
    from dynamos.cli.shows import print_table

    total = told.same + len(told.different)
    what = f"{planner} picks the same as was picked" if planner else "the same"
    print(f"{told.same} of {total} decisions: {what}")
    for reason, count in _reasons(told.skipped).items():
        print(f"{count} not compared: {reason}")
    if told.different:
        rows = [[*_difference(row).values()] for row in told.different[:SHOWN]]
        print_table(("job", "then", "now", "why now"), rows)
        if len(told.different) > SHOWN:
            print(f"and {len(told.different) - SHOWN} more")


def _reasons(rows: tuple[Replayed, ...]) -> dict[str, int]:
    from collections import Counter

    return dict(Counter(row.problem for row in rows))


def _difference(row: Replayed) -> dict[str, str]:
    assert row.now is not None
    then = row.recorded.judgement.option.name
    return {"job": row.recorded.job, "then": then, "now": row.now.option.name, "why": row.now.why}


def _as_json(told: Summary) -> dict[str, Any]:
    return {
        "same": told.same,
        "different": [_difference(row) for row in told.different],
        "notCompared": _reasons(told.skipped),
        "picks": told.picks,
    }


def _save(records: list[dict[str, Any]], path: Path) -> None:
    from dynamos.deploy.states import explained

    with explained(path):
        path.write_text("".join(f"{json.dumps(record)}\n" for record in records), encoding="utf-8")
    print(f"{len(records)} records in {path}")


def _load(path: Path) -> list[dict[str, Any]]:
    from dynamos.deploy.states import explained

    with explained(path):
        lines = path.read_text(encoding="utf-8").splitlines()
    found = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except ValueError:
            raise BadInput("this line is no JSON", where=f"{path}:{number}", hint="dynamos adapt log --save") from None
        found.append(record)
    return found


def _records(raw: list[dict[str, Any]]) -> list[Record]:
    from pydantic import ValidationError

    from dynamos.adaptation import decisions

    found = []
    for number, record in enumerate(raw, 1):
        try:
            found.append(decisions.read(record))
        except (KeyError, TypeError, ValidationError):
            message = "this is no record of adaptation"
            raise BadInput(message, where=f"record {number}", hint="dynamos adapt log --save") from None
    return found


def _options(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise BadInput(f"the options are no JSON: {error}", where="--options") from None
    if not isinstance(value, dict):
        raise BadInput("the options are no mapping", where="--options", hint='such as {"margin": 0.2}')
    return value
