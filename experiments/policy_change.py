#!/usr/bin/env python3
"""An agreement changes while requests run: how soon has everything stopped that it forbids, and does anything else?"""

import os
import statistics
import time
from datetime import UTC, datetime, timedelta
from itertools import cycle

from dynamos.experiments import Experiment, Factor, Measure, crowds, synthetic
from dynamos.experiments.amendments import without_user
from dynamos.middleware.clients import BASE

PROVIDER, OTHER_PROVIDER, OTHER = "alpha", "beta", "other@example.org"
ROWS, LONGEST, SOON = 1_000, 120, 1.0  # rows of each; seconds that a trial may take to begin; until an end is due
PAUSES = {20: 5, 100: 20, 200: 40}  # jobs at once: seconds that those sleep that are not forbidden
AT, THROUGH = "computeToData", "dataThroughTtp"
CHANGES = {
    "revoked": ((AT, THROUGH), "no-relation"),
    "archetype": ((AT,), "archetype"),
    "compute provider": ((THROUGH,), "compute-provider"),
    "duty": ((AT, THROUGH), "duty"),
    "end in time": ((AT, THROUGH), "expired"),
}  # under which the jobs run that it forbids, and the code of the reason

experiment = Experiment(
    "policy_change",
    "An agreement changes while requests run: how soon has everything stopped that it forbids, and does anything else?",
    profile="bench",
    factors=[
        Factor("jobs", [20, 100, 200], quick=[20], title="jobs that run; the change forbids three of four"),
        Factor("change", list(CHANGES), quick=["revoked", "end in time"], title="what changes"),
    ],
    measures=[
        Measure("stopped", "ms", "median, from the change until a service was stopped", better="less", main=True),
        Measure("stopped_p99", "ms", "99th percentile, from the change until a service was stopped", better="less"),
        Measure("told", "ms", "median, from the change until a requestor knew", better="less"),
        Measure("told_p99", "ms", "99th percentile, from the change until a requestor knew", better="less"),
        Measure("answered", "ms", "until the change was answered, and in force", better="less"),
        Measure("bytes_after", "B", "of forbidden results that reached somebody", better="less"),
        Measure("forbidden", "count", "jobs that the change forbids"),
        Measure("explained", "yes/no", "each of their requestors was told the right reason"),
        Measure("right", "yes/no", "every other job has plain DuckDB's rows", better="more"),
        Measure("load", "count", "processes that wanted a core in the minute before"),
    ],
    baseline={"jobs": 20, "change": "revoked"},
    quick_repetitions=1,
    warmups=0,
    bound="240s",
    typical="20s",
    background="""
In the original, putting an agreement lists the jobs of each relation and asks the enforcer about them; by its code that
crashes the enforcer on any valid relation (2024). Pods that run are not stopped, and only the next request with the
same job id would see a change, which its own gateway never sends.

Here many requests of two users run at two providers. Those of one user at one provider have given their rows already
and linger: what the API has of them must not get out any more. The agreement of that provider with that user changes,
in one of five ways, so that none of these may go on as it is. When a service was stopped is what its party reports;
the clock starts when the change is sent, or when the relation ends.
""",
    limits=[
        "Requests sleep after their query: that they run costs memory and processes, and hardly any processor time.",
        "All parties, the requestors and the clock are on one machine: nothing travels far.",
        "A service is stopped when its party's runner begins to kill it; its processes may take a moment to go.",
    ],
)  # fmt: skip


@experiment.testbed
def testbed(given):
    there = synthetic.on_sites_of(given)
    settings = there.settings.model_copy(update={"concurrent_jobs": max(PAUSES) + 8, "waiting_jobs": max(PAUSES)})
    return there.model_copy(update={"settings": settings, "admins": {PROVIDER: (synthetic.USER,),
                                                                     OTHER_PROVIDER: (synthetic.USER,)}})  # fmt: skip


@experiment.setup("testbed")
def teach(bed):
    crowds.teach(bed, set(PAUSES.values()))
    kinds = ["sqlDataRequest", *map(crowds.kind_of, {0, *PAUSES.values()})]
    for party in (PROVIDER, OTHER_PROVIDER):
        agreement = agreed(bed, party)
        own = {**agreement["relations"][synthetic.USER], "requestTypes": kinds}
        agree(bed, party, {**agreement, "relations": {synthetic.USER: own, OTHER: own}})


@experiment.trial
def trial(bed, jobs, change):
    ways, code, load = *CHANGES[change], os.getloadavg()[0]
    forbidden = jobs * 3 // 4
    requests = [request(number, forbidden, way, PAUSES[jobs]) for number, way in zip(range(jobs), cycle(ways))]
    before = agreed(bed, PROVIDER)
    try:
        told, (began, answered) = crowds.run(bed, requests, lambda: alter(bed, before, change), within=LONGEST)
    finally:
        agree(bed, PROVIDER, before)
    struck, others = told[:forbidden], list(zip(requests, told, strict=True))[forbidden:]
    stops = sorted((moment - began) * 1e3 for each in struck for moment in each.stops())
    heard = sorted((each.at - began) * 1e3 for each in struck)
    bed.sample("stopped_ms", *stops)
    truth = {party: int(synthetic.plain(bed, [party], ROWS).digest, 16) for party in (PROVIDER, OTHER_PROVIDER)}
    return {
        "stopped": statistics.median(stops),
        "stopped_p99": p99(stops),
        "told": statistics.median(heard),
        "told_p99": p99(heard),
        "answered": answered * 1e3,
        "bytes_after": sum(each.bytes for each in struck),
        "forbidden": forbidden,
        "explained": all(each.code == "revoked" and code in reasons(each) for each in struck),
        "right": all(each.digest == truth[asked.provider] for asked, each in others),
        "load": load,
    }


def request(number, forbidden, way, pause):
    """Give one request: the first ones are those that the change forbids; of the others, half are somebody else's."""
    job = f"crowd-{time.time_ns():x}-{number}"
    query = synthetic.query(ROWS)
    if number < forbidden:
        return crowds.Request(job, synthetic.USER, PROVIDER, query, way)
    if number % 2:
        return crowds.Request(job, OTHER, PROVIDER, query, way, pause)
    return crowds.Request(job, synthetic.USER, OTHER_PROVIDER, query, way, pause)


def alter(bed, before, change):
    """Change the agreement, and give when that began to count, and how long it took until it was answered."""
    own, began = before["relations"][synthetic.USER], time.time()
    ends = datetime.now(UTC) + timedelta(seconds=SOON)
    members = {
        "archetype": {"allowedArchetypes": [THROUGH]},
        "compute provider": {"allowedComputeProviders": []},
        "duty": {"duties": ["sql-anonymize"]},
        "end in time": {"validUntil": ends.isoformat()},
    }
    if change == "revoked":
        after = without_user(synthetic.USER)(before)
    else:
        after = {**before, "relations": {**before["relations"], synthetic.USER: {**own, **members[change]}}}
    clock = time.perf_counter()
    agree(bed, PROVIDER, after)
    answered = time.perf_counter() - clock
    return (ends.timestamp() if change == "end in time" else began), answered


def agreed(bed, party):
    with bed.api(synthetic.USER) as client:
        return client.get(f"{BASE}/policyEnforcer/agreements/{party}")


def agree(bed, party, agreement):
    with bed.api(synthetic.USER) as client:
        client.call("PUT", f"{BASE}/policyEnforcer/agreements/{party}", body=agreement)


def reasons(told):
    return [reason["code"] for reason in (told.record.get("error") or {}).get("reasons", ())]


def p99(values):
    return statistics.quantiles(values, n=100, method="inclusive")[98]


@experiment.claim("No byte of a result that a change forbids reaches anybody after it")
def no_byte(trials):
    return sum(trials.values("bytes_after")) == 0, f"{sum(trials.values('forbidden')):.0f} jobs that had rows to give"


@experiment.claim("Every requestor of a forbidden job is told why, and every other job is answered rightly")
def told_and_right(trials):
    bad = [*trials.not_all("explained"), *trials.not_all("right")]
    return trials.all("explained") and trials.all("right"), "; ".join(bad)


@experiment.claim("Of the services that a change forbids, 99 of 100 are stopped in less than a second, at every party")
def within_a_second(trials):
    took = list(zip(trials.values("stopped_p99"), trials.values("load"), strict=True))
    if not took:
        return None, ""
    (latest, busy), late = max(took), sum(each >= 1_000 for each, _ in took)
    shown = f"the slowest trial: {latest:.0f} ms, on a machine with load {busy:.0f}; {late} of {len(took)} took longer"
    return not late, shown


if __name__ == "__main__":
    experiment.main()
