"""What is made of measured packets, and how it is held to what is declared."""

import json
from dataclasses import replace

import pytest

from dynamos.kit.errors import JobFailed
from dynamos.testbed import probes
from dynamos.testbed.efforts import QUICK, THOROUGH, Trip, schedule
from dynamos.testbed.expectations import Expected, expected
from dynamos.testbed.intervals import wilson
from dynamos.testbed.measurements import Measured
from dynamos.testbed.verifications import Verification, Verified, compare
from support.wans import PLAN, laid, link, routes


@pytest.mark.parametrize(
    ("events", "trials", "low", "high"),
    [
        (0, 0, 0.0, 1.0),
        (0, 100, 0.0, 0.0370),
        (5, 1000, 0.00214, 0.01165),
        (50, 100, 0.4038, 0.5962),
        (9, 9, 0.7008, 1.0),
    ],
)
def test_the_interval_of_a_share_is_wilsons(events, trials, low, high):
    assert wilson(events, trials) == pytest.approx((low, high), abs=1e-4)


def test_packets_that_overtake_are_counted_not_those_that_are_overtaken():
    in_order = [(number, 1000) for number in range(100)]
    assert probes.summary(in_order)["overtook"] == 0
    early = [number for number in range(100) if number not in (50, 80)]
    early.insert(40, 50)
    early.insert(70, 80)
    found = probes.summary([(number, 1000) for number in early])
    assert (found["received"], found["overtook"]) == (100, 2)


def test_a_packet_that_comes_twice_is_one_and_times_are_by_rank():
    found = probes.summary([(number, number * 10) for number in range(100)] + [(3, 7)])
    assert found["received"] == 100
    assert (found["times"]["50"], found["times"]["1"], found["times"]["99"]) == (500, 10, 990)


def test_a_rate_is_of_the_middle_of_a_flood():
    bits = 10e6
    steady = [(at / 100, round(bits / 8 * at / 100)) for at in range(60)]
    burst = [(at, count + 50_000 if at > 0 else 0) for at, count in steady]
    waiting = [(at - 1.0, 0) for at, _ in steady] + burst + [(at + 0.6, burst[-1][1]) for at, _ in steady]
    assert probes.slope(waiting) == pytest.approx(bits, rel=0.02)
    assert probes.slope([(0.0, 5), (1.0, 5)]) == 0.0


class Path:
    """A path that takes packets of at most `mtu`, and refuses larger ones so; `liar` claims that less fits."""

    def __init__(self, mtu: int, refusal: str, *, liar: int = 0) -> None:
        self._mtu, self._refusal, self._liar = mtu, refusal, liar
        self.tries = 0

    def reach(self) -> bool:
        return self._mtu >= 100

    def passes(self, size: int) -> tuple[str, int]:
        self.tries += 1
        if size <= self._mtu:
            return "yes", size
        return self._refusal, 0 if self._refusal == "silent" else self._liar or self._mtu


@pytest.mark.parametrize("mtu", [100, 576, 1280, 1399, 1400, 1401, 1500, 9000, 9216])
@pytest.mark.parametrize("refusal", ["here", "path", "silent"])
def test_the_largest_packet_is_found_however_larger_ones_are_refused(mtu, refusal):
    path = Path(mtu, refusal)
    found = probes.search(path, 1400)
    assert found["mtu"] == mtu
    assert path.tries <= (5 if refusal != "silent" and mtu <= 1400 else 18)
    if mtu < 9216:
        assert found["refusal"] == refusal


def test_one_try_more_tells_that_a_path_is_as_expected():
    path = Path(1400, "path")
    assert probes.search(path, 1400) == {"mtu": 1400, "refusal": "path"}
    assert path.tries == 2


def test_a_router_that_lies_about_what_fits_does_not_mislead():
    assert probes.search(Path(1300, "path", liar=1200), 1500)["mtu"] == 1300


def test_where_nothing_gets_through_nothing_is_searched():
    path = Path(0, "silent")
    assert probes.search(path, 1500) == {"mtu": 0, "refusal": "none"}
    assert path.tries == 0


SITES = ("ams", "lax", "tok")
LINKS = [
    link("ams", "lax", delay="70ms", loss="0.5%", rate="100mbit"),
    link("lax", "tok", delay="50ms", jitter="3ms", loss="1%", mtu=1400, backward={"delay": "20ms", "rate": "1mbit"}),
]
ITEMS = {each.name: laid(each, number) for number, each in enumerate(LINKS)}
ROUTES = routes(SITES, LINKS)


def between(source: str, destination: str, **items: object) -> Expected:
    address = PLAN.node(SITES.index(destination), 0).partition("/")[0]
    return expected(source, destination, address, {**ITEMS, **items}, ROUTES)


def test_a_way_over_several_links_is_all_of_them_in_the_right_direction():
    there, back = between("ams", "tok"), between("tok", "ams")
    assert there.links == ("ams-lax", "lax-tok")
    assert there.ways == (("ams-lax", "ams"), ("lax-tok", "lax"))
    assert (there.delay, back.delay) == pytest.approx((0.12, 0.09))
    assert (there.rate, back.rate) == (100e6, 1e6)
    assert there.loss == pytest.approx(1 - 0.995 * 0.99)
    assert (there.mtu, there.jitter) == (1400, pytest.approx(0.003))


def test_a_way_over_a_link_that_is_cut_or_silent_loses_everything_and_so_does_no_way():
    for state in ("cut", "silent"):
        broken = {"lax-tok": ITEMS["lax-tok"].model_copy(update={"state": state})}
        assert between("ams", "tok", **broken).loss == 1.0
        assert between("ams", "lax", **broken).loss == pytest.approx(0.005)
    assert expected("ams", "tok", "203.0.113.1", ITEMS, ROUTES) == Expected((), loss=1.0)


def trips(count: int, **members: object) -> list[Trip]:
    """Every ordered pair of so many hosts, each over a link of its own."""
    return [
        Trip(a, b, f"192.0.2.{b}", Expected((f"{a}-{b}",), ways=((f"{a}-{b}", f"{a}"),), **members))
        for a in range(count)
        for b in range(count)
        if a != b
    ]


@pytest.mark.parametrize("count", [2, 3, 10])
def test_floods_that_go_together_share_neither_an_end_nor_a_link_nor_too_much(count):
    plan = schedule(trips(count, rate=100e6, delay=0.05), count, QUICK, echo=False, slack=0.1)
    floods = [(flood["at"], source, flood) for source, host in enumerate(plan.hosts) for flood in host["floods"]]
    assert len(floods) == count * (count - 1)
    paces_end = max(pace["at"] + pace["count"] * pace["interval"] for host in plan.hosts for pace in host["paces"])
    for at in {at for at, _, _ in floods}:
        batch = [(source, flood["to"], flood["rate"]) for when, source, flood in floods if when == at]
        assert at > paces_end
        assert len({source for source, _, _ in batch}) == len({to for _, to, _ in batch}) == len(batch)
        assert sum(rate for _, _, rate in batch) <= 1.25 * 400e6
    assert all(flood["at"] + flood["seconds"] < plan.seconds for _, _, flood in floods)
    assert all(host["end"] == plan.seconds for host in plan.hosts)


def test_three_sites_take_seconds_and_slow_links_are_not_filled():
    quick = schedule(trips(3, rate=100e6, delay=0.1), 3, QUICK, echo=False, slack=0.1)
    assert quick.seconds < 10
    assert schedule(trips(3, rate=100e6), 3, THOROUGH, echo=False, slack=0.1).seconds > quick.seconds
    slow = schedule(trips(2, rate=100e3), 2, QUICK, echo=False, slack=0.1)
    [pace] = slow.hosts[0]["paces"]
    assert 106 * 8 / pace["interval"] <= 0.1 * 100e3 * 1.001
    many = schedule(trips(20), 20, QUICK, echo=False, slack=0.1)
    assert sum(1 / pace["interval"] for host in many.hosts for pace in host["paces"]) <= 4000.001


def test_jitter_does_not_let_paces_wait_for_each_other_and_takes_as_many_as_it_needs():
    def pace(jitter: float) -> dict:
        return schedule(trips(2, delay=0.045, jitter=jitter), 2, QUICK, echo=False, slack=0.1).hosts[0]["paces"][0]

    assert pace(0.008)["interval"] >= 0.032
    assert 1.2533 * 0.008 / pace(0.008)["count"] ** 0.5 <= 0.05 * 0.045 / 3
    assert pace(0.0)["count"] == 1000


def test_long_ways_are_flooded_only_with_more_effort_and_count_as_often_as_they_have_links():
    way = Expected(("a-b", "b-c"), ways=(("a-b", "a"), ("b-c", "b")), rate=150e6)
    back = Expected(("d-e", "e-f"), ways=(("d-e", "d"), ("e-f", "e")), rate=150e6)
    both = [Trip(0, 1, "192.0.2.1", way), Trip(2, 3, "192.0.2.3", back)]
    assert not any(host["floods"] for host in schedule(both, 4, QUICK, echo=False, slack=0.1).hosts)
    thorough = schedule(both, 4, THOROUGH, echo=False, slack=0.1)
    assert thorough.hosts[0]["floods"][0]["at"] != thorough.hosts[2]["floods"][0]["at"]


DECLARED = Expected(("ams-lax",), delay=0.07, loss=0.005, rate=100e6, mtu=1500)
MEASURED = Measured(
    source="ams", destination="lax", sent=1000, received=995, delay=0.0701, delay_low=0.07, delay_high=0.0703,
    jitter=0.0, round_trip=False, loss=0.005, loss_low=0.002, loss_high=0.012, reorder=0.0, rate=99.5e6,
    mtu=1500, refusal="here",
)  # fmt: skip


def deviations(**measured: object) -> list[str]:
    return [each.what for each in compare(DECLARED, replace(MEASURED, **measured))]


def test_what_is_within_its_tolerance_is_no_deviation():
    assert deviations() == []
    assert deviations(delay=0.0734, rate=90.5e6, jitter=0.0009) == []
    assert deviations(round_trip=True, delay=0.141) == []
    assert deviations(rate=None) == []  # nobody has measured it


@pytest.mark.parametrize(
    ("what", "measured"),
    [
        ("delay", {"delay": 0.0737}),
        ("delay", {"delay": 0.07, "round_trip": True}),
        ("jitter", {"jitter": 0.0012}),
        ("loss", {"loss_low": 0.006, "loss_high": 0.02}),
        ("reorder", {"reorder": 0.03}),
        ("rate", {"rate": 88e6}),
        ("rate", {"rate": 0.0}),
        ("mtu", {"mtu": 1400, "refusal": "path"}),
        ("black-hole", {"mtu": 1400, "refusal": "silent"}),
        ("mtu", {"mtu": 0, "refusal": "none"}),
    ],
)
def test_what_is_out_of_its_tolerance_is_named(what, measured):
    assert deviations(**measured) == [what]


def test_a_small_delay_may_be_wrong_by_a_millisecond():
    small = replace(DECLARED, delay=0.002)
    assert list(compare(small, replace(MEASURED, delay=0.0029))) == []
    assert [each.what for each in compare(small, replace(MEASURED, delay=0.0031))] == ["delay"]


def test_of_a_way_that_loses_everything_only_that_is_asked():
    nothing = replace(
        MEASURED, received=0, delay=None, jitter=None, loss=1.0, loss_low=0.996, loss_high=1.0, rate=None, mtu=0,
        refusal="none",
    )  # fmt: skip
    assert list(compare(replace(DECLARED, loss=1.0), nothing)) == []
    assert [each.what for each in compare(DECLARED, nothing)] == ["loss"]


def test_a_verification_names_the_link_and_the_way_and_goes_into_files():
    measured = replace(MEASURED, delay=0.09)
    wrong = Verified("ams", "lax", DECLARED, measured, tuple(compare(DECLARED, measured)), 3)
    right = Verified("lax", "ams", DECLARED, MEASURED, (), 1)
    Verification((right,), "quick", 2.0).require()
    found = Verification((wrong, right), "quick", 2.0)
    with pytest.raises(JobFailed) as caught:
        found.require()
    assert "ams-lax (ams to lax): delay 70 ms declared, 90 ms measured" in caught.value.message
    assert [pair["source"] for pair in caught.value.facts["pairs"]] == ["ams"]
    read = json.loads(json.dumps(found.as_dict()))
    assert read["pairs"][0]["deviations"][0]["what"] == "delay"
    assert read["pairs"][0]["declared"]["links"] == ["ams-lax"]
    assert (read["pairs"][0]["attempts"], read["effort"]) == (3, "quick")
