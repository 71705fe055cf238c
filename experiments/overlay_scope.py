#!/usr/bin/env python3
"""What does it cost to give every request a network of its own, beside one that all share, and what does it buy?

The networks are laid alone, without requests of DYNAMOS around them, so that the steps are just those of the paper
that asked first, each timed apart. The hands are those of DYNAMOS: the overlays' drivers, the containers, and the rules
that open the ways of a plan and no others.
"""

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from dynamos.experiments import Experiment, Factor, Measure, traffic, weaves
from dynamos.model.overheads import TRAITS
from dynamos.testbed.overlays.registry import drivers

HUB = "registry"
FLOWS = {"A": [("united", HUB)], "B": [("jetblue", HUB)], "A+B": [("united", HUB), ("jetblue", HUB)]}
PARTIES = {name: {party for edge in edges for party in edge} for name, edges in FLOWS.items()}
GROUPS = {"operations": ("united", "jetblue", "weather", HUB), "safety": ("delta", "safety-board")}
TRIED, PATIENCE = 2, 0.7
"""So many requests of a bunch are in the proof, and so many seconds a try may take where links have no delay."""
CROWD = 5

experiment = Experiment(
    "overlay_scope",
    "What does it cost to give every request a network of its own, beside one that all share, and what does it buy?",
    factors=[
        Factor("scope", ["marketplace", "group", "request"], title="who shares a network"),
        Factor("driver", list(drivers()), quick=["none", "wireguard"]),
        Factor("flows", list(FLOWS), quick=["A+B"], title="data-flow graph"),
        Factor("requests", [1, 2, 5, 10, 20, 50], quick=[2], title="concurrent requests"),
        Factor("megabytes", [10], unit="MB", title="moved along each edge"),
        Factor("gap", [0.0], unit="s", title="between the starts of requests"),
    ],
    measures=[
        Measure("makespan", "s", "from the first request to the end of the last transfer", "less", main=True),
        Measure("total", "s", "one request until its transfers have ended, median", "less"),
        Measure("standing", "ms", "set-up of the network that stays, once", "less"),
        Measure("overlay", "ms", "set-up of a request's own overlay, median", "less"),
        Measure("containers", "ms", "set-up of a request's containers and programs, median", "less"),
        Measure("ways", "ms", "opening the ways of a request, median", "less"),
        Measure("first", "ms", "until the first byte had come back, median", "less"),
        Measure("transfer", "s", "all transfers of a request, median", "less"),
        Measure("goodput", "Mbit/s", "of all requests together, while they transferred", "more"),
        Measure("removal", "ms", "taking a network away and seeing that nothing is left, median", "less"),
        Measure("leaks", "count", "tries that got through against the policy", "less"),
        Measure("blocked", "count", "tries that policy lets through and that did not get there", "less"),
        Measure("tries", "count", "tries of the proof"),
        Measure("exposed", "count", "containers of nobody in the request that its own answer to", "less"),
    ],
    profile="three-sites",
    needs="networks",
    repetitions=3,
    quick_repetitions=1,
    baseline={"driver": "none"},
    bound="10m",
    typical="5s",
    background="""
Shakeri, Veen and Grosso (*Evaluation of Container Overlays for Secure Data Sharing*, LCN 2020) compared one overlay for
a whole marketplace, one for each group, and one for each request. Their published scripts start up to 50 requests, 1 s
apart, of the graphs A, B and A+B; each makes an overlay and a container for every party, moves 5 GB along each edge,
and removes both. They write down set-up times, transfers, and the makespan of the bunch, to the second, between two
hosts of one campus; there is no baseline without an overlay and no proof of isolation. Here a monotonic clock tells the
times, driver `none` (the same containers, routed, with the same rules) is the baseline, and every trial tries who
reaches whom. `--set requests=50 --set gap=1 --set megabytes=5000` repeats their amounts.
""",
    limits=[
        "All sites are on one machine, and links have no delay: transfers, daemons and proofs share its cores.",
        "Networks and traffic only: no request is decided, planned or computed. `job_start` measures those.",
        "What a marketplace or a group shares stands before the first request: it is told apart, not in the makespan.",
        "Requests that share a network share the parties' own containers too, as in DYNAMOS.",
        "The networks of a bunch stay until its last transfer has ended; removal is not in the makespan.",
        "Who is exposed is told by pings, the one thing that the rules let through; a proxy (mtls) carries none.",
        "The proof tries two requests of a bunch, not all, after the transfers, while their ways are open.",
    ],
)


@experiment.testbed
def hall(profile):
    return weaves.bare(profile, delays=False)


@experiment.trial
def trial(bed, scope, driver, flows, requests, megabytes, gap):
    subject, edges = bed.subject, FLOWS[flows]
    if lacks := weaves.lacking(subject, driver):
        bed.skip(lacks)
    with ExitStack() as stack:
        known = {} if scope == "request" else weaves.standing(subject, driver, GROUPS if scope == "group" else None)
        stay = [stack.enter_context(weaves.laid(subject, overlay)) for overlay in known.values()]
        shared = next((weave for weave in stay if HUB in weave.members), None)
        for weave in stay:
            weave.close_ways()
        work = [Request(subject, driver, edges, number, shared) for number in range(requests)]
        stack.callback(lambda: bed.together(lambda number: work[number].stack.close(), requests))
        with traffic.listening([shared.host(HUB)] if shared else []):
            began = time.perf_counter()
            bed.together(lambda number: work[number].go(megabytes), requests, gap=gap)
        bed.together(lambda number: work[number].listener.close(), requests)
        live = stay or [each.weave for each in work[:TRIED]]
        ways = {weave.overlay.name: edges for weave in live if HUB in weave.members}
        proof = weaves.proved(subject, live, ways, patience=PATIENCE)
    own = {member.container.name for party, member in work[0].weave.members.items() if party in PARTIES[flows]}
    strangers = {cell.source for cell in proof.cells if cell.observed and cell.target in own and cell.source not in own}
    of = {name: statistics.median(each.took[name] for each in work) for name in work[0].took}
    bed.sample("total", *(each.took["total"] for each in work))
    ended = max(each.ended for each in work)
    return {
        "makespan": ended - began, "total": of["total"], "transfer": of["transfer"], "first": of["first"] * 1000,
        "ways": of["ways"] * 1000,
        "standing": sum(weave.containers + weave.setup for weave in stay) * 1000 if stay else None,
        "overlay": None if stay else of["overlay"] * 1000,
        "containers": None if stay else of["containers"] * 1000,
        "removal": statistics.median(weave.removal for weave in stay or [each.weave for each in work]) * 1000,
        "goodput": requests * len(edges) * megabytes * 8 / (ended - min(each.sending for each in work)),
        "leaks": len(proof.leaks), "blocked": len(proof.blocked), "tries": len(proof.cells), "exposed": len(strangers),
    }  # fmt: skip


class Request:
    """One request: what it has, and how many seconds each of its steps took."""

    def __init__(self, subject, driver, edges, number, shared):
        self.subject, self.driver, self.edges, self.number, self.weave = subject, driver, edges, number, shared
        self.stack, self.listener = ExitStack(), ExitStack()

    def go(self, megabytes):
        """Set up what is not there yet, open the ways, and send along every edge at once."""
        began, own = time.perf_counter(), self.weave is None
        if own:
            parties = dict.fromkeys(party for edge in self.edges for party in edge)
            overlay = weaves.of_request(self.subject, self.driver, list(parties), slot=self.number)
            self.weave = self.stack.enter_context(weaves.laid(self.subject, overlay))
            self.weave.close_ways()
        laid = time.perf_counter()
        if own:
            self.listener.enter_context(traffic.listening([self.weave.host(HUB)]))
        listening = time.perf_counter()
        self.weave.open_ways(f"request-{self.number}", self.edges)
        self.sending = time.perf_counter()
        with ThreadPoolExecutor(len(self.edges)) as pool:
            sent = list(pool.map(lambda edge: self.send(edge, megabytes), self.edges))
        self.ended = time.perf_counter()
        self.took = {
            "total": self.ended - began, "overlay": self.weave.setup, "ways": self.sending - listening,
            "containers": self.weave.containers + listening - laid, "first": max(each.connect[0] for each in sent),
            "transfer": max(each.seconds for each in sent),
        }  # fmt: skip

    def send(self, edge, megabytes):
        source, target = edge
        return traffic.transfer(self.weave.host(source), self.weave.address(target), bytes=megabytes * 1_000_000)


@experiment.claim("Nothing got through that policy forbids, and everything that it lets through did")
def isolated(trials):
    wrong = [shown for measure in ("leaks", "blocked") if (shown := sum(trials.values(measure)))]
    return not wrong, f"{sum(trials.values('tries')):.0f} tries in {len(trials.done)} trials"


@experiment.claim("Where requests have networks of their own, no container of anybody else reaches theirs")
def unexposed(trials):
    own, others = trials.where(scope="request").values("exposed"), trials.where(scope="marketplace").median("exposed")
    return (max(own) == 0, f"{others:.0f} do in a marketplace's" if others is not None else "") if own else None


@experiment.claim("A network for each request takes longer until its data has moved than one that stands already")
def dearer(trials):
    pairs = trials.where(scope="request").pairs(trials.where(scope="marketplace"), "total", but=["scope"])
    ratio = statistics.median(own / shared for own, shared in pairs) if pairs else None
    return (ratio > 1, f"median of {len(pairs)} pairs: {ratio:.1f} times") if ratio else None


@experiment.claim("A request's own network takes longer to make where it is encrypted than where it is only routed")
def encrypted(trials):
    own = trials.where(scope="request")
    ratios = [
        made / base
        for driver in own.levels("driver")
        if TRAITS[driver].encrypts
        for made, base in own.where(driver=driver).pairs(own.where(driver="none"), "overlay", but=["driver"])
    ]
    ratio = statistics.median(ratios) if ratios else None
    return (ratio > 1, f"median of {len(ratios)} pairs: {ratio:.1f} times") if ratio else None


@experiment.claim("Networks that are made at the same time hold each other up")
def crowded(trials):
    own = trials.where(scope="request")
    most = max(own.levels("requests"), default=0)
    if most < CROWD or 1 not in own.levels("requests"):
        return None, f"no trials with {CROWD} requests and more"
    pairs = own.where(requests=most).pairs(own.where(requests=1), "overlay", but=["requests"])
    return statistics.median(many / one for many, one in pairs) > 1, f"{most} at once, {len(pairs)} pairs"


if __name__ == "__main__":
    experiment.main()
