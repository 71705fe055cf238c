"""`jobs` and `trace`: what was asked for, how it went, and where its time went."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from dynamos.cli import targets
from dynamos.cli.shows import Format, FormatOption
from dynamos.cli.targets import ApiOption, StateOption, TestbedOption, UserOption
from dynamos.kit.errors import NotFound

JobArgument = Annotated[str, typer.Argument(help="The job's id; without one, the newest job.")]
_STYLES = {"succeeded": "green", "partial": "yellow", "running": "cyan", "submitted": "cyan"}

jobs = typer.Typer(help="List jobs, look at one, cancel one.", no_args_is_help=True)


def add(app: typer.Typer) -> None:
    app.add_typer(jobs, name="jobs")
    app.command("trace")(trace)


@jobs.command("list")
def list_jobs(
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="At most so many, the newest.")] = 20,
    user: UserOption = "",
    format: FormatOption = Format.TABLE,  # noqa: A002
    state: StateOption = Path(targets.STATE),
    testbed: TestbedOption = "",
    api: ApiOption = "",
) -> None:
    """List your jobs, the newest first."""
    from dynamos.cli.shows import print_json, print_table, styled

    with targets.api(state, testbed, api, user) as client:
        found = client.get("/api/v1/jobs", limit=limit)["jobs"]
    if format is Format.JSON:
        print_json(found)
        return
    rows = [
        [job["id"], styled(job["state"], _STYLES.get(job["state"], "red")), job["user"], ", ".join(job["providers"]),
         ", ".join(dict.fromkeys(job["archetypes"].values())), _clock(job["submitted"])]
        for job in found
    ]  # fmt: skip
    print_table(("job", "state", "user", "providers", "archetype", "submitted"), rows, empty="no jobs yet")


@jobs.command("show")
def show(
    job: JobArgument = "",
    user: UserOption = "",
    format: FormatOption = Format.TABLE,  # noqa: A002
    state: StateOption = Path(targets.STATE),
    testbed: TestbedOption = "",
    api: ApiOption = "",
) -> None:
    """Show one job: what every provider did, and what each step used."""
    from dynamos.cli.shows import print_json

    with targets.api(state, testbed, api, user) as client:
        found = client.get(path_of(_id(client, job)))
    if format is Format.JSON:
        print_json(found)
        return
    _print_job(found)


@jobs.command("cancel")
def cancel(
    job: Annotated[str, typer.Argument(help="The job's id.")],
    user: UserOption = "",
    format: FormatOption = Format.TABLE,  # noqa: A002
    state: StateOption = Path(targets.STATE),
    testbed: TestbedOption = "",
    api: ApiOption = "",
) -> None:
    """Cancel a job that is under way, or remove the results of one that has ended."""
    from dynamos.cli.shows import print_json

    with targets.api(state, testbed, api, user) as client:
        found = client.call("DELETE", path_of(job)).json()
    if format is Format.JSON:
        print_json(found)
    else:
        print(f"{found['id']} is {found['state']}")


def trace(
    job: JobArgument = "",
    user: UserOption = "",
    format: FormatOption = Format.TABLE,  # noqa: A002
    state: StateOption = Path(targets.STATE),
    testbed: TestbedOption = "",
    api: ApiOption = "",
) -> None:
    """Draw the time line of a job: which unit did what, when, and for how long."""
    from dynamos.cli.shows import console, print_json

    with targets.api(state, testbed, api, user) as client:
        name = _id(client, job)
        found = client.get(f"{path_of(name)}/trace")
        record = client.get(path_of(name))
    if format is Format.JSON:
        print_json(found)
        return
    from dynamos.cli.timelines import draw
    from dynamos.middleware.spans import spans_of

    spans = spans_of(found["spans"], record)
    if not spans:
        raise NotFound(f"there is no trace of job {name!r}", hint="spans are written a moment after the job has ended")
    console().print(draw(spans, title=name))


def path_of(job: str) -> str:
    """Give the path of one job."""
    return f"/api/v1/jobs/{quote(job, safe='')}"


def _id(client: Any, job: str) -> str:
    """Give the job that is meant: the newest where none is named."""
    if job:
        return job
    found = client.get("/api/v1/jobs", limit=1)["jobs"]
    if not found:
        raise NotFound("there are no jobs yet", hint="dynamos request asks for data")
    return str(found[0]["id"])


def _print_job(job: dict[str, Any]) -> None:
    from dynamos.cli.shows import print_error, print_facts, print_table, styled
    from dynamos.kit.errors import revive

    request = job["request"]
    print_facts(
        {
            "job": job["id"],
            "state": styled(job["state"], _STYLES.get(job["state"], "red")),
            "user": job["user"],
            "query": request["query"],
            "algorithm": request.get("algorithm", ""),
            "submitted": _clock(job["submitted"]),
            "ended": _clock(job.get("ended") or ""),
            "policy": job["decision"]["revision"] if isinstance(job.get("decision"), dict) else "",
            "notes": "; ".join(job.get("notes") or ()),
        }
    )
    rows = [
        [name, said["outcome"], said.get("archetype", ""), said.get("computeProvider", "")]
        for name, said in job["providers"].items()
    ]
    print_table(("provider", "outcome", "archetype", "computes"), rows)
    steps = [usage for part in job.get("parts", {}).values() for usage in part.get("usages", ())]
    print_table(
        ("party", "service", "start ms", "wall ms", "cpu ms", "peak MiB", "isolation"),
        [
            [u["party"], u["service"], f"{u['startMs']:.0f}", f"{u['wallMs']:.0f}", f"{u['cpuMs']:.0f}",
             f"{u['peakBytes'] / 2**20:.0f}", ", ".join(u.get("isolation") or ("none",))]
            for u in steps
        ],
    )  # fmt: skip
    if job.get("error"):
        print_error(revive(job["error"]))


def _clock(text: str) -> str:
    return text[:19].replace("T", " ")
