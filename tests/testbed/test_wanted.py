"""What a profile means: every address, route and overlay follows from it, and nothing collides."""

from __future__ import annotations

import itertools
import re
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamos.deploy import profiles
from dynamos.model.overheads import TRAITS
from dynamos.model.sites import MOST_NODES
from dynamos.model.subnets import Subnets
from dynamos.testbed import overlays
from dynamos.testbed.addresses import Addresses, Leases, shares
from dynamos.testbed.items import WORLD, Container, Key, Link, Node, Overlay, Router, Routes
from dynamos.testbed.overlay_plans import overlay_name, request_overlay
from dynamos.testbed.wanted import wanted
from support.worlds_of_profiles import profile_of, wanted_of


def test_three_sites_are_what_their_profile_says() -> None:
    found = wanted(profiles.load("three-sites"))
    links = found.of(Link)
    assert [str(link.forward.delay) for link in links.values()] == ["70ms", "52.5ms", "115ms"]
    assert all(link.forward == link.backward and link.forward.rate == 200e6 for link in links.values())
    assert found.of(Node)["tokyo-1"].address == "198.18.2.11/24"
    assert found.of(Node)["tokyo-1"].gateway == "198.18.2.1"
    assert {each.name: each.node for each in found.of(Container).values()} == {
        "safety-board": "amsterdam-1", "registry": "amsterdam-1", "united": "los-angeles-1",
        "delta": "los-angeles-1", "jetblue": "tokyo-1", "weather": "tokyo-1",
    }  # fmt: skip
    assert found.of(Overlay)["market"].mtu == 1500
    assert WORLD in found.items


def test_every_node_knows_all_others_and_every_site_by_name() -> None:
    nodes = wanted_of().of(Node)
    own = {name: node.address.partition("/")[0] for name, node in nodes.items()}
    sites = {"a": own["a-1"], "b": own["b-1"], "c": own["c-1"]}
    for name, node in nodes.items():
        assert node.names == {**sites, **{other: address for other, address in own.items() if other != name}}
    assert all(not node.names for node in wanted_of(driver="ssh").of(Node).values())


def test_a_testbed_of_processes_has_no_networks() -> None:
    assert wanted(profiles.load("laptop")).items == {}


def test_packets_take_the_path_with_the_least_delay() -> None:
    found = wanted_of()
    hops = {hop.destination: (hop.via, hop.link) for hop in found.of(Routes)["a"].hops}
    assert hops == {"198.18.1.0/24": ("198.19.0.2", "a-b"), "198.18.2.0/24": ("198.19.0.2", "a-b")}


def test_among_paths_of_equal_delay_the_one_with_fewer_links_is_taken() -> None:
    links = [{"between": pair, "delay": delay} for pair, delay in ((["a", "b"], 1), (["b", "c"], 1), (["a", "c"], 2))]
    hops = wanted_of(links=links).of(Routes)["a"].hops
    assert [hop.link for hop in hops] == ["a-b", "a-c"]


def test_each_way_of_a_link_may_differ() -> None:
    links = [{"between": ["a", "b"], "delay": "10ms", "loss": "1%", "backward": {"delay": "90ms"}}]
    link = wanted_of(sites={"a": {}, "b": {}}, links=links).of(Link)["a-b"]
    assert (str(link.forward.delay), str(link.backward.delay)) == ("10ms", "90ms")
    assert link.forward.loss == link.backward.loss == 0.01


@pytest.mark.parametrize(
    ("driver", "narrowest", "asked", "mtu"),
    [
        ("none", 1500, None, 1500),
        ("vxlan", 1500, None, 1450),
        ("wireguard", 1280, None, 1200),
        ("vxlan", 1500, 1400, 1400),
    ],
)
def test_the_mtu_of_an_overlay_fits_into_the_narrowest_link(driver, narrowest, asked, mtu) -> None:
    links = [{"between": ["a", "b"]}, {"between": ["b", "c"], "mtu": narrowest}]
    found = wanted_of(links=links, overlay={"driver": driver, "mtu": asked})
    assert found.of(Overlay)["market"].mtu == mtu


def test_where_there_is_no_overlay_containers_are_routed_by_their_own_addresses() -> None:
    found = wanted_of(overlay={"driver": "none"})
    containers = found.of(Container)
    seats = {seat.container: seat.address for seat in found.of(Overlay)["market"].seats}
    assert seats == {name: each.address.partition("/")[0] for name, each in containers.items()}
    for name, router in found.of(Router).items():
        routed = [IPv4Network(hop.destination) for hop in found.of(Routes)[name].hops]
        routed.append(IPv4Interface(router.address).network)
        for each in [*containers.values(), *found.of(Node).values()]:
            assert sum(IPv4Interface(each.address).ip in network for network in routed) == 1


def test_a_group_has_an_overlay_of_its_own_members_only() -> None:
    groups = {"west": {"parties": ["ann", "bea"]}, "a-consortium-with-a-long-name": {"parties": ["ann", "cid"]}}
    found = wanted_of(overlay={"driver": "vxlan", "scope": "group"}, groups=groups).of(Overlay)
    members = {name: [seat.container for seat in overlay.seats] for name, overlay in found.items()}
    assert members == {"west": ["ann", "bea"], overlay_name("a-consortium-with-a-long-name"): ["ann", "cid"]}
    first, second = found.values()
    assert first.number != second.number
    assert not IPv4Network(first.subnet).overlaps(IPv4Network(second.subnet))


def test_with_the_scope_request_nothing_is_there_before_a_request() -> None:
    profile = profile_of(overlay={"driver": "vxlan", "scope": "request"})
    found = wanted(profile)
    assert found.of(Overlay) == {}
    members = [found.of(Container)[name] for name in ("ann", "cid")]
    overlays = [request_overlay(profile, slot, members, found.of(Node)) for slot in (0, 1, 9000)]
    assert len({each.number for each in overlays}) == len({each.name for each in overlays}) == 3
    assert not any(
        IPv4Network(a.subnet).overlaps(IPv4Network(b.subnet)) for a, b in itertools.combinations(overlays, 2)
    )
    assert [seat.address for seat in overlays[1].seats] == ["10.112.0.65", "10.112.0.66"]
    assert [seat.underlay for seat in overlays[1].seats] == ["198.18.0.11", "198.18.2.11"]


def test_parties_are_spread_over_the_nodes_of_their_site() -> None:
    found = wanted_of(sites={"a": {"parties": ["p", "q", "r"], "nodes": ["x", "y"]}}, links=[])
    assert [each.node for each in found.of(Container).values()] == ["x", "y", "x"]
    assert len({each.address for each in found.of(Container).values()}) == 3


def test_machines_that_exist_keep_their_addresses() -> None:
    sites = {
        "a": {"parties": ["p"], "nodes": {"x": {"address": "192.0.2.7"}}},
        "b": {"parties": ["q"], "nodes": {"y": {"address": "192.0.2.8"}}},
    }
    found = wanted_of(driver="ssh", sites=sites, links=[])
    assert {each.kind for each in found.items.values()} == {"node", "container", "overlay"}
    assert [seat.underlay for seat in found.of(Overlay)["market"].seats] == ["192.0.2.7", "192.0.2.8"]


def test_what_is_added_at_the_end_of_a_file_moves_nobody() -> None:
    more = wanted_of(
        sites={
            "a": {"parties": ["ann", "abe", "amy"]},
            "b": {"parties": ["bea"], "nodes": 1},
            "c": {"parties": ["cid"], "nodes": 3},
            "d": {"parties": ["dan"]},
        }
    ).items
    same = (Router, Link, Node, Container)
    before = {key: item for key, item in wanted_of().items.items() if isinstance(item, same)}
    assert all(more[key].can_become(item) for key, item in before.items())
    assert [key.name for key, item in before.items() if more[key] != item] == ["a-1", "b-1", "c-1", "c-2"], "the names"


def test_no_two_things_have_an_address_in_common() -> None:
    plan, room = Addresses(Subnets()), shares(Subnets())
    sites, nodes = (0, 1, 49, 199), (0, 1, MOST_NODES - 1)
    links = (0, 1, 1224, room.links - 1)
    seen = [plan.router(site) for site in sites]
    seen += [plan.node(site, node) for site in sites for node in nodes]
    seen += [end for link in links for end in plan.link(link)]
    seen += [
        plan.container(site, node, slot) for site in sites for node in nodes for slot in (0, 1, room.containers - 1)
    ]
    seen += [plan.shared(site, slot) for site in sites for slot in (0, 1, 100)]
    assert len({address.partition("/")[0] for address in seen}) == len(seen)
    assert room.sites >= 200
    assert room.links >= 50 * 49 // 2
    assert room.requests >= 8192


@given(prefix=st.integers(8, 26), slot=st.integers(0, 2**18))
def test_a_part_of_a_range_is_in_it_and_apart_from_the_next(prefix: int, slot: int) -> None:
    plan = Addresses(Subnets(requests=IPv4Network((10 << 24, prefix))))
    room = shares(plan.subnets).requests
    if slot >= room:
        with pytest.raises(ValueError):
            plan.request(slot)
        return
    found = plan.request(slot)
    assert found.subnet_of(plan.subnets.requests)
    assert slot + 1 == room or not found.overlaps(plan.request(slot + 1))


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.booleans())))
def test_leases_are_never_shared_and_never_lost(calls: list[tuple[str, bool]]) -> None:
    leases = Leases(4)
    for name, take in calls:
        if take:
            before = leases.held.get(name)
            slot = leases.take(name)
            assert before in (None, slot)
            assert slot is not None or len(leases.held) == 4
        else:
            leases.give_back(name)
        held = list(leases.held.values())
        assert len(set(held)) == len(held)
    again = Leases(4, leases.held)
    assert all(again.take(name) == slot for name, slot in leases.held.items())


def test_a_slot_that_was_given_back_is_the_last_to_be_given_out() -> None:
    leases = Leases(3)
    assert [leases.take(name) for name in "abc"] == [0, 1, 2]
    assert leases.take("d") is None
    leases.give_back("b")
    leases.give_back("a")
    assert [leases.take(name) for name in "de"] == [1, 0]


def test_the_options_that_drivers_read_are_those_that_profiles_may_set() -> None:
    modules = Path(overlays.__file__).parent.glob("*.py")
    read = {name for path in modules for name in re.findall(r"options\.get\(\"(\w+)\"", path.read_text())}
    assert read
    assert read <= {name for traits in TRAITS.values() for name in traits.options}


def test_names_of_overlays_fit_devices_and_differ() -> None:
    texts = ["west", "market", "request-1", "a" * 15, "a" * 16, "a" * 17, "wést", "w.st"]
    names = [overlay_name(text) for text in texts]
    assert names[0] == "west"
    assert len({*names, "market", "request-1"}) == len(texts) + 2
    assert all(len(name) <= 15 and name.isascii() for name in names)


def test_the_same_profile_gives_the_same_state() -> None:
    assert wanted_of() == wanted_of()
    assert Key("node", "c-2") in wanted_of().items
