#!/usr/bin/env python3
"""What does it gain to adapt while requests run: who notices, decides and moves how soon, and what does that save?"""

import os
import signal
import statistics
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from dynamos.experiments import Experiment, Factor, Measure, synthetic
from dynamos.experiments.amendments import Amendment
from dynamos.middleware.clients import BASE
from dynamos.model.networks import Change, Fault

PROVIDER, PLACES = "alpha", ("beta", "gamma")  # the usual third party first
ROWS, SERIES, BEFORE, PROBES, TRIES = 100_000, 16, 4, 3, 3
DEADLINE, INFINITE = "10s", float("inf")
SLOW = "20mbit"  # of 200 on the profile `city`: what a slow link still lets through
LOAD, CAPACITY = 10, 4  # requests at once that the struck third party has to do for others; what it takes at once
HEAVY = "SELECT count(*) AS n FROM rows_30k AS a JOIN rows_30k AS b ON sin(a.amount * b.amount) > 2"
PLANNERS = {"fixed": {"computeProvider": PLACES[0]}, "weights": {}, "load-threshold": {}, "cost-model": {},
            "bandit": {"seed": 1}}  # fmt: skip
GAP, SLOW_GAP = 0.4, 1.5  # seconds from one request to the next, answered or not; and at a slow link
MOVING = ("load-threshold", "cost-model")
LEARNING = ("cost-model", "bandit")

experiment = Experiment(
    "adaptation",
    "What does it gain to adapt while requests run: who notices, decides and moves how soon, and what does that save?",
    profile="bench",
    factors=[
        Factor("planner", list(PLANNERS), quick=["fixed", *MOVING], changes="testbed"),
        Factor("happens", ["load step", "slow link", "third party leaves", "agreement change"], quick=["load step"]),
    ],
    measures=[
        Measure("total", "s", f"that requestors waited for {SERIES} answers, all together", better="less", main=True),
        Measure("noticed", "s", "from what happens until a symptom was there, or an option less", better="less"),
        Measure("decided", "s", "from what happens until a request was planned elsewhere", better="less"),
        Measure("moved", "s", "from what happens until an answer came from elsewhere", better="less"),
        Measure("moves", "count", "changes of the computing party since it happened"),
        Measure("compressed", "count", "of the requests whose rows went compressed"),
        Measure("regret", "s", "beyond the best choice in hindsight", better="less"),
        Measure("again", "count", "requests that had to be asked again", better="less"),
        Measure("lost", "count", f"requests without an answer after {TRIES} tries", better="less"),
        Measure("right", "yes/no", "every answer has plain DuckDB's rows", better="more"),
        Measure("load", "count", "processes that wanted a core in the minute before"),
    ],
    baseline={"planner": "fixed"},
    quick_repetitions=1,
    warmups=0,
    bound="180s",
    typical="12s",
    background=f"""
Upstream's thesis (2023) designed a switch of the archetype where a party uses more than 80 % of its processor or
memory, and left it to others to build. Here rows of one provider go to one of two permitted third parties. After
{BEFORE} of {SERIES} requests something happens to the one that computes: others ask {LOAD} heavy questions of it where
it takes {CAPACITY} at once; the link to it slows down, to {SLOW}; it falls silent, and is back afterwards; or the
provider's agreement names it no more.

`load-threshold` knows places under load, and no links. Whatever the planner, rows go compressed where a link was
found to be slow.

The best choice in hindsight is made of requests that are pinned to each third party: before anything happens, and after
the series, while it still does. Regret is what requestors waited beyond the faster of them for every request.
""",
    limits=[
        "Each third party has one core of this machine for itself, and shares it with whatever else this machine does.",
        "Planners know both third parties from some requests at each, made before the series.",
        "What a pinned request takes varies too: a small regret, also one below zero, is noise.",
        f"A planner is heard when the next request is planned: after {GAP:g} s, or {SLOW_GAP:g} s at a slow link.",
        "A link is slowed down only on a profile with networks, as `city`; no party has a core for itself there.",
    ],
)  # fmt: skip


@experiment.testbed
def testbed(given, planner):
    there = synthetic.on_sites_of(given)
    said = {"planner": planner, "planner_options": PLANNERS[planner], "party_capacity": CAPACITY}
    return there.model_copy(
        update={"settings": there.settings.model_copy(update=said), "admins": {PROVIDER: (synthetic.USER,)}}
    )


@experiment.setup("testbed")
def permit(bed, **_):
    path = f"{BASE}/policyEnforcer/agreements/{PROVIDER}"
    with bed.api(synthetic.USER) as api:
        api.call("PUT", path, body=with_places(PLACES)(api.get(path)))


@experiment.trial
def trial(bed, happens, **_):
    load = os.getloadavg()[0]
    if bed.profile.driver == "processes":
        for place, party in enumerate(PLACES):
            own_core(bed, party, place)
    before = [probe(bed, place) for place in reversed(PLACES)]
    answers = [ask(bed) for _ in range(BEFORE)]
    if answers[-1].error:
        raise answers[-1].error
    struck = place_of(answers[-1])
    asked = len(bed.answers)
    with happening(bed, happens, struck) as moment:
        gap = SLOW_GAP if happens == "slow link" else GAP
        answers += bed.together(lambda _: insist(bed), SERIES - BEFORE, gap=gap)
        again = len(bed.answers) - asked - (SERIES - BEFORE)
        after = [probe(bed, place) for place in PLACES]
    best = BEFORE * min(before) + (SERIES - BEFORE) * min(after)
    truth = synthetic.plain(bed, [PROVIDER], ROWS).digest
    total = sum(answer.seconds for answer in answers)
    where = [place_of(answer) for answer in answers[BEFORE - 1 :] if answer.ok]
    bed.sample("total", *(answer.seconds for answer in answers))
    return {
        "total": total,
        **told(bed, struck, moment, {answer.job.get("id") for answer in answers}),
        "moved": min((answer.began + answer.seconds - moment for answer in answers[BEFORE:]
                      if answer.ok and place_of(answer) != struck), default=None),
        "moves": sum(one != other for one, other in pairwise(where)),
        "compressed": sum(bool(answer.job["plan"]["compression"]) for answer in answers if answer.ok),
        "regret": total - best if best < INFINITE else None,
        "again": again,
        "lost": sum(not answer.ok for answer in answers),
        "right": all(answer.digest == truth for answer in answers if answer.ok),
        "load": load,
    }  # fmt: skip


def ask(bed, place=""):
    return bed.ask(synthetic.USER, [PROVIDER], synthetic.query(ROWS), archetype="dataThroughTtp", compute=place,
                   deadline=DEADLINE)  # fmt: skip


def insist(bed):
    """Ask, and ask again some times where there is no answer. The seconds are from the first time on."""
    answer = first = ask(bed)
    for _ in range(TRIES - 1):
        answer = answer if answer.ok else ask(bed)
    return replace(answer, began=first.began, seconds=answer.began + answer.seconds - first.began)


def probe(bed, place):
    """Give what a request takes at a third party now; no end where it cannot be had there."""
    took = [answer.seconds if answer.ok else INFINITE for answer in (ask(bed, place) for _ in range(PROBES))]
    return statistics.median(took)


def place_of(answer):
    return answer.job["providers"][PROVIDER]["computeProvider"]


@contextmanager
def happening(bed, happens, struck):
    """Let it happen to a third party, give when, and end it."""
    moment = time.time()
    if happens == "load step":
        body = {"type": "sqlDataRequest", "user": {"userName": synthetic.USER}, "providers": [struck], "query": HEAVY,
                "archetype": "computeToData"}  # fmt: skip
        jobs = []
        with bed.api(synthetic.USER) as api:
            try:
                jobs += (api.call("POST", f"{BASE}/jobs", body=body).json()["id"] for _ in range(LOAD))
                yield moment
            finally:
                for job in jobs:
                    api.call("DELETE", f"{BASE}/jobs/{job}")
    elif happens == "third party leaves":
        bed.kill(struck, signal.SIGSTOP)  # killed, it would be back within a second
        try:
            yield moment
        finally:
            bed.kill(struck, signal.SIGCONT)
    else:
        with bed.happening([changed(bed, happens, struck)]):
            yield moment


def changed(bed, happens, struck):
    if happens == "agreement change":
        others = [place for place in PLACES if place != struck]
        return Amendment("0s", PROVIDER, with_places(others), f"{struck} computes no more")
    sites = bed.profile.site_of(PROVIDER), bed.profile.site_of(struck)
    if bed.profile.driver != "namespaces" or sites[0] == sites[1]:
        bed.skip(f"no link of this testbed leads from {PROVIDER} to {struck}")
    return Fault(at="0s", action="change", link=bed.profile.link("-".join(sites)).name, change=Change(rate=SLOW))


def with_places(places):
    """Give what has rows of the provider computed at just these parties."""

    def edit(agreement):
        relation = {**agreement["relations"][synthetic.USER], "allowedComputeProviders": list(places)}
        return {**agreement, "computeProviders": list(places), "relations": {synthetic.USER: relation}}

    return edit


def told(bed, struck, moment, jobs):
    """Give when a decision first knew of it, by a symptom or an option less, and when one was made elsewhere."""
    with bed.api(synthetic.USER) as api:
        found = api.get(f"{BASE}/adaptation/decisions", limit=10 * SERIES)
    noticed, elsewhere = [], []
    for each in found:
        if each["job"] not in jobs or each["at"] < moment:
            continue
        situation = each["situation"]
        symptoms = [symptom for symptom in situation["symptoms"] if symptom["since"] >= moment]
        noticed += [symptom["since"] for symptom in symptoms if struck in symptom["subject"]]
        if all(option["compute"][PROVIDER] != struck for option in situation["options"]):
            noticed.append(each["at"])
        if each["judgement"]["option"]["compute"][PROVIDER] != struck:
            elsewhere.append(each["at"])
    first = {"noticed": min(noticed, default=None), "decided": min(elsewhere, default=None)}
    return {name: at and at - moment for name, at in first.items()}


def own_core(bed, party, number):
    """Have a party's processes run on one core, so that what it has to do slows itself down and not the others."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < len(PLACES):
        bed.skip("needs a core for each third party")
    rest = [bed.unit(party).pid]
    while rest:
        for task in Path(f"/proc/{rest.pop()}/task").glob("*"):
            with suppress(OSError):
                os.sched_setaffinity(int(task.name), {cores[number]})
                rest += map(int, (task / "children").read_text().split())


@experiment.claim("At a load step, those that adapt beat fixed in total time, beyond noise")
def faster(trials):
    return beat_fixed(trials.where(happens="load step"), MOVING)


@experiment.claim("Where a link slows down, those that learn beat fixed in total time, beyond noise")
def faster_ways(trials):
    return beat_fixed(trials.where(happens="slow link"), LEARNING)


def beat_fixed(trials, planners):
    times = {name: trials.where(planner=name).values("total") for name in ("fixed", *planners)}
    shown = ", ".join(f"{name} {statistics.median(some):.1f} s" for name, some in times.items() if some)
    if min(map(len, times.values())) < 4:  # fewer cannot tell: of four and four, one order in 70 is this one by chance
        return None, f"{shown}; too few to tell" if shown else "not measured"
    return all(max(times[name]) < min(times["fixed"]) for name in planners), f"{shown}; every one beside every one"


@experiment.claim("They have moved 2 s after a load step")
def soon(trials):
    loaded = trials.where(happens="load step", planner=MOVING)
    took = loaded.values("decided")
    if not loaded.done:
        return None, "not measured"
    return len(took) == len(loaded.done) and max(took) < 2, f"the latest after {max(took, default=0):.2f} s"


@experiment.claim("They move once, and stay: no oscillation")
def steady(trials):
    moves = trials.where(happens="load step", planner=MOVING).values("moves")
    return (all(count == 1 for count in moves) if moves else None), f"{max(moves, default=0):.0f} moves at most"


@experiment.claim("No request is lost, and none has a wrong row")
def whole(trials):
    lost, again = sum(trials.values("lost")), sum(trials.values("again"))
    shown = f"{SERIES * len(trials.done)} requests, {lost:.0f} lost, {again:.0f} asked again"
    return lost == 0 and trials.all("right"), shown


if __name__ == "__main__":
    experiment.main()
