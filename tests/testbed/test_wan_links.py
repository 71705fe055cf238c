"""Links do to packets what is declared of them, change while they are used, and leave nothing behind."""

import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from dynamos.kit.errors import BadInput, NotFound
from dynamos.model.networks import Change, Direction
from dynamos.testbed import cables, wan_states
from dynamos.testbed.expectations import Expected
from dynamos.testbed.items import Key, Router
from dynamos.testbed.measurements import measure_all
from dynamos.testbed.verifications import verify
from dynamos.testbed.wans import Wan
from dynamos.testbed.worlds import World
from support.wans import PLAN, SHORT, laid, link, made_wan
from support.worlds import Held, eventually, machine_state, made_world, needs

pytestmark = [pytest.mark.testbed, pytest.mark.xdist_group("testbed")]

SITES = ("ams", "lax", "tok")


def near(seconds: float) -> object:
    """A delay within the tolerance."""
    return pytest.approx(seconds, rel=0.05, abs=0.001)


def delays(lab, *pairs: tuple[str, str]) -> dict[tuple[str, str], float | None]:
    """The delays of these pairs, as measured."""
    found = {}
    sites = dict.fromkeys(site for pair in pairs for site in pair)
    for pair, each in measure_all(lab.places(*sites), dict.fromkeys(pairs, Expected(())), effort=SHORT).items():
        found[pair] = each.delay
    return found


def test_three_sites_measure_what_is_declared_of_them_each_way(tmp_path):
    links = [
        link("ams", "lax", delay="70ms", loss="0.5%", rate="100mbit"),
        link("lax", "tok", delay="50ms", jitter="2ms", backward={"delay": "30ms", "rate": "20mbit"}),
        link("ams", "tok", delay="110ms", reorder="2%", mtu=1400),
    ]
    before = machine_state()
    with made_wan(tmp_path, SITES, links) as lab:
        found = verify(lab.wan.links(), lab.routes, lab.places())
        found.require()
        assert len(found.pairs) == 6
        assert {pair.measured.mtu for pair in found.pairs if pair.declared.links == ("ams-tok",)} == {1400}
        assert all(pair.measured.rate for pair in found.pairs if pair.declared.rate and len(pair.declared.links) == 1)
        assert machine_state() == before


def test_sites_without_a_link_are_reached_over_others_the_shortest_way(tmp_path):
    links = [link("ams", "lax", delay="10ms"), link("lax", "tok", delay="20ms"), link("ams", "tok", delay="100ms")]
    with made_wan(tmp_path, SITES, links) as lab:
        assert lab.round_trip("ams", "tok") == near(0.06)


def test_one_direction_changes_while_the_link_is_used(tmp_path):
    with made_wan(tmp_path, SITES[:2], [link("ams", "lax", delay="5ms")]) as lab:
        lab.nodes["lax"].start("answers", ["ping", "-q", lab.address("ams")])
        both = (("ams", "lax"), ("lax", "ams"))
        after = lab.wan.set("lax-ams", "forward", Change(delay="25ms"))
        assert (str(after.forward.delay), str(after.backward.delay)) == ("25ms", "5ms")
        assert delays(lab, *both) == {both[0]: near(0.025), both[1]: near(0.005)}
        lab.wan.heal("ams-lax")
        assert delays(lab, *both) == dict.fromkeys(both, near(0.005))


class Elsewhere:
    """A host that is on a machine of its own, for all that one knows of it."""

    def __init__(self, host) -> None:
        self.name, self.site, self.run = host.name, host.site, host.run


def test_hosts_that_share_no_clock_measure_the_way_there_and_back(tmp_path):
    declared = link("ams", "lax", delay="30ms", backward={"delay": "10ms"})
    with made_wan(tmp_path, SITES[:2], [declared]) as lab:
        places = [replace(place, host=Elsewhere(place.host)) for place in lab.places()]
        both = dict.fromkeys([("ams", "lax"), ("lax", "ams")], Expected(()))
        found = measure_all(places, both, effort=SHORT)
        assert [(each.round_trip, each.delay) for each in found.values()] == [(True, near(0.04))] * 2


@pytest.mark.parametrize("delay", ["5ms", "0ms"], ids=["emulated", "plain"])
def test_a_link_that_is_cut_is_told_at_once_and_works_again_when_healed(tmp_path, delay):
    with made_wan(tmp_path, SITES[:2], [link("ams", "lax", delay=delay)]) as lab:
        assert lab.reaches("ams", "lax")
        assert lab.wan.cut("ams-lax").state == "cut"
        eventually("the router says that there is no way", lambda: "Net Unreachable" in lab.ping("ams", "lax"))
        for site in ("ams", "lax"):
            assert "NO-CARRIER" in lab.wan.router(site).run(["ip", "link", "show", "wan0"]).text
        facts = lab.wan.look()
        assert facts.items[Key("link", "ams-lax")].state == "cut"
        assert facts.broken == {}
        lab.wan.heal("ams-lax")
        eventually("the link works again", lambda: lab.reaches("ams", "lax"))
        assert lab.wan.look().broken == {}


@pytest.mark.parametrize("delay", ["50ms", "0ms"], ids=["emulated", "plain"])
def test_a_link_that_is_cut_under_traffic_works_again_when_healed(tmp_path, delay):
    with made_wan(tmp_path, SITES[:2], [link("ams", "lax", delay=delay)]) as lab:
        for source, target in (SITES[:2], SITES[1::-1]):
            lab.nodes[source].start("traffic", ["ping", "-q", "-i", "0.002", lab.address(target)])
        for _ in range(2):
            eventually("packets are on their way", lambda: lab.reaches("ams", "lax"))
            lab.wan.cut("ams-lax")
            assert not lab.reaches("ams", "lax")
            lab.wan.heal("ams-lax")
        eventually("the link works again", lambda: lab.reaches("ams", "lax"))


@pytest.mark.parametrize("delay", ["5ms", "0ms"], ids=["emulated", "plain"])
def test_a_silent_link_loses_everything_and_stays_up(tmp_path, delay):
    with made_wan(tmp_path, SITES[:2], [link("ams", "lax", delay=delay)]) as lab:
        lab.wan.silence("ams-lax")
        said = lab.ping("ams", "lax", "-W", "0.3")
        assert "0 received" in said
        assert "Unreachable" not in said
        assert "LOWER_UP" in lab.wan.router("ams").run(["ip", "link", "show", "wan0"]).text
        assert lab.wan.links()["ams-lax"].state == "silent"
        lab.wan.heal("ams-lax")
        assert lab.reaches("ams", "lax")


def test_a_site_without_power_is_not_reached_and_others_are(tmp_path):
    links = [link("ams", "lax", delay="2ms"), link("lax", "tok", delay="2ms")]
    with made_wan(tmp_path, SITES, links) as lab:
        lab.wan.power("tok", on=False)
        assert "Unreachable" in lab.ping("ams", "tok")
        assert lab.reaches("ams", "lax")
        lab.wan.power("tok", on=True)
        eventually("the site is reached again", lambda: lab.reaches("ams", "tok"))


def test_a_plain_link_gets_an_emulator_when_it_needs_one(tmp_path):
    with made_wan(tmp_path, SITES[:2], [link("ams", "lax", rate="50mbit")]) as lab:
        assert lab.wan.emulators() == {"ams-lax": "plain"}
        lab.wan.set("ams-lax", "both", Change(delay="20ms"))
        assert lab.wan.emulators()["ams-lax"] != "plain"
        assert lab.round_trip("ams", "lax") == near(0.04)


def test_a_black_hole_for_large_packets_is_named(tmp_path):
    with made_wan(tmp_path, SITES[:2], [link("ams", "lax", delay="2ms", mtu=1400)]) as lab:
        needs("nft")
        chain = "type filter hook output priority 0; icmp type destination-unreachable drop;"
        rule = f"table ip mute {{ chain out {{ {chain} }}; }}"
        lab.wan.router("ams").run(["nft", "-f", "-"], stdin=rule.encode())
        found = verify(lab.wan.links(), lab.routes, lab.places(), effort=SHORT, attempts=1)
        [pair] = found.failed
        assert (pair.source, pair.name) == ("ams", "ams-lax (ams to lax)")
        assert pair.measured.black_hole
        assert [each.what for each in pair.deviations] == ["black-hole"]
        assert "1400" in pair.deviations[0].text


def test_another_process_finds_the_wan_and_changes_it(tmp_path):
    script = (
        "import sys; from pathlib import Path; from dynamos.testbed.wans import Wan; "
        "from dynamos.testbed.worlds import World; Wan.find(World.find(Path(sys.argv[1]))).cut('ams-lax')"
    )
    with made_wan(tmp_path, SITES[:2], [link("ams", "lax", delay="2ms")]) as lab:
        subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, timeout=60)
        assert lab.wan.links()["ams-lax"].state == "cut"
        assert not lab.reaches("ams", "lax")


def test_a_guest_that_is_killed_goes_on_as_it_was(tmp_path):
    links = [link("ams", "lax", delay="10ms"), link("lax", "tok", delay="5ms")]
    with made_wan(tmp_path, SITES, links) as lab:
        if lab.wan.emulators()["ams-lax"] != "guest":
            pytest.skip("this machine's kernel has netem")
        lab.wan.set("ams-lax", "both", Change(delay="20ms"))
        lab.wan.cut("lax-tok")
        before = lab.wan.box.daemons()["guest-0"]
        lab.wan.box.run(["kill", "-9", str(before["pid"])])
        eventually("the guest carries its links again", lambda: lab.wan.look().broken == {}, within=20.0)
        assert lab.wan.box.daemons()["guest-0"]["restarts"] == before["restarts"] + 1
        assert lab.round_trip("ams", "lax") == near(0.04)
        assert not lab.reaches("lax", "tok")
        lab.wan.heal("lax-tok")
        eventually("the link works again", lambda: lab.reaches("lax", "tok"))


def test_work_that_was_interrupted_is_told_and_done_again(tmp_path):
    with made_wan(tmp_path, SITES[:2], [link("ams", "lax", delay="2ms")]) as lab:
        folder = tmp_path / "wan"
        state = wan_states.load(folder)
        wan_states.save(folder, state.with_links([state.links["ams-lax"].model_copy(update={"whole": False})]))
        lab.wan.box.run(["ip", "link", "del", "e0a"])
        assert set(lab.wan.look().broken) == {Key("link", "ams-lax")}
        lab.wan.put_link(laid(link("ams", "lax", delay="2ms"), 0))
        assert lab.wan.look().broken == {}
        eventually("the link works again, and its routes", lambda: lab.reaches("ams", "lax"))


def test_what_is_removed_is_gone_and_the_rest_stays(tmp_path):
    links = [link("ams", "lax", delay="2ms"), link("lax", "tok", delay="2ms")]
    with made_wan(tmp_path, SITES, links) as lab:
        lab.wan.remove_link("lax-tok")
        lab.wan.remove_link("lax-tok")
        assert "Unreachable" in lab.ping("lax", "tok")
        assert lab.reaches("ams", "lax")
        lab.wan.remove_link("ams-lax")
        assert lab.wan.links() == {}
        assert not [name for name in lab.wan.box.daemons() if name.startswith("guest")]
        lab.wan.remove_routes("ams")
        for site in SITES:
            lab.wan.remove_router(site)
        assert lab.wan.look().items == {}
        assert "e0a" not in lab.wan.box.run(["ip", "link"]).text


def test_two_worlds_have_wans_of_their_own_at_the_same_time(tmp_path):
    with (
        made_wan(tmp_path / "one", SITES[:2], [link("ams", "lax", delay="5ms")], "one") as one,
        made_wan(tmp_path / "other", SITES[:2], [link("ams", "lax", delay="15ms")], "other") as other,
    ):
        assert (one.round_trip("ams", "lax"), other.round_trip("ams", "lax")) == (near(0.01), near(0.03))
        one.wan.cut("ams-lax")
        assert other.reaches("ams", "lax")


def test_killing_the_world_leaves_nothing_of_the_wan(tmp_path):
    before = machine_state()
    with made_wan(tmp_path, SITES[:2], [link("ams", "lax", delay="2ms")]) as lab:
        assert lab.reaches("ams", "lax")
        with Held(lab.world, lab.wan.box) as held:
            assert held.inhabitants()
            os.kill(lab.world.pid, signal.SIGKILL)
            eventually("the kernel has ended everything", lambda: held.inhabitants() == [])
        assert machine_state() == before
        assert Wan.find(lab.world) is None
        assert World.find(tmp_path) is None


def test_the_kernels_own_netem_stands_between_the_same_ends(tmp_path, monkeypatch):
    """This kernel may have none, so another queue takes its place: what is tried is what it stands between."""
    monkeypatch.setattr(
        cables.impairments, "way", lambda _, device: (f"qdisc replace dev {device} root pfifo limit 9",)
    )
    with made_world(tmp_path) as world:
        wan = Wan.create(world)
        state = wan_states.load(tmp_path / "wan")
        wan_states.save(tmp_path / "wan", state.model_copy(update={"kernel": True}))
        wan.put_router(*(Router(name=site, address=PLAN.router(number)) for number, site in enumerate(SITES[:2])))
        wan.put_link(laid(link("ams", "lax", delay="5ms"), 0))
        assert wan.emulators() == {"ams-lax": "kernel"}

        def works() -> bool:
            argv = ["ping", "-c", "1", "-W", "0.3", "198.19.0.2"]
            return wan.router("ams").run(argv, check=False).code == 0

        assert works()
        assert "qdisc pfifo" in wan.box.run(["tc", "qdisc", "show", "dev", "m0b"]).text
        wan.silence("ams-lax")
        assert not works()
        wan.cut("ams-lax")
        show = ["ip", "link", "show", "wan0"]
        eventually("the carrier is gone", lambda: "NO-CARRIER" in wan.router("lax").run(show).text)
        wan.heal("ams-lax")
        eventually("the link works again", works)
        assert wan.look().broken == {}


def test_mistakes_are_told_before_anything_is_made(tmp_path):
    with made_wan(tmp_path, SITES[:2], [link("ams", "lax", delay="2ms")]) as lab:
        with pytest.raises(BadInput, match="reordered on a way that takes no time"):
            lab.wan.set("ams-lax", "both", Direction(reorder=0.1))
        with pytest.raises(NotFound, match="no link 'ams-tok'"):
            lab.wan.cut("ams-tok")
        with pytest.raises(NotFound, match="router of 'tok'"):
            lab.wan.put_link(laid(link("ams", "tok", delay="2ms"), 1))
        with pytest.raises(NotFound, match="router of 'tok'"):
            lab.wan.power("tok", on=False)
        assert lab.reaches("ams", "lax")
