#!/usr/bin/env python3
"""Which costs more, encryption in the overlay or in the transport, and what do both together?

Transfers are of our own program, with and without TLS inside each overlay: the transport of DYNAMOS itself is always
encrypted, so that only whole requests over each overlay can be had of it. These are the other half.
"""

import statistics

from dynamos.experiments import Experiment, Factor, Measure, traffic, weaves
from dynamos.middleware.identity.authority import Authority
from dynamos.model.networks import Overlay
from dynamos.model.overheads import TRAITS

AIRLINES = ("united", "jetblue")
QUERY = "SELECT * FROM flights"
USER = "ann@safety-board.example"
SECONDS = 1.0
FEWEST = 5

experiment = Experiment(
    "mtls_cost",
    "Which costs more, encryption in the overlay or in the transport, and what do both together?",
    factors=[
        Factor("driver", ["none", "vxlan", "wireguard", "mtls"], quick=["none", "wireguard"], changes="testbed"),
        Factor("work", ["transfer", "request"]),
        Factor("tls", [False, True], when={"work": "transfer"}, title="TLS in the transport"),
        Factor("streams", [1, 4], quick=[4], when={"work": "transfer"}),
    ],
    measures=[
        Measure("goodput", "Mbit/s", "what programs got", "more", main=True),
        Measure("cpu", "s/Gbit", "CPU of ends and daemons for each gigabit", "less"),
        Measure("rtt", "ms", "round trip of 64 bytes, median", "less"),
        Measure("connect", "ms", "until a connection's first byte had come back", "less"),
        Measure("total", "s", "a request of DYNAMOS until its last row", "less"),
        Measure("rows", "rows", "of its answer"),
        Measure("encrypted", "count", "how many times each byte of rows is encrypted between the sites"),
    ],
    profile="three-sites",
    repetitions=5,
    quick_repetitions=1,
    warmups=1,
    baseline={"driver": "none"},
    bound="2m",
    typical="4s",
    background="""
Linkerd encrypts between meshed pods in DYNAMOS as published, and the transport of DYNAMOS here (Arrow Flight) shows
certificates on both sides. A mesh with mutual TLS added a third to the latency of requests in one study (Linkerd, the
lowest of four; arXiv 2411.02267), and took 26.8 ms at the 99th percentile of HTTP in another (Istio; ICPE 2025), where
a tunnel of the third layer took 3.3 ms. WireGuard in the kernel takes 11 times the CPU of a bare bit (Ducastel 2024).
Nobody of these set both on top of each other.
""",
    limits=[
        "Without a delay and on one machine, so that the cost of the processor shows; a slow WAN hides all of it.",
        "WireGuard runs in user space where the kernel has none; TLS is OpenSSL's, by Python, with AES-NI if there is.",
        "A request does more than move rows: it is decided, granted and computed, which hides part of the difference.",
        "Requests of DYNAMOS are never without TLS: there is no level for it.",
    ],
)


@experiment.testbed
def shape(base, driver):
    overlay = Overlay(driver=driver, scope="marketplace")
    return weaves.bare(base, delays=False).model_copy(update={"overlay": overlay})


@experiment.trial
def trial(bed, driver, work, tls, streams):
    layers = int(TRAITS[driver].encrypts) + (1 if tls or work == "request" else 0)
    told = transferred(bed, driver, streams, tls=tls) if work == "transfer" else requested(bed)
    return told | {"encrypted": layers}


def transferred(bed, driver, streams, *, tls):
    """Move bytes between two containers in a network of their own beside the parties'."""
    overlay = weaves.of_request(bed.subject, driver, ("registry", "united"))
    with weaves.laid(bed.subject, overlay) as weave:
        theirs, ours = credentials(bed) if tls else (None, None)
        source, address = weave.host("united"), weave.address("registry")
        with traffic.listening([weave.host("registry")], tls=theirs):
            pings = traffic.round_trips(source, address, count=200, tls=ours)
            with traffic.effort(bed.world) as effort:
                sent = traffic.transfer(source, address, streams=streams, seconds=SECONDS, tls=ours)
    return {
        "goodput": sent.goodput / 1e6, "cpu": (sent.cpu + effort.ends + effort.carriers) / sent.gigabits,
        "rtt": pings.quantile(0.5) * 1000, "connect": pings.connect * 1000,
    }  # fmt: skip


def credentials(bed):
    """Give both sides' words of TLS, from an authority that ends with the trial."""
    authority = Authority.create(bed.scratch / "authority", "throwaway")
    issued = {name: authority.issue(name, bed.scratch / name) for name in ("registry", "united")}
    return traffic.tls_of(issued["registry"]), traffic.tls_of(issued["united"], peer="registry")


def requested(bed):
    """Have two airlines' rows brought to a third party and back, whole."""
    answer = bed.ask(USER, AIRLINES, QUERY, archetype="dataThroughTtp", keep=False)
    if answer.error:
        raise answer.error
    return {"total": answer.seconds, "rows": answer.rows}


def median_of(trials, driver, *, tls, measure="cpu"):
    return trials.where(work="transfer", driver=driver, tls=tls).median(measure)


@experiment.claim("For each bit, WireGuard in the overlay takes more of the processor than TLS in the transport")
def overlay_is_dearer(trials):
    bare, inner, outer = (
        median_of(trials, driver, tls=tls) for driver, tls in (("none", False), ("none", True), ("wireguard", False))
    )
    if None in (bare, inner, outer):
        return None
    return outer > inner, f"medians, s/Gbit: {bare:.2f} bare, {inner:.2f} with TLS, {outer:.2f} over WireGuard"


@experiment.claim("Both together take more of the processor than WireGuard alone")
def both(trials):
    tunnel = trials.where(work="transfer", driver="wireguard")
    ratios = [twice / once for twice, once in tunnel.where(tls=True).pairs(tunnel.where(tls=False), "cpu", but=["tls"])]
    if len(ratios) < FEWEST:
        return None, f"{len(ratios)} pairs are too few for so small a difference"
    return statistics.median(ratios) > 1, f"median of {len(ratios)} pairs: {statistics.median(ratios):.2f} times"


@experiment.claim("The rows of a request are the same over every overlay")
def same_rows(trials):
    rows = set(trials.where(work="request").values("rows"))
    return (len(rows) == 1, f"{rows.pop():.0f} rows") if rows else None


@experiment.claim("A whole request takes no more than half as long again where its overlay is encrypted too")
def requests(trials):
    asked = trials.where(work="request")
    base = asked.where(driver="none").median("total")
    dark = {d: asked.where(driver=d).median("total") for d in asked.levels("driver") if TRAITS[d].encrypts}
    if not base or not dark or None in dark.values():
        return None
    shown = ", ".join(f"{driver} {seconds:.2f} s" for driver, seconds in dark.items())
    return statistics.median(dark.values()) < 1.5 * base, f"medians: none {base:.2f} s, {shown}"


if __name__ == "__main__":
    experiment.main()
