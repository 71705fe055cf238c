#!/usr/bin/env python3
"""Where does the time of a short request go: what does it take to start services that are used only once?"""

from datetime import datetime

from dynamos.experiments import Experiment, Factor, Measure, chains, podtrials, synthetic

ENOUGH = 5  # trials of a runner; fewer cannot tell
SERVICES = ["sql-query", "sql-anonymize", "sql-algorithm"]
STAGES = {
    "edge": "the request reaches the orchestrator",
    "approve": "policy decides",
    "plan": "the chain is planned",
    "grant": "grants are signed, sent, and accepted by the parties",
    "start": "until the last service of the chain is at work",
    "work": "until the last service has ended",
    "clean_up": "until nothing of the chain is left and the job has ended",
    "hand_over": "the result goes to the requestor",
}

experiment = Experiment(
    "job_start",
    "Where does the time of a short request go: what does it take to start services that are used only once?",
    profile="bench",
    factors=[
        Factor("runner", ["request", *chains.RUNNERS, *podtrials.RUNNERS]),
        Factor("rows", [1_000, 30_000], quick=[1_000]),
    ],
    measures=[
        Measure("total", "ms", "all of it", better="less", main=True),
        *(Measure(name, "ms", title, better="less") for name, title in STAGES.items()),
        Measure("first", "ms", "until the first of the result is there", better="less"),
        Measure("unaccounted", "share", "of the total that no stage tells of", better="less"),
    ],
    baseline={"runner": "request"},
    bound="180s",
    typical="0.6s",
    background="""
Upstream starts a Kubernetes Job for every request: 1.70 s on average (1.53 to 2.42) in the thesis of 2023, a third of
the time of a request with `computeToData`; 24 ms of it until the Job was created. A two-step workflow of Argo took its
author 20 s. A fork found in 2026 that its Python service was up after 6.9 s, for imports and polls of one second.

`request` is a whole request whose chain the party's agent runs. The others run the same chain of three services by one
runner alone, with nothing of the middleware: `sandbox` in fresh namespaces (what agents use where they can), `process`
with limits only (what they fall back to), `inline` as threads of one process (tests use it).

Three more run the chain as a pod, one container for each service, in the cluster that the profile's `cluster` or
KUBECONFIG names: `kubernetes-cold` in a pod that is made when the runner is told (what an agent in a cluster does for a
job that nobody foresaw), `kubernetes-warm` in one that has started before and waits (what it does for one that was
foreseen), `kubernetes-job` by a plain Job of Kubernetes, as upstream does it: rows come by the same way, but the chain
has ended when the Job controller tells that the Job is Complete. Where no cluster is named, or its pods are not reached
from where the script runs, these trials are skipped and say so.
""",
    limits=[
        "A runner alone is made for each trial and has run the chain once before it is measured.",
        "Stages are told by the orchestrator, the parties and the requestor, each by its own clock on one machine.",
        "`start` begins when the runner is told, while the grant is still being accepted: they overlap a little.",
        "A pod is told to go at the end; its node clears it away later, and a warm one is replaced meanwhile.",
        "When a pod's services were at work is told as an age, and so is late by what the word takes to come.",
        "A cold pod finds its images on the node: what it takes to pull them is in no figure.",
    ],
)


@experiment.setup("testbed")
def warm(bed, **_):
    of_request(bed, 1_000)  # the first of all finds everything cold, whichever runner the warm-up trial is of


@experiment.trial
def trial(bed, runner, rows):
    if runner == "request":
        return of_request(bed, rows)
    table = f"rows_{rows // 1000}k"
    source = {table: {"path": f"{table}.parquet", "type": "parquet"}}
    options = {"sql-query": {"query": synthetic.query(rows), "tables": source}, "sql-anonymize": {"rules": {}}}
    chain = chains.Chain(SERVICES, bed.file("alpha", table).parent, options)
    if runner in podtrials.RUNNERS:
        took = podtrials.run(bed, runner, chain, [bed.file("alpha", table)])
    else:
        (took,) = chains.run(runner, chain)
    return {
        "total": took.ended * 1e3,
        "start": took.started * 1e3,
        "work": (took.result - took.started) * 1e3,
        "clean_up": (took.ended - took.result) * 1e3,
        "first": took.first * 1e3,
    }


def of_request(bed, rows):
    answer = bed.ask(synthetic.USER, ["alpha"], synthetic.query(rows), archetype="computeToData", anonymize=True)
    if answer.error:
        raise answer.error
    job, usages = answer.job, answer.job["parts"]["alpha"]["usages"]
    began = [moment(usage["started"]) for usage in usages]
    ended = max(start + usage["wallMs"] / 1e3 for start, usage in zip(began, usages, strict=True))
    told = job["timings"]
    stages = {
        "edge": (moment(job["submitted"]) - answer.began) * 1e3,
        "approve": told["decide_ms"],
        "plan": told["plan_ms"],
        "grant": told["queue_ms"] + told["network_ms"] + told["start_ms"],
        "start": max(usage["startMs"] for usage in usages),
        "work": (ended - max(began)) * 1e3,
        "clean_up": (moment(job["ended"]) - ended) * 1e3,
        "hand_over": (answer.seconds - answer.job_seconds) * 1e3,
    }
    total = answer.seconds * 1e3
    return {
        **stages, "total": total, "first": answer.first_batch * 1e3,
        "unaccounted": abs(total - sum(stages.values())) / total,
    }  # fmt: skip


def moment(text):
    return datetime.fromisoformat(text).timestamp()


@experiment.claim("The stages of a request add up to what its requestor waited for, within a quarter")
def adds_up(trials):
    share = trials.where(runner="request").median("unaccounted")
    return (None if share is None else share <= 0.25), f"median {share:.0%} unaccounted" if share is not None else ""


@experiment.claim("The services of a chain are at work within 50 ms, confined as agents confine them")
def starts_soon(trials):
    holds, shown = within(trials, "start", {"request": 50, "sandbox": 50})
    return holds, f"{shown}; upstream: 1,700 ms"


@experiment.claim("In a cluster the first of a result is there within 1 s by a cold pod, and 0.25 s by a warm one")
def streams(trials):
    bounds = {"kubernetes-cold": 1000, "kubernetes-warm": 250}
    return within(trials, "first", bounds)


@experiment.claim("A plain Job is told as ended at least 1 s after its result was there: one must not wait for it")
def told_late(trials):
    some = trials.where(runner="kubernetes-job")
    late = some.median("clean_up")
    shown = f"median {late:.0f} ms later, of {len(some.done)}" if late is not None else "no Job was run"
    return (late >= 1000 if late is not None and len(some.done) >= ENOUGH else None), shown


def within(trials, measure, bounds):
    """Tell whether medians keep within their bounds in ms, by runner; None where any runner has too few."""
    some = {name: trials.where(runner=name) for name in bounds}
    found = {name: each.median(measure) for name, each in some.items() if each.done}
    shown = ", ".join(f"{name}: median {value:.0f} ms of {len(some[name].done)}" for name, value in found.items())
    enough = all(len(each.done) >= ENOUGH for each in some.values())
    return (all(found[name] < bound for name, bound in bounds.items()) if enough else None), shown


if __name__ == "__main__":
    experiment.main()
