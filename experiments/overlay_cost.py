#!/usr/bin/env python3
"""What does an overlay take of throughput, latency and CPU, on a LAN and on a WAN, beside the same way without one?"""

import statistics

from dynamos.experiments import Experiment, Factor, Measure, traffic, weaves
from dynamos.kit.errors import Broken, JobFailed, TimedOut
from dynamos.model.overheads import TRAITS
from dynamos.testbed.overlays.registry import drivers

WAYS = {"three-sites": ("united", "registry"), "lossy-edge": ("weather", "united")}
"""Who sends to whom: between neighbours, and from behind the satellite."""
TUNNELS = {name: TRAITS[name].layer < 4 for name in drivers()}
FREE = 200e6
"""Bits per second of datagrams that are sent where no link says what it carries."""
SHARE = 0.75
CONTROL = {"lan": "cubic", "wan": "bbr"}
"""How connections find their pace: CUBIC takes half a minute to fill a long path, and loses it at every loss."""
HEADERS = 28

experiment = Experiment(
    "overlay_cost",
    "What does an overlay take of throughput, latency and CPU, on a LAN and on a WAN?",
    factors=[
        Factor("profile", list(WAYS), quick=["three-sites"], changes="testbed", title="testbed"),
        Factor(
            "links",
            {"three-sites": ["lan", "wan"], "lossy-edge": ["wan"]},
            quick=["lan"],
            within="profile",
            changes="testbed",
        ),
        Factor(
            "carries",
            [1500, 9000],
            quick=[1500],
            changes="testbed",
            when={"links": "lan"},
            unit="B",
            title="largest packet of a link",
        ),
        Factor("driver", list(drivers()), quick=["none", "vxlan", "wireguard", "mtls"]),
        Factor("protocol", {name: ["tcp", "udp"] if TUNNELS[name] else ["tcp"] for name in TUNNELS}, within="driver"),
        Factor("streams", [1, 2, 4, 8], quick=[4]),
        Factor(
            "mtu",
            {1: ["fits", "1280", "1500"], 2: ["fits"], 4: ["fits"], 8: ["fits"]},
            quick=["fits"],
            within="streams",
            when=lambda cell: TUNNELS[cell["driver"]],
            title="largest packet in the overlay",
        ),
        Factor("sending", [1.0], unit="s", title="time of sending, and 20 round trips more"),
    ],
    measures=[
        Measure("goodput", "Mbit/s", "what programs got at their pace; 0 where nothing arrived", "more", main=True),
        Measure("cpu", "s/Gbit", "CPU of ends and daemons for each gigabit", "less"),
        Measure("carriers", "s/Gbit", "CPU of the overlay's daemons alone", "less"),
        Measure("rtt", "ms", "round trip of 64 bytes, median", "less"),
        Measure("rtt99", "ms", "round trip of 64 bytes, 99 of 100 stay below", "less"),
        Measure("setup", "ms", "until all members had reached each other", "less"),
        Measure("first", "ms", "from connecting to the first byte back", "less"),
        Measure("resent", "count", "segments that were sent again", "less"),
        Measure("loss", "%", "datagrams that did not arrive", "less"),
        Measure("offered", "Mbit/s", "datagrams that were sent"),
    ],
    profile="three-sites",
    needs="networks",
    repetitions=3,
    quick_repetitions=1,
    baseline={"driver": "none"},
    bound="5m",
    typical="8s",
    background="""
On 40 Gbit/s hosts (Ducastel 2024) plain overlays of containers reach 97 to 100 % of bare metal with 8 streams, at 1.0
to 1.2 times its CPU for a bit; WireGuard 20 to 22 % at 11 to 12 times; IPsec 12 to 13 % at 1.4 to 1.9 times. A rate of
datagrams says nothing without their loss: 1 % bare, 30 to 77 % with WireGuard. An MTU that is too large by one byte
took a path from 2.6 Gbit/s to nothing (cilium #28413), and one that was left at its default cost Calico a tenth for TCP
and four fifths for UDP (2020). CPU for each bit is told because absolute CPU makes slow paths look cheap.
""",
    limits=[
        "Both ends, the daemons and the WAN share the cores of one machine; a ratio below 1.2 is noise.",
        "WireGuard, Nebula, OpenVPN and IPsec run in user space where the kernel does not have them.",
        "The program of traffic is Python: it is the limit before a bare link of a fast machine is.",
        "What the kernel does for a packet counts for whoever had the processor, and so may be missing from the CPU.",
        "Links without a delay carry frames of 64 KiB (segmentation is left to the receiver), real cables do not.",
        "Connections use CUBIC without delay and BBR on a WAN; the first second and 15 round trips do not count.",
        "The WAN is emulated; datagrams are offered at 200 Mbit/s, or three quarters of the slowest link on the way.",
    ],
)


@experiment.testbed
def shape(base, links, carries, **_):
    shaped = weaves.bare(base, delays=links == "wan")
    if carries is None:
        return shaped
    wide = tuple(link.model_copy(update={"mtu": carries}) for link in shaped.links)
    return shaped.model_copy(update={"links": wide})


@experiment.trial
def trial(bed, profile, links, driver, protocol, streams, mtu, sending, **_):
    subject, (sender, receiver) = bed.subject, WAYS[profile]
    if lacks := weaves.lacking(subject, driver):
        bed.skip(lacks)
    with weaves.laid(subject, weaves.of_request(subject, driver, (receiver, sender)), mtu=size_of(mtu)) as weave:
        source, address = weave.host(sender), weave.address(receiver)
        with traffic.listening([weave.host(receiver)]):
            pings = traffic.round_trips(source, address, count=20 if links == "wan" else 200)
            bed.sample("rtt", *(time * 1000 for time in pings.times))
            told = {
                "setup": weave.setup * 1000, "first": pings.connect * 1000,
                "rtt": pings.quantile(0.5) * 1000, "rtt99": pings.quantile(0.99) * 1000,
            }  # fmt: skip
            seconds, settle = (sending + trips * pings.quantile(0.5) for trips in (20, 15))
            with traffic.effort(subject.world) as effort:
                try:
                    if protocol == "tcp":
                        sent = traffic.transfer(
                            source, address, streams=streams, seconds=seconds + settle, settle=settle,
                            control=CONTROL[links], within=seconds + settle + 30,
                        )  # fmt: skip
                        told |= {"resent": sent.resent, "goodput": sent.settled / 1e6}
                    else:
                        size = (size_of(mtu) or weave.overlay.mtu) - HEADERS
                        rate = offered(bed.profile, sender, receiver)
                        sent = traffic.flood(source, address, rate=rate, seconds=seconds, size=size, streams=streams)
                        told |= {
                            "goodput": sent.goodput / 1e6,
                            "loss": sent.loss * 100,
                            "offered": sent.sent * size * 8 / seconds / 1e6,
                        }
                except (Broken, TimedOut, JobFailed):
                    if mtu == "fits" or mtu is None:
                        raise
                    return told | {"goodput": 0.0}  # a packet that is too large, and vanishes
    cpu = sent.cpu + effort.ends + effort.carriers
    told |= {"cpu": cpu / sent.gigabits, "carriers": effort.carriers / sent.gigabits} if sent.gigabits else {}
    return told


def size_of(mtu):
    return 0 if mtu in (None, "fits") else int(mtu)


def offered(profile, sender, receiver):
    """Give the bits per second of datagrams: what the link from one site to the other carries, with room left."""
    here, there = profile.site_of(sender), profile.site_of(receiver)
    rates = [link.direction(here).rate for link in profile.links if {here, there} == set(link.between)]
    return SHARE * min((float(rate) for rate in rates if rate), default=FREE / SHARE)


def beside(trials, measure, driver):
    """Give the ratios of a driver's readings to those without an overlay, in the same block and cell."""
    pairs = trials.where(driver=driver).pairs(trials.where(driver="none"), measure, but=["driver", "mtu"])
    return [own / base for own, base in pairs if base]


@experiment.claim("Where links have no delay, encryption takes more of the throughput than encapsulation alone does")
def encryption(trials):
    lan = trials.where(links="lan", protocol="tcp", mtu=("fits", None))
    plain = [
        r for d in lan.levels("driver") if d != "none" and not TRAITS[d].encrypts for r in beside(lan, "goodput", d)
    ]
    dark = [r for d in lan.levels("driver") if TRAITS[d].encrypts for r in beside(lan, "goodput", d)]
    if not plain or not dark:
        return None
    least, most = statistics.median(plain), statistics.median(dark)
    return most < least, f"medians: {most:.2f} of the bare rate encrypted, {least:.2f} encapsulated"


@experiment.claim("An encrypted bit takes at least twice the CPU of a bare one")
def dear(trials):
    lan = trials.where(links="lan", protocol="tcp", mtu=("fits", None))
    ratios = {d: beside(lan, "cpu", d) for d in lan.levels("driver") if TRAITS[d].encrypts}
    told = {d: statistics.median(found) for d, found in ratios.items() if found}
    shown = ", ".join(f"{d} {ratio:.1f}" for d, ratio in told.items())
    return (min(told.values()) >= 2, f"times as much: {shown}") if told else None


@experiment.claim("On a WAN of 200 Mbit/s an overlay takes little more than its headers: 0.85 of the bare rate is left")
def headers(trials):
    wan = trials.where(profile="three-sites", links="wan", protocol="tcp", mtu=("fits", None))
    told = {d: beside(wan, "goodput", d) for d in wan.levels("driver") if d != "none"}
    medians = {d: statistics.median(found) for d, found in told.items() if found}
    shown = ", ".join(f"{d} {ratio:.2f}" for d, ratio in medians.items())
    return (min(medians.values()) >= 0.85, shown) if medians else None


@experiment.claim("A packet in a tunnel that is larger than the links carry makes no black hole")
def too_large(trials):
    tunnels = tuple(driver for driver in trials.levels("driver") if TRAITS[driver].overhead)
    large = trials.where(carries=1500, protocol="tcp", mtu="1500", driver=tunnels)
    pairs = large.pairs(trials.where(mtu="fits"), "goodput", but=["mtu"])
    if not pairs:
        return None
    ratio = statistics.median(rate / fits for rate, fits in pairs)
    return min(large.values("goodput")) > 0, f"median: {ratio:.2f} of the rate with packets that fit"


if __name__ == "__main__":
    experiment.main()
