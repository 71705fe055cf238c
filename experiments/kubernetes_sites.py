#!/usr/bin/env python3
"""Sites far apart: one Kubernetes cluster stretched over them, or one at each: what does the WAN between them cost?"""

import os
import statistics
import time
from contextlib import ExitStack
from pathlib import Path

from dynamos.experiments import Experiment, Factor, Measure, answers, fates
from dynamos.kit.errors import BadInput, Mistakes, NotFound, Refused, TimedOut, Unavailable

USER, QUERY = "ann@safety-board.example", "SELECT origin FROM flights"
NEAR, FAR = ("safety-board", "registry", "united"), ("delta", "jetblue", "weather")  # far from the control plane
ASKED = {"near": ["united"], "far": ["delta"]}
TIMES, PAUSE, IDLE, PATIENCE, RECOVERY = 8, 4, 20, 40, 120  # requests; seconds
LEAVES = {"stretched": False, "stretched-leaves": True}

experiment = Experiment(
    "kubernetes_sites",
    "Sites far apart: one Kubernetes cluster stretched over them, or one at each: what does the WAN between them cost?",
    profile="kubernetes",
    needs="nothing",
    factors=[Factor("layout", [*LEAVES, "cluster-per-site"], quick=["stretched", "cluster-per-site"])],
    measures=[
        Measure(
            "compute", "ms", "a request with computeToData, of a party near and one far, median", "less", main=True
        ),
        Measure("through", "ms", "the same with dataThroughTtp, median", "less"),
        Measure("up", "s", "until the first request was answered", "less"),
        Measure("bare", "B/s", "over the WAN before anything of ours was on the cluster"),
        Measure("idle", "B/s", "over the WAN while nobody asks", "less"),
        Measure("each", "B", "over the WAN for a request with computeToData, beyond that", "less"),
        Measure("near", "word", "what came of a request to the near party while the WAN was cut"),
        Measure("far", "word", "what came of one to the far party meanwhile"),
        Measure("near_told", "s", "until the requestor knew, of the near party", "less"),
        Measure("far_told", "s", "until the requestor knew, of the far party", "less"),
        Measure("recovered", "s", "from the mending until both parties answered again", "less"),
    ],
    repetitions=3,
    quick_repetitions=1,
    warmups=0,
    baseline={"layout": "stretched"},
    bound="15m",
    typical="4m",
    background="""
Upstream's deployment on FABRIC is one cluster stretched over sites: its API server, RabbitMQ and etcd are at one of
them, and every kubelet, every pod's start and every message of the others crosses the WAN.

`stretched` is that: one cluster, whose control plane, orchestrator and bus are at the first of its sites.
`stretched-leaves` is the same cluster with a server of the bus at every site, a leaf of the one at the first, so that
what a site's own parties say to each other stays there. `cluster-per-site` has a cluster at each site, joined by leaf
nodes of NATS alone. That is not built, and these trials are skipped, and say so. It would need a profile that names a
cluster for each site, and manifests by cluster; the hub's port for leaves, each agent's for rows and the API's for
results where other clusters reach them, with addresses that agents announce in place of their pods' own; and ways that
are opened to addresses, for no NetworkPolicy names a namespace of another cluster.

A trial puts the marketplace on the cluster that the profile's `cluster` or KUBECONFIG names, whose nodes have the label
`dynamos.dev/site`; asks; and removes it. Where DYNAMOS_CLUSTER_WORLD names the emulated network that its nodes are in,
bytes on the links between sites are counted, and the links are cut for one request to each party.
""",
    limits=[
        "What crosses the WAN is all of it: Kubernetes' own control traffic, the bus, rows, and pods made anew.",
        f"Requests come {PAUSE} s apart, so that mostly a pod waits for each; where none does it takes seconds longer.",
        "How soon all is well again is also the cluster's doing: when it counts nodes as lost, and begins pods anew.",
        "The first trial on a cluster may pull images, which is in `up`.",
        "The API is reached through a port that kubectl forwards, by way of the API server.",
        "Without an emulated network between the sites nothing is counted, and nothing is cut.",
    ],
)


@experiment.trial
def trial(bed, layout):
    if layout not in LEAVES:
        bed.skip("a profile names one cluster: no marketplace can be put on a cluster per site yet")
    try:
        from dynamos.experiments import stretches  # noqa: PLC0415  lightkube is an extra
    except ModuleNotFoundError as error:
        bed.skip(f"{error.name} is not installed: it comes with the extra `kubernetes`")
    wan = stretches.wan()
    told = {"bare": at_rest(wan, stretches.carried)} if wan else {}
    with ExitStack() as stack:
        try:
            places = placed(bed.profile.cluster, stretches)
            profile = stretches.spread(bed.profile, places, leaves=LEAVES[layout])
            began = time.perf_counter()
            api = stack.enter_context(stretches.deployed(profile, state(bed), bed.scratch))
        except (NotFound, BadInput, Mistakes, Refused, Unavailable) as error:  # nothing was made, or it is gone again
            bed.skip(str(error))
        if fates.within(RECOVERY, lambda: both_answer(bed, api)) is None:
            raise TimedOut(f"no request was answered within {RECOVERY} s")
        told["up"] = time.perf_counter() - began
        return told | measured(bed, api, wan, stretches.carried)


def placed(cluster, stretches):
    """Give parties by site: the first has the near ones, the others share the far ones."""
    first, *others = (found := stretches.sites(cluster)) or [""]
    if not others:
        raise Unavailable(f"the cluster's nodes are at {len(found)} sites, not at two or more", hint=stretches.SITE)
    return {first: NEAR} | {site: FAR[at :: len(others)] for at, site in enumerate(others)}


def state(bed):
    """Give the folder of images and of the marketplace's data and keys, which are made once."""
    return Path(os.environ.get("DYNAMOS_STATE") or (bed.state.root.parent if bed.state else ".dynamos")).resolve()


def measured(bed, api, wan, carried):
    told = {"idle": at_rest(wan, carried)} if wan else {}
    for name, archetype in (("compute", "computeToData"), ("through", "dataThroughTtp")):
        before, began = carried(wan) if wan else 0, time.perf_counter()
        took = [paused(lambda archetype=archetype: ask(bed, api, ["united", "delta"], archetype)) for _ in range(TIMES)]
        bed.sample(name, *took)
        told[name] = statistics.median(took)
        if wan and name == "compute":
            beyond = carried(wan) - before - told["idle"] * (time.perf_counter() - began)
            told["each"] = max(0.0, beyond) / TIMES
    return told | (cut(bed, api, wan) if wan else {})


def at_rest(wan, carried):
    """Give how many bytes a second cross the WAN while nobody asks for anything."""
    before, began = carried(wan), time.perf_counter()
    time.sleep(IDLE)
    return (carried(wan) - before) / (time.perf_counter() - began)


def cut(bed, api, wan):
    """Cut every link between sites, ask, mend them, and ask until all is well."""
    told, links = {}, list(wan.links())
    try:
        for link in links:
            wan.cut(link)
        for name, providers in ASKED.items():
            began = time.perf_counter()
            answer = fates.within(PATIENCE, lambda providers=providers: ask(bed, api, providers, "computeToData"))
            told |= {name: fates.of(answer), f"{name}_told": time.perf_counter() - began}
    finally:
        for link in links:
            wan.heal(link)
    mended = time.perf_counter()
    well = fates.within(RECOVERY, lambda: both_answer(bed, api))
    return told | {"recovered": time.perf_counter() - mended if well else None}


def both_answer(bed, api):
    """Ask until both parties have answered one request: give that answer."""
    end = time.monotonic() + RECOVERY
    while time.monotonic() < end:
        answer = ask(bed, api, ["united", "delta"], "computeToData")
        if fates.of(answer) == fates.ANSWERED:
            return answer
        time.sleep(0.5)
    return None


def ask(bed, api, providers, archetype):
    body = {
        "type": "sqlDataRequest", "user": {"userName": USER}, "providers": providers, "query": QUERY,
        "archetype": archetype, "options": {"aggregate": archetype == "dataThroughTtp"}, "deadline": "20s",
    }  # fmt: skip
    answer = answers.ask(lambda: api(USER), body, keep=False)
    bed.answers.append(answer)
    return answer


def met(trials, name):
    """Give what became of requests under way while the WAN was cut, of the trials that could cut it."""
    return [told for told in trials.readings(name) if told is not None]


def paused(ask):
    """Give the milliseconds of an answer, once pods wait again that the request before has used up."""
    time.sleep(PAUSE)
    answer = ask()
    if answer.error:
        raise answer.error
    return answer.seconds * 1e3


@experiment.claim("While the WAN is cut every requestor learns what became of the request: an answer, or a clear error")
def clear(trials):
    told = [*met(trials, "near"), *met(trials, "far")]
    return (not [each for each in told if each in fates.BAD], ", ".join(sorted(set(told)))) if told else None


@experiment.claim("A site that has the control plane goes on while the WAN is cut")
def goes_on(trials):
    told = met(trials, "near")
    return (set(told) == {fates.ANSWERED}, f"{told.count(fates.ANSWERED)} of {len(told)}") if told else None


@experiment.claim(f"All is well again by itself within {RECOVERY} s of the WAN's mending")
def recovers(trials):
    cut, back = len(met(trials, "near")), trials.values("recovered")
    return (len(back) == cut, f"{len(back)} of {cut}, the latest after {max(back, default=0):.1f} s") if cut else None


@experiment.claim("A server of the bus at each site sends less over the WAN while nobody asks than one for all does")
def quieter(trials):
    one, many = (sorted(trials.where(layout=name).values("idle")) for name in LEAVES)
    if not one or not many:
        return None, "not both were measured"
    told = " beside ".join(f"{each[0]:,.0f} to {each[-1]:,.0f} B/s" for each in (many, one))
    apart = many[-1] < one[0] or one[-1] < many[0]
    return (many[-1] < one[0], told) if apart else (None, f"not to be told apart: {told}")


if __name__ == "__main__":
    experiment.main()
