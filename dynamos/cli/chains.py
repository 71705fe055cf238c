"""`chain`: a plan, or the services of a marketplace, as a drawing."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from dynamos.cli import targets
from dynamos.cli.targets import ApiOption, StateOption, TestbedOption, UserOption
from dynamos.kit.errors import BadInput, NotFound, revive
from dynamos.kit.words import suggest


class DrawingFormat(StrEnum):
    """How a chain is drawn."""

    MERMAID = "mermaid"
    GRAPHVIZ = "graphviz"
    JSON = "json"


def add(app: typer.Typer) -> None:
    app.command("chain")(chain)


def chain(
    job: Annotated[str, typer.Option("--job", help="Draw the plan of this job.")] = "",
    json_file: Annotated[Path | None, typer.Option("--json", help="Draw the plan of the request in this file.")] = None,
    marketplace: Annotated[str, typer.Option("--marketplace", help="Draw a marketplace's services, from files.")] = "",
    type: Annotated[str, typer.Option("--type", help="Only the services of this request type.")] = "",  # noqa: A002
    format: Annotated[DrawingFormat, typer.Option("--format", help="How to draw.")] = DrawingFormat.MERMAID,  # noqa: A002
    user: UserOption = "",
    state: StateOption = Path(targets.STATE),
    testbed: TestbedOption = "",
    api: ApiOption = "",
) -> None:
    """Draw the chain of services: of a job, of a request that does not run, or all that a marketplace allows."""
    from dynamos.cli.requests import asker, read_json
    from dynamos.cli.shows import print_json
    from dynamos.model.plans import Plan
    from dynamos.model.services import Service
    from dynamos.planning.drawings import draw

    form: Literal["mermaid", "graphviz"] = "graphviz" if format is DrawingFormat.GRAPHVIZ else "mermaid"
    if sum(map(bool, (job, json_file, marketplace))) > 1:
        raise BadInput("draw one thing", hint="either --job, --json or --marketplace")
    if marketplace:
        services, kinds = _from_files(marketplace)
    else:
        body = read_json(json_file) if json_file else None
        with targets.api(state, testbed, api, user or asker(body)) as client:
            if job or body is not None:
                found = _plan(client, job, body)
                if format is DrawingFormat.JSON:
                    print_json(found)
                else:
                    print(draw(Plan.model_validate(found), form), end="")
                return
            services = {each["name"]: each for each in client.get("/api/v1/microservices")}
            kinds = {each["name"]: each for each in client.get("/api/v1/requestTypes")}
    if format is DrawingFormat.JSON:
        print_json(list(services.values()))
        return
    values = {name: Service.model_validate(value) for name, value in services.items()}
    print(draw(values, form, request_type=_request_type(kinds, type)), end="")


def _plan(client: Any, job: str, body: Any) -> Any:
    from dynamos.cli.jobs import path_of

    if job:
        plan = client.get(path_of(job)).get("plan")
        if not plan:
            raise NotFound(f"job {job!r} has no plan")
        return plan
    answer = client.call("POST", "/api/v1/check", body=body).json()
    if not answer["runs"]:
        raise revive({**(answer.get("error") or {"code": "refused", "message": "it would be refused"}),
                      "reasons": answer.get("reasons", [])})  # fmt: skip
    return answer["plan"]


def _from_files(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    from dynamos.deploy.marketplaces import read
    from dynamos.deploy.places import marketplace_folder

    found = read(marketplace_folder(name)).marketplace
    services = {name: service.as_json() for name, service in found.services.items()}
    return services, {name: kind.as_json() for name, kind in found.request_types.items()}


def _request_type(kinds: dict[str, Any], name: str) -> Any:
    from dynamos.model.request_types import RequestType

    if not name:
        return None
    if name not in kinds:
        raise NotFound(f"there is no request type {name!r}", hint=suggest(name, kinds))
    return RequestType.model_validate(kinds[name])
