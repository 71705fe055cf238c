"""Results of a job, handed out: as a table for people, or as they come for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import islice
from typing import IO, Any

from dynamos.cli.requests import ResultFormat
from dynamos.cli.shows import console, note, print_reason, print_table
from dynamos.kit.errors import BadInput
from dynamos.middleware.clients import Api, result_path

_ACCEPT = {"accept": "*/*"}


def hand_out(api: Api, job: Mapping[str, Any], form: ResultFormat, *, which: str, rows: int, target: IO[bytes]) -> None:
    """Write the results of a job that has ended; what is not the result goes to standard error."""
    found = [each for each in job["results"] if each["status"] == "complete"]
    if which:
        found = _chosen(found, which)
    tell_providers(job)
    if form is ResultFormat.TABLE:
        for each in found:
            _table(api, job["id"], each, rows)
    elif form is ResultFormat.JSON:
        shown = [{**_head(each), "rows": _rows(api, job["id"], each)} for each in found]
        text = json.dumps({"job": job["id"], "state": job["state"], "results": shown}, indent=2, ensure_ascii=False)
        target.write(f"{text}\n".encode())
    else:
        if len(found) > 1:
            names = ", ".join(each["party"] for each in found)
            raise BadInput(f"the job has {len(found)} results: {names}", hint="say which with --result")
        for each in found:
            _copy(api, job["id"], each, form, target)


def tell_providers(job: Mapping[str, Any]) -> None:
    """Say on standard error which providers did not answer, and why."""
    for name, said in job.get("providers", {}).items():
        if said["outcome"] == "answered":
            continue
        why = [(said.get("error") or {}).get("message", ""), *(said.get("notes") or ())]
        note(": ".join([name, said["outcome"].replace("-", " "), *filter(None, why)]))
        for reason in said.get("reasons") or ():
            print_reason(console(error=True), reason)


def _table(api: Api, job: str, result: Mapping[str, Any], limit: int) -> None:
    """Print the first rows; the rest is not even fetched."""
    with api.stream(f"{result_path(job, result)}&format=ndjson", headers=_ACCEPT) as answer:
        shown = [json.loads(line) for line in islice(answer.iter_lines(), limit)]
        total = int(answer.headers.get("dynamos-rows", len(shown)))
    head = _head(result)
    where = "" if head["computedBy"] in head["providers"] else f", computed by {head['computedBy']}"
    title = f"{', '.join(head['providers'])}{where}"
    columns = list(shown[0]) if shown else []
    print_table(columns, [[row.get(name) for name in columns] for row in shown], title=title, empty="no rows")
    if total > len(shown):
        note(f"{len(shown)} of {total} rows; --rows N shows more, --format csv --output FILE keeps all")


def _rows(api: Api, job: str, result: Mapping[str, Any]) -> Any:
    return api.call("GET", f"{result_path(job, result)}&format=json", headers=_ACCEPT).json()


def _copy(api: Api, job: str, result: Mapping[str, Any], form: ResultFormat, target: IO[bytes]) -> None:
    with api.stream(f"{result_path(job, result)}&format={form}", headers=_ACCEPT) as answer:
        for piece in answer.iter_bytes():
            target.write(piece)


def _head(result: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": result["name"], "providers": list(result.get("providers") or ()), "computedBy": result["party"]}


def _chosen(found: list[Mapping[str, Any]], which: str) -> list[Mapping[str, Any]]:
    chosen = [each for each in found if which in (each["name"], each["party"], *each.get("providers", ()))]
    if not chosen:
        names = ", ".join(each["party"] for each in found)
        raise BadInput(f"there is no result {which!r}", hint=f"there is {names}" if names else "")
    return chosen
