"""What came of a job: per provider, per result, and as one error where nothing came of it."""

from __future__ import annotations

from typing import Any

from dynamos.kit.errors import Broken, Conflict, DynamosError, JobFailed, NotFound, TimedOut, Unauthenticated, revive
from dynamos.middleware.api.results import GOOD, Delivery, Phase, Result
from dynamos.model.jobs import Job, State
from dynamos.model.plans import Edge, Plan

BASE = "/api/v1"
EXPIRED = "grant-expired"


def links(job: str) -> dict[str, str]:
    """Give where everything about a job is."""
    here = f"{BASE}/jobs/{job}"
    return {"job": here, "result": f"{here}/result", "events": f"{here}/events", "trace": f"{here}/trace"}


def providers_of(plan: Plan, edge: Edge) -> tuple[str, ...]:
    """Give the providers whose rows a result is made of, in the order of the plan."""
    step = next((step for step in plan.steps if step.party == edge.source_party and step.id == edge.source), None)
    if step is not None and step.provider is not None:
        return (step.provider,)
    return tuple(provider for provider, computes in plan.compute.items() if computes == edge.source_party)


def ordered(job: Job) -> list[tuple[Edge, tuple[str, ...]]]:
    """Give the results of a job with their providers, in the order in which the request names providers."""
    if job.plan is None:
        return []
    places = {name: place for place, name in enumerate(job.request.providers)}
    found = [(edge, providers_of(job.plan, edge)) for edge in job.plan.results]
    last = len(places)
    return sorted(
        found, key=lambda each: (min((places.get(name, last) for name in each[1]), default=last), each[0].name)
    )


def counts(job: Job, edge: Edge, result: Result | None) -> bool:
    """Tell whether a result may be handed out: it is complete, and so is the job or at least its party's part.

    Until the job has ended, a result can still be revoked.
    """
    report = job.parts.get(edge.source_party)
    good = report is None or report.state == State.SUCCEEDED
    return job.state in GOOD and good and result is not None and result.phase is Phase.COMPLETE


def complete(delivery: Delivery) -> list[Result]:
    """Give the results that count, in the order of the request's providers."""
    job = delivery.record
    if job is None:
        return []
    found = [(edge, delivery.results.get(edge.name)) for edge, _ in ordered(job)]
    return [result for edge, result in found if result is not None and counts(job, edge, result)]


def results(job: Job, delivery: Delivery | None) -> list[dict[str, Any]]:
    """Describe every result; `response` is the place of a complete one among the responses."""
    described = []
    place = 0
    for edge, providers in ordered(job):
        result = delivery.results.get(edge.name) if delivery else None
        entry: dict[str, Any] = {"name": edge.name, "party": edge.source_party, "providers": list(providers)}
        if result is not None and counts(job, edge, result):
            entry |= {**result.describe(), "response": place}
            place += 1
        else:
            entry |= _absent(job, edge, result)
        described.append(entry)
    return described


def _absent(job: Job, edge: Edge, result: Result | None) -> dict[str, Any]:
    """Say why a result is not there."""
    report = job.parts.get(edge.source_party)
    error = (report.error if report else None) or (result.error.as_dict() if result and result.error else None)
    if not job.state.final and error is None:
        return {"status": str(Phase.ARRIVING) if result else "awaited"}
    if result is None and (job.state == State.SUCCEEDED or (report is not None and report.state == State.SUCCEEDED)):
        return {"status": "gone"}
    return {"status": str(Phase.FAILED), "error": error or job.error}


def providers(job: Job, delivery: Delivery | None) -> dict[str, dict[str, Any]]:
    """Say for each provider of the request what came of it: answered, refused, failed, left out, or under way."""
    by_provider: dict[str, dict[str, Any]] = {}
    for entry in results(job, delivery):
        for name in entry["providers"]:
            by_provider.setdefault(name, entry)
    return {name: _provider(job, name, by_provider.get(name)) for name in job.request.providers}


def _provider(job: Job, name: str, result: dict[str, Any] | None) -> dict[str, Any]:
    answer = job.decision.providers.get(name)
    if answer is None or not answer.permitted:
        reasons = [reason.as_json() for reason in answer.reasons] if answer else []
        return {"outcome": "refused", "reasons": reasons}
    if job.plan is None or name not in job.plan.archetypes or result is None:
        return {"outcome": "left-out", "notes": list(job.plan.notes) if job.plan else []}
    placed = {
        "archetype": job.plan.archetypes[name],
        "computeProvider": job.plan.compute[name],
        "result": result["name"],
    }
    match result["status"]:
        case "complete" | "gone":
            return {"outcome": "answered", **placed}
        case "failed":
            own = job.parts.get(name)
            return {"outcome": "failed", **placed, "error": (own.error if own else None) or result.get("error")}
        case _:
            return {"outcome": "under-way", **placed}


def failure(delivery: Delivery) -> DynamosError | None:
    """Give the error of a job that brought nothing; None where at least one result is complete."""
    job = delivery.record
    if delivery.fault is not None:
        return delivery.fault
    if job is None:
        return Broken("the job has no record")
    if complete(delivery):
        return None
    if delivery.gone and job.state in (State.SUCCEEDED, State.PARTIAL):
        return result_gone()
    return error_of(job)


def result_gone() -> NotFound:
    """Give the error for a result that was here once."""
    return NotFound(
        "the result is not kept any more",
        code="result-gone",
        hint="results are kept for a while after their job (settings.resultAge); submit the request again",
    )


def error_of(job: Job) -> DynamosError:
    """Give the error that a job ended with."""
    facts = job.error or next((report.error for report in job.parts.values() if report.error), None)
    if job.state == State.LOST:
        rest = {"code": "lost", **(facts or {}), "kind": JobFailed.code}
        return revive(rest)
    if facts is None:
        return JobFailed(f"the job ended as {job.state}, and no result came", where=job.id)
    error = revive(facts)
    if isinstance(error, Unauthenticated | NotFound | Conflict):  # between units: no business of the caller's
        return revive({**facts, "kind": (TimedOut if facts.get("code") == EXPIRED else JobFailed).code})
    return error


def timings(job: Job, delivery: Delivery | None) -> dict[str, float]:
    """Give milliseconds by stage; `total_ms` is from the request's arrival until every result was here."""
    took = {} if delivery is None or delivery.took is None else {"total_ms": round(delivery.took * 1e3, 3)}
    return {**job.timings, **took}


def summary(job: Job, delivery: Delivery | None) -> dict[str, Any]:
    """Give what is told beside the responses."""
    replaces = {} if job.replaces is None else {"replaces": job.replaces}
    return {
        "state": str(job.state),
        **replaces,
        "results": results(job, delivery),
        "providers": providers(job, delivery),
        "decision": {
            "revision": job.decision.revision,
            "permitted": list(job.decision.permitted),
            "refused": [name for name, answer in job.decision.providers.items() if not answer.permitted],
        },
        "archetypes": dict(job.plan.archetypes) if job.plan else {},
        "notes": list(job.plan.notes) if job.plan else [],
        "timings": timings(job, delivery),
        "links": links(job.id),
    }
