#!/usr/bin/env python3
"""What becomes of a request when a link or a part of the system fails under it, and how soon is all well again?"""

import threading
import time
from contextlib import contextmanager, nullcontext
from datetime import datetime

from dynamos.experiments import Experiment, Factor, Measure, fates, synthetic
from dynamos.model.networks import Fault

ROWS, PROVIDERS = 1_000_000, ("alpha", "beta")
AFTER = 2.0  # seconds after the request was sent: its job runs, and most of its rows are still to come
DEADLINE, PATIENCE, RECOVERY = 20, 45, 60  # seconds: of the job; of the requestor; until all must be well again
FARTHEST = "beta"  # its rows take longest: it is the provider that links and kills strike
KILLED = {"killed agent": FARTHEST, "killed third party": "hub", "killed hub": "bus"}
LINKS = {"cut": "cut", "black hole": "silence"}
BOTH = ["dataThroughTtp", "computeToData"]
FAULTS = dict.fromkeys(("none", *LINKS, *KILLED), BOTH) | {"killed third party": BOTH[:1]}  # else it has no part

experiment = Experiment(
    "faults",
    "What becomes of a request when a link or a part of the system fails under it, and how soon is all well again?",
    profile="three-sites",
    factors=[
        Factor("fault", list(FAULTS), quick=["cut", "killed agent"]),
        Factor("archetype", FAULTS, within="fault", quick=["dataThroughTtp"]),
    ],
    measures=[
        Measure("outcome", "word", "what came of the request", main=True),
        Measure("told", "s", "from the fault until the requestor knew", better="less"),
        Measure("recovered", "s", "from the mending until a request was answered", better="less"),
        Measure("well", "yes/no", "a later request was answered in time", better="more"),
        Measure("right", "yes/no", "rows that came are plain DuckDB's", better="more"),
        Measure("hit", "yes/no", "what the fault struck was at work for the request"),
        Measure("said", "word", "what the requestor was told"),
    ],
    baseline={"fault": "none"},
    quick_repetitions=1,
    warmups=0,
    bound="180s",
    typical="12s",
    background="""
Upstream's own tests of June 2025 found that through a third party 57 of 110 calls brought data, and never both data
sets where two were asked for; after one timeout of 30 s every following call came back empty, with HTTP status 200.
What a requestor needs of a system that fails is a right answer or none, a reason soon, and that it recovers by itself.

A request for rows of two providers is sent, and 2 s later one thing happens: the link between a provider's site and
the control site is `cut` or loses every packet in silence (`black hole`) until the answer is there; or SIGKILL ends the
provider's agent, the third party's, or the hub of the bus, which their supervisor starts again.
""",
    limits=[
        "One fault at a time, once in a request, at a fixed moment.",
        "A request takes some seconds over these links when all is well: `recovered` has one such in it.",
        "Links are mended when the requestor has an answer; units are started again at once.",
    ],
)  # fmt: skip


@experiment.testbed
def testbed(given):
    return synthetic.on_sites_of(given)


@experiment.setup("testbed")
def warm(bed):
    ask(bed, "dataThroughTtp", 1_000)


@experiment.trial
def trial(bed, fault, archetype):
    struck = []
    sent = time.perf_counter()
    with disturbed(bed, fault, struck):
        answer = fates.within(PATIENCE, lambda: ask(bed, archetype, ROWS))
        known = time.perf_counter()
    mended = struck[0] if fault in KILLED and struck else time.perf_counter()
    moment = sent + AFTER
    recovered = None
    while recovered is None and time.perf_counter() < mended + RECOVERY:
        later = fates.within(PATIENCE, lambda: ask(bed, "dataThroughTtp", 1_000))
        if fates.of(later) == fates.ANSWERED and right(bed, later, 1_000):
            recovered = time.perf_counter() - mended
    return {
        "outcome": fates.of(answer),
        "told": known - moment if fault != "none" else None,
        "recovered": recovered,
        "well": recovered is not None,
        "right": right(bed, answer, ROWS) if answer and answer.results else None,
        "hit": hit(answer, KILLED.get(fault, FARTHEST)) if fault != "none" else None,
        "said": fates.told(answer),
    }


def ask(bed, archetype, rows):
    return bed.ask(
        synthetic.USER, PROVIDERS, synthetic.query(rows), archetype=archetype,
        aggregate=archetype == "dataThroughTtp", deadline=f"{DEADLINE}s", keep=False,
    )  # fmt: skip


@contextmanager
def disturbed(bed, fault, struck):
    """Let the fault happen after a while, and mend at the end what does not mend itself."""

    def strike():
        struck.append(time.perf_counter())
        bed.kill(KILLED[fault])

    timer = threading.Timer(AFTER, strike)
    if fault in KILLED:
        timer.start()
    link = bed.profile.link(f"{bed.profile.site_of(FARTHEST)}-{bed.profile.control_site}").name
    cut = [Fault(at=f"{AFTER}s", action=LINKS[fault], link=link)] if fault in LINKS else []
    with bed.happening(cut) if cut else nullcontext():
        yield
    timer.cancel()


def right(bed, answer, rows):
    """Tell whether every result that came has exactly its providers' rows."""
    return all(each.digest == synthetic.plain(bed, each.providers, rows).digest for each in answer.results)


def hit(answer, struck):
    """Tell whether it cost the request something, or a step at what was struck (at any party: the bus) ended later."""
    if fates.of(answer) != fates.ANSWERED:
        return True
    parts = {party: part for party, part in answer.job["parts"].items() if struck in (party, "bus")}
    ends = [
        datetime.fromisoformat(usage["started"]).timestamp() + usage["wallMs"] / 1e3
        for part in parts.values() for usage in part.get("usages", ())
    ]  # fmt: skip
    return max(ends, default=0.0) > answer.began + AFTER


@experiment.claim("No row that comes is ever wrong, and none is missing or doubled in a result: right, or absent")
def never_wrong(trials):
    compared = len(trials.values("right"))
    return trials.all("right"), "; ".join(trials.not_all("right")) or f"{compared} answers with rows compared"


@experiment.claim("Every requestor learns what became of the request: none hangs, none fails without a reason")
def clear(trials):
    bad = [each for each in trials.readings("outcome") if each in fates.BAD]
    slowest = max(trials.values("told"), default=0.0)
    return not bad, f"{len(trials.done) - len(bad)} of {len(trials.done)}, the latest {slowest:.1f} s after the fault"


@experiment.claim(f"All is well again by itself: a later request is answered within {RECOVERY} s")
def recovers(trials):
    slowest = max(trials.values("recovered"), default=0.0)
    return trials.all("well"), "; ".join(trials.not_all("well")) or f"the latest after {slowest:.1f} s"


if __name__ == "__main__":
    experiment.main()
