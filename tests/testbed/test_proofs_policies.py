"""What policy expects of a testbed's networks, without any network."""

import pytest

from dynamos.kit.errors import Broken
from dynamos.testbed.items import Overlay, Seat
from dynamos.testbed.proofs.canaries import Canaries, Sighting
from dynamos.testbed.proofs.forgeries import forgeries, packets
from dynamos.testbed.proofs.inside import forge
from dynamos.testbed.proofs.matrices import Cell, Matrix
from dynamos.testbed.proofs.policies import Edge, Situation, expectations

PLACES = {"ann": ("n1", 1), "bea": ("n2", 2), "cid": ("n3", 3), "abe": ("n1", 4)}
CONTAINERS = {name: node for name, (node, _) in PLACES.items()}
CELL = Cell("now", "ann", "bea", "10.80.1.2", "tcp", 9, expected=True, observed=True, why="")


def overlay(name, number, *members, driver="vxlan"):
    seats = tuple(
        Seat(
            container=each,
            node=PLACES[each][0],
            underlay=f"198.18.0.{PLACES[each][0][1:]}",
            address=f"10.80.{number}.{PLACES[each][1]}",
        )
        for each in members
    )
    subnet = f"10.80.{number}.0/24"
    return Overlay(name=name, driver=driver, scope="request", number=number, subnet=subnet, mtu=1450, seats=seats)


def allowed(*live, **more):
    """The ways that are allowed, as (source, target, protocol, port)."""
    found = expectations(Situation(CONTAINERS, live, **more), exchange=8815, other=9)
    return {(f.source, f.target, f.protocol, f.port) for each in found if each.allowed for f in [each.flow]}


def test_without_an_overlay_nobody_reaches_anybody():
    assert allowed() == set()


def test_members_of_an_overlay_reach_each_other_in_every_way():
    found = allowed(overlay("one", 1, "ann", "bea"))
    assert {(source, target) for source, target, _, _ in found} == {("ann", "bea"), ("bea", "ann")}
    assert {(protocol, port) for _, _, protocol, port in found} == {
        ("tcp", 8815), ("tcp", 9), ("udp", 8815), ("udp", 9), ("icmp", 0),
    }  # fmt: skip


def test_edges_are_all_that_is_allowed_and_lead_one_way():
    one = overlay("one", 1, "ann", "bea", "cid")
    found = allowed(one, edges={"one": (Edge("ann", "bea", 8815), Edge("bea", "cid"))})
    by_tcp = {each for each in found if each[2] == "tcp"}
    assert by_tcp == {("ann", "bea", "tcp", 8815), ("bea", "cid", "tcp", 8815), ("bea", "cid", "tcp", 9)}
    assert {each[:2] for each in found if each[2] == "udp"} == {("bea", "cid")}


def test_probes_pass_between_members_also_where_no_edge_is():
    found = allowed(overlay("one", 1, "ann", "bea"), edges={"one": ()})
    assert found == {("ann", "bea", "icmp", 0), ("bea", "ann", "icmp", 0)}


def test_an_overlay_of_connections_carries_neither_datagrams_nor_pings():
    found = allowed(overlay("one", 1, "ann", "bea", driver="mtls"))
    assert {protocol for _, _, protocol, _ in found} == {"tcp"}


def test_another_overlay_and_one_that_is_gone_lead_nowhere():
    one, two = overlay("one", 1, "ann", "bea"), overlay("two", 2, "ann", "cid")
    tries = expectations(Situation(CONTAINERS, (one,), gone=(two,)), exchange=8815, other=9)
    to_two = [each for each in tries if each.flow.address.startswith("10.80.2.")]
    assert {each.flow.source for each in to_two} == {*CONTAINERS, *CONTAINERS.values()}
    assert not any(each.allowed for each in to_two)


def test_an_address_that_is_in_several_overlays_is_open_to_the_members_of_any():
    one, two = overlay("one", 1, "ann", "bea"), overlay("two", 1, "cid", "bea")
    found = allowed(one, two)
    assert {("ann", "bea"), ("cid", "bea")} <= {each[:2] for each in found}
    assert ("ann", "cid") not in {each[:2] for each in found}


def test_sites_are_closed_to_containers_but_for_what_the_contract_says():
    places = {"node n1": "198.18.0.1", "router a": "198.18.0.254"}
    found = allowed(places=places, control=(Edge("ann", "node n1", 4222),))
    assert found == {("ann", "node n1", "tcp", 4222)}


def test_nodes_and_outsiders_reach_no_address_of_an_overlay():
    situation = Situation(CONTAINERS, (overlay("one", 1, "ann", "bea"),), outsiders=("spy",))
    found = [each for each in expectations(situation, exchange=8815, other=9) if each.flow.source not in CONTAINERS]
    assert {each.flow.source for each in found} == {"n1", "n2", "n3", "spy"}
    assert not any(each.allowed for each in found)


def test_who_has_no_seat_in_an_overlay_tries_to_forge_its_packets():
    found = forgeries([overlay("one", 1, "ann", "bea")], ["n1", "n3", "spy"])
    assert {each.outsider for each in found} == {"n3", "spy"}
    assert {each.seat.container for each in found} == {"ann", "bea"}


def test_a_forged_packet_is_one_of_the_overlay():
    (first, *_) = forgeries([overlay("one", 1, "ann", "bea")], ["spy"])
    text = forge.frame(packets(first, 9, None)[0])
    assert text[:8] == bytes.fromhex("0800000000000100")
    assert text[20:22] == b"\x08\x00"
    assert text[22] == 0x45
    assert forge._checksum(text[22:42]) == 0
    assert first.token.encode() in text


def test_a_matrix_holds_only_if_nothing_leaks_nothing_is_blocked_and_something_was_tried():
    leak = Cell("now", "ann", "cid", "10.80.1.3", "udp", 9, expected=False, observed=True, why="cid is elsewhere")
    blocked = Cell("now", "ann", "bea", "10.80.1.2", "icmp", 0, expected=True, observed=False, why="both are in one")
    assert Matrix((CELL,)).holds
    Matrix((CELL,)).check()
    for wrong in (Matrix(()), Matrix((CELL, leak)), Matrix((CELL, blocked))):
        assert not wrong.holds
        with pytest.raises(Broken):
            wrong.check()
    with pytest.raises(Broken, match="1 leaks and 1 blocked") as told:
        (Matrix((leak,)) + Matrix((blocked,))).check()
    assert "leak: ann to cid at 10.80.1.3, udp 9: cid is elsewhere" in told.value.facts["log"][0]


def sighting(*, encrypts=True, delivered=True, seen=0, passed=5000, missed=0):
    return Sighting("one", "x", encrypts, "ann", "bea", delivered, {"wan": seen}, 4000, passed, missed)


@pytest.mark.parametrize(
    ("verdict", "of"),
    [
        ("ok", {}),
        ("plaintext", {"seen": 3}),
        ("ok", {"encrypts": False, "seen": 3}),
        ("unseen", {"encrypts": False}),
        ("unseen", {"passed": 100}),
        ("unseen", {"missed": 1}),
        ("undelivered", {"delivered": False}),
        ("undelivered", {"delivered": False, "seen": 3}),
    ],
)
def test_a_canary_proves_something_only_where_it_arrived_and_the_look_was_good(verdict, of):
    found = Canaries((sighting(**of),))
    assert found.sightings[0].verdict == verdict
    assert found.holds is (verdict == "ok")
    if verdict != "ok":
        with pytest.raises(Broken):
            found.check()


def test_no_canary_is_no_proof():
    with pytest.raises(Broken, match="no canary"):
        Canaries(()).check()
