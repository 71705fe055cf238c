#!/usr/bin/env python3
"""With how many parties and requests do control traffic, decisions and the knowledge base saturate?"""

import resource
import statistics
import time

from dynamos.adaptation.simulator import recordings
from dynamos.adaptation.simulator.calibration import calibrate
from dynamos.adaptation.simulator.costs import BUS_CORES
from dynamos.adaptation.simulator.minds import minded, plain
from dynamos.adaptation.simulator.scenes import invented
from dynamos.adaptation.simulator.simulations import simulate
from dynamos.adaptation.simulator.traces import drawn
from dynamos.experiments import Experiment, Factor, Measure

PLANNERS = ["weights", "fixed", "load-threshold", "cost-model", "bandit"]
MILLION = 1_000_000
BUSY = 0.9
"""What works more than this share of its time keeps up with nothing that comes at random."""

experiment = Experiment(
    "scale_simulated",
    "With how many parties and requests do control traffic, decisions and the knowledge base saturate?",
    needs="nothing",
    factors=[
        Factor("planner", PLANNERS, quick=["weights", "cost-model"]),
        Factor("parties", [10, 100, 1_000, 10_000], quick=[10, 1_000]),
        Factor("rate", [10, 30, 100], quick=[10, 30], unit="1/s", title="requests a second"),
        Factor("requests", [2_000]),
        Factor("seed", [1, 2, 3], quick=[1]),
        Factor("million", [False, True], quick=[False], title="a million requests",
               when={"planner": "weights", "parties": (1_000, 10_000), "rate": 30, "seed": 1}),
    ],
    measures=[
        Measure("p50", "s", "median, from a request to its answer", better="less"),
        Measure("p99", "s", "99th percentile, from a request to its answer", better="less", main=True),
        Measure("answered", "share", "of the requests", better="more"),
        Measure("ended", "yes/no", "every request ended in one way"),
        Measure("messages", "1/s", "control messages", better="less"),
        Measure("decisions", "1/s", "decisions of the orchestrator and of agents"),
        Measure("writes", "1/s", "writes to the knowledge base and its logs", better="less"),
        Measure("orchestrator", "share", "of its time that the orchestrator has work for", better="less"),
        Measure("bus", "share", "of its time that the bus has work for", better="less"),
        Measure("api", "share", "of its time that the API has work for", better="less"),
        Measure("heard", "share", "of the orchestrator's time that renewals of presences take", better="less"),
        Measure("busiest", "word", "what saturates first"),
        Measure("sustained", "1/s", "requests at which that works all of its time", better="more"),
        Measure("regret", "s", "longer than with the best pick in hindsight", better="less"),
        Measure("oscillations", "count", "picks that came back within 10 s", better="less"),
        Measure("took", "s", "of processor time to simulate", better="less"),
        Measure("peak", "MiB", "peak of memory so far", better="less"),
        Measure("error", "%", "median deviation of recorded requests from simulated ones", better="less"),
        Measure("error_high", "%", "the upper end of its 95 % interval", better="less"),
        Measure("noise", "%", "the same from the median of those that were asked just alike"),
    ],
    baseline={"planner": "weights"},
    repetitions=1,
    quick_repetitions=1,
    bound="30m",
    typical="10s",
    background="""
No machine holds thousands of sites. The simulator has their queues, links, control messages and heartbeats, and the
planners of the running system themselves; what things cost is fitted to one half of recorded requests, and how well the
other half is predicted is a measure here.

Others have not told how far the original's control plane goes. It keeps one queue and one key for each job and party in
RabbitMQ and etcd, and asks its enforcer over two more; its authors ran three parties.
""",
    limits=[
        "One orchestrator, one API and one server of the bus: several of each share the requests, not the heartbeats.",
        "Costs are those of two cores of a virtual machine; of the bus and of renewals they were measured apart.",
        "Rows move after they were worked on, not while; what is fitted makes up for it where it was recorded.",
        "That of the API includes that experiments read the traces of their requests, which others seldom do.",
        "Seeds stand for repetitions: the same seed gives the same, so that every cell is made once.",
        "What the control plane has not brought on after 60 s fails: longer times than that are not seen.",
    ],
)  # fmt: skip


@experiment.trial
def trial(bed, planner, parties, rate, requests, seed, million):
    many = MILLION if million else requests
    calibration = calibrate(recordings.ours(), seed=seed)
    scene, costs = invented(parties, seed=seed), calibration.apart
    began = time.process_time()
    make = plain if million else minded(planner)
    found = simulate(scene, drawn(scene, many, rate, seed=seed), make=make, costs=costs, seed=seed, expected=many)
    took = time.process_time() - began
    counts, busiest = found.counts, max(found.control, key=found.control.get)
    heard = parties * costs.heard.of(parties)
    renewed = parties * (costs.write + 2 * costs.message) / BUS_CORES
    fixed = {"orchestrator": heard, "bus": renewed, "api": heard}[busiest]
    each = max(1e-9, (found.control[busiest] - fixed) / found.rate(counts.ended))
    bed.sample("error", *calibration.errors)
    return {
        "p50": found.latency.quantile(0.5),
        "p99": found.latency.quantile(0.99),
        "answered": counts.completed / counts.arrived,
        "ended": counts.ended == counts.arrived == many,
        "messages": found.rate(counts.messages),
        "decisions": found.rate(counts.decisions),
        "writes": found.rate(counts.writes),
        **found.control,
        "heard": heard,
        "busiest": busiest,
        "sustained": max(0.0, (1 - fixed) / each),
        "regret": found.regret.mean,
        "oscillations": found.oscillations,
        "took": took,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "error": calibration.error,
        "error_high": calibration.high,
        "noise": calibration.noise,
    }


@experiment.claim("Every request ends in one way: answered, refused, turned away or failed")
def ended(trials):
    return trials.all("ended"), "; ".join(trials.not_all("ended")) or f"{len(trials.done)} runs"


@experiment.claim("One control plane keeps up with thirty requests a second of up to 1,000 parties")
def sustained(trials):
    found, shown = [], []
    for parties in trials.levels("parties"):
        some = trials.where(parties=parties)
        names = ", ".join(sorted(set(some.readings("busiest"))))
        found += [some.median("sustained") > 30] if parties <= 1_000 else []
        shown.append(f"{parties:,} parties: {some.median('sustained'):.0f} a second, then the {names}")
    return (all(found) if found else None), "; ".join(shown)


@experiment.claim("Renewals of presences take less than a fifth of the orchestrator for 1,000 parties")
def heartbeats(trials):
    shares = {parties: trials.where(parties=parties).median("heard") for parties in trials.levels("parties")}
    shown = "; ".join(f"{parties:,} parties: {share:.1%}" for parties, share in shares.items())
    return (shares[1_000] < 0.2 if 1_000 in shares else None), shown


@experiment.claim("Writes to the knowledge base grow by one a second with each party, and no more")
def writes(trials):
    levels, found = trials.levels("parties"), []
    if len(levels) < 2:
        return None, "one number of parties"
    most, fewest = (trials.where(parties=level) for level in (levels[-1], levels[0]))
    for many, few in most.where(rate=10).pairs(fewest.where(rate=10), "writes", but=("parties",)):
        found.append((many - few) / (levels[-1] - levels[0]))
    if not found:
        return None, "no pairs"
    return 0.9 < statistics.median(found) < 1.1, f"{statistics.median(found):.2f} a second for each party"


@experiment.claim("Ten requests a second are answered by 1,000 parties with everything below nine tenths busy")
def keeps_up(trials):
    some = trials.where(parties=1_000, rate=10)
    busy = [some.median(name) for name in ("api", "orchestrator", "bus")]
    if None in busy:
        return None, "not simulated"
    return max(busy) < BUSY and some.median("answered") == 1, f"the busiest works {max(busy):.0%} of its time"


@experiment.claim("A million requests to 10,000 parties are simulated within ten minutes of processor time and 1 GiB")
def bounded(trials):
    some = trials.where(million=True)
    if some.median("took") is None:
        return None, "not simulated"
    shown = [
        f"{parties:,} parties: {some.where(parties=parties).median('took'):.0f} s" for parties in some.levels("parties")
    ]
    took, peak = max(some.values("took")), max(some.values("peak"))
    return took < 600 and peak < 1024, f"{'; '.join(shown)}; {peak:.0f} MiB at most"


@experiment.claim("Recorded requests are predicted as well as by the median of those that were asked just alike")
def calibrated(trials):
    error, high, noise = (trials.median(name) for name in ("error", "error_high", "noise"))
    if error is None:
        return None, "not simulated"
    return error <= noise, f"off by {error:.0f} % (95 % interval up to {high:.0f} %), beside {noise:.0f} %"


if __name__ == "__main__":
    experiment.main()
