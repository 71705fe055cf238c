"""Answers as upstream's clients read them, and results as anybody does; streamed where they are large."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

from starlette.responses import Response, StreamingResponse

from dynamos.kit.errors import Conflict, DynamosError, NotFound
from dynamos.middleware.api import media, outcomes, problems, texts
from dynamos.middleware.api.bodies import dumps
from dynamos.middleware.api.results import Delivery, Phase, Result
from dynamos.model.jobs import Job

SMALL_BYTES = 256 << 10
JSON = "application/json"


def approval(delivery: Delivery) -> Response:
    """Give upstream's `jobId` and `responses`, with what we add behind them. A job without a result is a problem."""
    job = delivery.record
    error = outcomes.failure(delivery)
    if job is None or error is not None:
        return failed(delivery, error)
    found = outcomes.complete(delivery)
    return _streamed(_approval(job, delivery, found), found, JSON, headers(job, delivery))


def failed(delivery: Delivery, error: DynamosError | None) -> Response:
    """Give the problem of a job that brought nothing, with what every provider said."""
    job = delivery.record
    assert error is not None
    if job is None:
        return problems.response(error, jobId=delivery.job)
    more = {"jobId": job.id, "providers": outcomes.providers(job, delivery), "links": outcomes.links(job.id)}
    return problems.response(error, instance=outcomes.links(job.id)["job"], **more)


def _approval(job: Job, delivery: Delivery, found: list[Result]) -> Iterator[bytes]:
    """Write the answer as upstream does: indented by four, texts inside texts."""
    yield b'{\n    "jobId": ' + dumps(job.id) + b',\n    "responses": ['
    for number, result in enumerate(found):
        yield b",\n        " if number else b"\n        "
        yield from texts.quoted(texts.text(result))
    yield b"\n    ]"
    rest = dumps(outcomes.summary(job, delivery), indent=4)
    yield b",\n" + rest[rest.index(b"\n") + 1 :] + b"\n"


def representation(job: Job, delivery: Delivery, result: Result, *, accept: str, name: str) -> Response:
    """Give one result in the form that the client wants: the one it names, else by its `Accept`."""
    form = media.choose(result, accept=accept, name=name)
    told = {**headers(job, delivery), "DYNAMOS-Result": quote(result.name), "DYNAMOS-Rows": str(result.rows)}
    told["vary"] = "Accept"
    if form is media.ARROW and result.spool.data is not None:
        return Response(result.spool.data, headers=told, media_type=form.media_type)
    return _streamed(form.write(result), [result], form.media_type, told)


def headers(job: Job, delivery: Delivery) -> dict[str, str]:
    """Say in headers what a table cannot: the job, its state, and what each provider did."""
    said = outcomes.providers(job, delivery)
    return {
        "DYNAMOS-Job": quote(job.id),
        "DYNAMOS-State": str(job.state),
        "DYNAMOS-Providers": ", ".join(f"{quote(name)}={entry['outcome']}" for name, entry in said.items()),
        "cache-control": "no-store",
    }


def _streamed(pieces: Iterator[bytes], found: list[Result], media_type: str, told: dict[str, str]) -> Response:
    """Answer at once with what is small; piece by piece, from threads, with what is not."""
    if sum(result.spool.size for result in found) <= SMALL_BYTES:
        return Response(b"".join(pieces), headers=told, media_type=media_type)
    return StreamingResponse(pieces, headers=told, media_type=media_type)


def one_result(job: Job, delivery: Delivery | None, name: str) -> Result:
    """Give the result that `name` names (its own name, or its party's), or the only one.

    Raises Conflict where there are several (with their names) or it is not ready, NotFound, or the error it ended with.
    """
    known = outcomes.results(job, delivery)
    entry = _entry(job, known, name)
    if entry["status"] == "failed":
        raise outcomes.error_of(job.model_copy(update={"error": entry.get("error")}))
    if entry["status"] in ("awaited", str(Phase.ARRIVING)):
        raise Conflict(
            "the result is not ready yet", code="not-ready", hint="ask again, or with ?wait=30s", retry_after=1
        )
    result = delivery.results.get(str(entry["name"])) if delivery else None
    if result is None or result.phase is not Phase.COMPLETE:
        raise outcomes.result_gone()
    return result


def _entry(job: Job, known: list[dict[str, object]], name: str) -> dict[str, object]:
    if not known:
        raise outcomes.error_of(job) if job.state.final else NotFound(f"job {job.id!r} has no result", where=job.id)
    names = [str(entry["name"]) for entry in known]
    if not name:
        if len(known) > 1:
            raise Conflict(
                f"the job has {len(known)} results", code="several-results", hint="say which: ?name=", names=names
            )
        return known[0]
    found = [entry for entry in known if entry["name"] == name] or [entry for entry in known if entry["party"] == name]
    if len(found) != 1:
        raise NotFound(f"the job has no result {name!r}", where="name", hint=f"there is {', '.join(names)}")
    return found[0]
