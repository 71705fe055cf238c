"""`request` and `check`: ask for data, or whether one could."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from dynamos.cli import targets
from dynamos.cli.shows import Format
from dynamos.cli.targets import ApiOption, StateOption, TestbedOption, UserOption
from dynamos.kit.errors import BadInput, Refused, revive

LONGEST_SECONDS = 3600.0
"""More than any deadline that the middleware grants: it ends the job, not we."""
STANDARD_TYPE = "sqlDataRequest"


class ResultFormat(StrEnum):
    """How a result is handed out."""

    TABLE = "table"
    JSON = "json"
    NDJSON = "ndjson"
    CSV = "csv"
    ARROW = "arrow"
    PARQUET = "parquet"
    IMAGE = "image"


BINARY = (ResultFormat.ARROW, ResultFormat.PARQUET)

QueryFile = Annotated[
    str, typer.Argument(metavar="[FILE]", help="A request (.json, sent as it is), or a SQL query; - is standard input.")
]
Query = Annotated[str, typer.Option("--query", "-q", help="The SQL query itself.")]
Type = Annotated[str, typer.Option("--type", help="The request type.")]
Providers = Annotated[list[str] | None, typer.Option("--provider", "-p", help="A data provider; may be repeated.")]
Algorithm = Annotated[str, typer.Option("--algorithm", "-a", help="What to compute over the rows of the query.")]
Columns = Annotated[list[str] | None, typer.Option("--column", "-c", help="A parameter of the algorithm, NAME=COLUMN.")]
Options = Annotated[list[str] | None, typer.Option("--option", "-o", help="An option, NAME or NAME=false.")]
Aggregate = Annotated[bool, typer.Option("--aggregate", help="One result over all providers: --option aggregate.")]
Anonymize = Annotated[bool, typer.Option("--anonymize", help="Anonymise sensitive columns: --option anonymize.")]
Graph = Annotated[bool, typer.Option("--graph", help="A chart of the result: --option graph.")]
Archetype = Annotated[str, typer.Option("--archetype", help="Ask for this archetype.")]
Compute = Annotated[str, typer.Option("--compute-provider", help="Ask for this compute provider.")]
Deadline = Annotated[str, typer.Option("--deadline", help='How long the job may take, such as "30s".')]
JsonFile = Annotated[
    Path | None,
    typer.Option("--json", help="Send this file as it is, in our form or upstream's (- is standard input)."),
]


def add(app: typer.Typer) -> None:
    app.command("request")(request)
    app.command("check")(check)


def request(
    query_file: QueryFile = "",
    query: Query = "",
    user: UserOption = "",
    type: Type = STANDARD_TYPE,  # noqa: A002  the option's name
    provider: Providers = None,
    algorithm: Algorithm = "",
    column: Columns = None,
    option: Options = None,
    aggregate: Aggregate = False,
    anonymize: Anonymize = False,
    graph: Graph = False,
    archetype: Archetype = "",
    compute_provider: Compute = "",
    deadline: Deadline = "",
    json_file: JsonFile = None,
    result: Annotated[str, typer.Option("--result", help="Which result, by party, where there are several.")] = "",
    format: Annotated[ResultFormat, typer.Option("--format", help="How to hand out the result.")] = ResultFormat.TABLE,  # noqa: A002
    output: Annotated[Path | None, typer.Option("--output", "-O", help="Write the result into this file.")] = None,
    rows: Annotated[int, typer.Option("--rows", min=1, help="At most so many rows of a table.")] = 20,
    state: StateOption = Path(targets.STATE),
    testbed: TestbedOption = "",
    api: ApiOption = "",
) -> None:
    """Ask for data: runs the query and the algorithm at the providers, and prints what comes back."""
    _check_output(format, output)
    body = _body(
        json_file, query_file, query, user, type=type, providers=provider, algorithm=algorithm, columns=column,
        options=_switches(option, aggregate=aggregate, anonymize=anonymize, graph=graph), archetype=archetype,
        compute=compute_provider, deadline=deadline,
    )  # fmt: skip
    with targets.api(state, testbed, api, user or asker(body)) as client:
        from dynamos.cli.results import hand_out
        from dynamos.cli.shows import Progress

        with Progress("the job runs; Ctrl-C cancels it"):
            job = client.call(
                "POST", "/api/v1/jobs", body=body, params={"wait": "true"}, headers={"accept": "application/json"},
                within=LONGEST_SECONDS,
            ).json()  # fmt: skip
        with _opened(output) as target:
            hand_out(client, job, format, which=result, rows=rows, target=target)


def check(
    query_file: QueryFile = "",
    query: Query = "",
    user: UserOption = "",
    type: Type = STANDARD_TYPE,  # noqa: A002
    provider: Providers = None,
    algorithm: Algorithm = "",
    column: Columns = None,
    option: Options = None,
    aggregate: Aggregate = False,
    anonymize: Anonymize = False,
    graph: Graph = False,
    archetype: Archetype = "",
    compute_provider: Compute = "",
    deadline: Deadline = "",
    json_file: JsonFile = None,
    format: Annotated[Format, typer.Option("--format", help="How to print the answer.")] = Format.TABLE,  # noqa: A002
    state: StateOption = Path(targets.STATE),
    testbed: TestbedOption = "",
    api: ApiOption = "",
) -> None:
    """Tell whether a request would run, and how, without running it. Exit code 0: it would; 4: it would be refused."""
    from dynamos.cli.shows import print_json

    body = _body(
        json_file, query_file, query, user, type=type, providers=provider, algorithm=algorithm, columns=column,
        options=_switches(option, aggregate=aggregate, anonymize=anonymize, graph=graph), archetype=archetype,
        compute=compute_provider, deadline=deadline,
    )  # fmt: skip
    with targets.api(state, testbed, api, user or asker(body)) as client:
        answer = client.call("POST", "/api/v1/check", body=body).json()
    if format is Format.JSON:
        print_json(answer)
    else:
        _print_check(answer)
    if not answer["runs"]:
        error = answer.get("error") or {}
        raise typer.Exit(revive(error).exit if error else Refused.exit)


def _print_check(answer: Mapping[str, Any]) -> None:
    from rich.text import Text

    from dynamos.cli.shows import console, print_error, print_reason, print_table

    plan = answer.get("plan") or {}
    rows = []
    for name, said in answer["decision"]["providers"].items():
        word = Text("permitted", style="green") if said["permitted"] else Text("refused", style="red")
        archetype, compute = plan.get("archetypes", {}).get(name, ""), plan.get("compute", {}).get(name, "")
        rows.append([name, word, archetype, compute, ", ".join(said.get("duties") or ())])
    print_table(("provider", "decision", "archetype", "computes", "duties"), rows)
    out = console()
    for reason in answer.get("reasons") or ():
        print_reason(out, reason)
    if plan:
        steps = " -> ".join(dict.fromkeys(f"{step['party']}/{step['service']}" for step in plan["steps"]))
        out.print(Text.assemble(("chain  ", "dim"), steps))
    for note in plan.get("notes") or ():
        out.print(Text.assemble(("note   ", "dim"), note))
    if answer.get("error") and not answer.get("reasons"):
        print_error(revive(answer["error"]))


def _body(
    json_file: Path | None,
    query_file: str,
    query: str,
    user: str,
    *,
    type: str,  # noqa: A002
    providers: list[str] | None,
    algorithm: str,
    columns: list[str] | None,
    options: dict[str, bool],
    archetype: str,
    compute: str,
    deadline: str,
) -> Any:
    """Give the request to send: the file as it is, or one made of the options."""
    if json_file is not None or query_file.endswith(".json"):
        return read_json(json_file or Path(query_file))
    if not providers:
        raise BadInput("of whom?", hint="name data providers with --provider")
    body: dict[str, Any] = {
        "type": type,
        "user": {"userName": targets.user_of(user)},
        "providers": providers,
        "query": _query(query_file, query),
        "algorithm": algorithm,
        "algorithmColumns": dict(_pair(text) for text in columns or ()),
        "options": options,
        "archetype": archetype,
        "computeProvider": compute,
        "deadline": deadline,
    }
    return {name: value for name, value in body.items() if value not in ("", {}, None)}


def asker(body: Any) -> str:
    """Give the user whom a request names, if it does."""
    user = body.get("user") if isinstance(body, dict) else None
    names = {name.lower().replace("_", ""): value for name, value in user.items()} if isinstance(user, dict) else {}
    return str(names.get("username", ""))


def read_json(path: Path) -> Any:
    """Read a JSON file, or standard input for `-`. Raises BadInput that says where it is no JSON."""
    text = read_text(path)
    try:
        return json.loads(text)
    except ValueError as error:
        raise BadInput(f"this is not JSON: {error}", where=str(path)) from None


def _query(path: str, query: str) -> str:
    if bool(path) == bool(query):
        raise BadInput("say one query", hint="either --query 'SELECT ...' or a file (- for standard input)")
    return query or read_text(Path(path))


def read_text(path: Path) -> str:
    """Read a text file, or standard input for `-`. Raises BadInput."""
    try:
        return sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise BadInput(f"the file cannot be read: {reason}", where=str(path)) from None


def _pair(text: str) -> tuple[str, str]:
    name, joined, value = text.partition("=")
    if not joined or not name or not value:
        raise BadInput(f"{text!r} is not NAME=COLUMN", where="--column", hint="for example --column group=origin")
    return name, value


def _switches(options: list[str] | None, **flags: bool) -> dict[str, bool]:
    """Give the options that are switched on or off."""
    words = {"": True, "true": True, "false": False}
    found = {name: True for name, on in flags.items() if on}
    for text in options or ():
        name, _, value = text.partition("=")
        if value.lower() not in words or not name:
            raise BadInput(f"{text!r} is not NAME, NAME=true or NAME=false", where="--option")
        found[name] = words[value.lower()]
    return found


def _check_output(format: ResultFormat, output: Path | None) -> None:  # noqa: A002
    if format in BINARY and output is None and sys.stdout.isatty():
        raise BadInput(f"{format} is not for terminals", hint="write it into a file with --output")
    if output is not None and not output.parent.is_dir():
        raise BadInput("there is no such folder", where=str(output.parent))


@contextmanager
def _opened(output: Path | None) -> Iterator[IO[bytes]]:
    """Open the file only once there is something to put into it."""
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    from dynamos.deploy.states import explained

    with explained(output), output.open("wb") as file:
        yield file
