"""Proofs over real networks: what is right is found right, and what was broken on purpose is found."""

from contextlib import contextmanager

import pytest

from dynamos.testbed.overlays import ends, networks, registry
from dynamos.testbed.proofs.canaries import canaries
from dynamos.testbed.proofs.captures import Spot, way_device
from dynamos.testbed.proofs.isolation import isolation
from dynamos.testbed.proofs.policies import Edge
from support.overlays import Lab, changes, unable
from support.proofs import overlay_of, situation_of

pytestmark = [pytest.mark.testbed, pytest.mark.skipif(bool(unable()), reason=unable())]

QUICK = 1.2


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    made = Lab(tmp_path_factory.mktemp("proofs"))
    yield made
    made.world.kill()


@pytest.fixture(scope="module")
def hosts(lab):
    return {**lab.nodes, **lab.containers}


@contextmanager
def up(lab, number, *names, driver="vxlan"):
    """A network of these containers, and its item."""
    made = registry.driver(driver)
    network = lab.network(made, f"net{number}", number)
    members = lab.members(network, *names)
    networks.bring(network, members, made)
    try:
        yield network, members, overlay_of(network, members, driver)
    finally:
        networks.take_down(network, members, made)


@pytest.fixture(scope="module")
def two(lab):
    with up(lab, 1, "ams1", "ams2", "los1") as one, up(lab, 2, "los1", "los2") as other:
        yield one, other


def spots(lab):
    return [Spot(name, node, "wan0") for name, node in lab.nodes.items()]


def traces(lab):
    """What there is, without how often rules have matched."""
    return {name: [line for line in lines if "counter" not in line] for name, lines in lab.traces().items()}


def wrong(matrix):
    return {(c.verdict, c.source, c.target, c.protocol) for c in (*matrix.leaks, *matrix.blocked)}


def test_two_overlays_are_as_policy_says_and_nothing_stays_of_the_proof(lab, hosts, two):
    before = traces(lab)
    (_, _, one), (_, _, other) = two
    found = isolation(situation_of(lab, one, other), hosts, patience=QUICK)
    assert wrong(found) == set()
    assert {cell.protocol for cell in found.cells} == {"tcp", "udp", "icmp", "forged"}
    assert {cell.source for cell in found.cells} == set(hosts)
    assert changes(before, traces(lab)) == []


def test_an_overlay_of_somebody_who_is_not_to_be_in_it_leaks(lab, hosts, two):
    (_, _, one), (_, _, other) = two
    fewer = one.with_seats(one.seats[:2])
    found = isolation(situation_of(lab, fewer, other), hosts, patience=QUICK)
    assert ("leak", "los1", "ams1", "tcp") in wrong(found)
    assert {source for _, source, *_ in wrong(found)} == {"los1", "los"}


def test_an_overlay_that_should_be_gone_leaks(lab, hosts, two):
    (_, _, one), (_, _, other) = two
    found = isolation(situation_of(lab, one, gone=(other,)), hosts, patience=QUICK)
    assert ("leak", "los1", "los2", "icmp") in wrong(found)


@pytest.mark.parametrize("verdict", ["drop", "reject with tcp reset"])
def test_what_policy_permits_and_something_drops_is_told_as_blocked(lab, hosts, two, verdict):
    (_, _, one), (_, _, other) = two
    box = lab.containers["los2"]
    rule = f"table inet t {{ chain c {{ type filter hook input priority 0; tcp dport 9 {verdict}; }}; }}"
    box.run(["nft", "-f", "-"], stdin=rule.encode())
    try:
        found = isolation(situation_of(lab, one, other), hosts, patience=QUICK)
    finally:
        box.run(["nft", "delete", "table", "inet", "t"])
    assert wrong(found) == {("blocked", "los1", "los2", "tcp")}


def test_a_way_that_no_edge_permits_leaks_where_nobody_enforces_edges(lab, hosts, two):
    (_, _, one), _ = two
    edges = {one.name: (Edge("los1", "ams1", 8815),)}
    found = isolation(situation_of(lab, one, edges=edges), hosts, patience=QUICK)
    assert ("leak", "ams1", "los1", "tcp") in wrong(found)
    assert not found.blocked


def test_a_node_with_a_way_into_an_overlay_leaks(lab, hosts, two):
    (network, members, one), (_, _, other) = two
    node = lab.nodes["tok"]
    add = f"ip link add spy type veth peer name spy netns {members[0].container.name}"
    gateway = members[0].gateway
    gateway.run(["sh", "-c", f"{add} && ip addr add {network.subnet[:-4]}200/24 dev spy && ip link set spy up"])
    members[0].container.run(["ip", "link", "set", "spy", "up"])
    members[0].container.run(["ip", "route", "add", f"{network.subnet[:-4]}200", "dev", "spy"])
    try:
        found = isolation(situation_of(lab, one, other), {**hosts, node.name: node}, patience=QUICK)
    finally:
        gateway.run(["ip", "link", "del", "spy"])
    assert ("leak", "ams", "ams1", "tcp") in wrong(found)


def test_a_guessed_number_gets_in_where_nodes_do_not_look_who_sends(lab, hosts, two):
    (network, members, one), (_, _, other) = two
    table = ends.table(network, members[0])
    gateway = members[0].gateway
    rules = gateway.run(["nft", "list", "table", "inet", table]).stdout
    gateway.run(["nft", "delete", "table", "inet", table])
    try:
        found = isolation(situation_of(lab, one, other), hosts, patience=QUICK)
    finally:
        gateway.run(["nft", "-f", "-"], stdin=rules)
    assert ("leak", "tok", "ams1", "forged") in wrong(found)


def test_a_datagram_that_gets_in_is_a_leak_though_no_answer_gets_out(lab, hosts, two):
    (_, _, one), (_, _, other) = two
    box = lab.containers["ams1"]
    box.run(["nft", "-f", "-"], stdin=b"table inet t { chain c { type filter hook output priority 0; drop; }; }")
    try:
        found = isolation(situation_of(lab, one.with_seats(one.seats[:2]), other), hosts, patience=QUICK)
    finally:
        box.run(["nft", "delete", "table", "inet", "t"])
    leaks = [c for c in found.leaks if (c.source, c.target) == ("los1", "ams1")]
    assert {(c.protocol, c.evidence) for c in leaks} == {("udp", "heard there, though no answer came back")}


def test_a_canary_is_seen_on_the_links_of_a_driver_that_does_not_encrypt(lab, hosts, two):
    assert way_device(lab.nodes["ams"], lab.underlays["los"]) == "wan0"
    (_, _, one), _ = two
    found = canaries([one], hosts, spots(lab))
    assert found.holds
    assert {(each.source, each.target) for each in found.sightings} == {
        ("ams1", "los1"), ("los1", "ams1"), ("ams2", "los1"), ("los1", "ams2"),
    }  # fmt: skip
    for each in found.sightings:
        assert each.seen["ams"]
        assert each.seen["los"]
        assert each.seen["tok"] == 0


def test_a_canary_in_the_open_is_told_where_the_driver_is_to_encrypt(lab, hosts, two):
    (_, _, one), _ = two
    found = canaries([one.model_copy(update={"driver": "wireguard"})], hosts, spots(lab))
    assert {each.verdict for each in found.sightings} == {"plaintext"}


def test_a_look_at_the_wrong_place_proves_nothing(lab, hosts, two):
    (_, _, one), _ = two
    found = canaries([one], hosts, [Spot("tok", lab.nodes["tok"], "wan0")])
    assert {each.verdict for each in found.sightings} == {"unseen"}


@pytest.mark.e2e
@pytest.mark.parametrize("driver", sorted(registry.drivers()))
def test_each_driver_isolates_and_encrypts_as_it_says(lab, hosts, driver):
    lacks = registry.driver(driver).missing(lab.nodes["ams"])
    if lacks:
        pytest.skip("; ".join(map(str, lacks)))
    with up(lab, 7, "ams1", "ams2", "tok1", driver=driver) as (_, _, item):
        matrix = isolation(situation_of(lab, item), hosts, patience=QUICK)
        birds = canaries([item], hosts, spots(lab))
    assert wrong(matrix) == set()
    assert {each.verdict for each in birds.sightings} == {"ok"}
    after = isolation(situation_of(lab, gone=(item,)), hosts, patience=QUICK)
    assert wrong(after) == set()
