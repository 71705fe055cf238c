"""What every overlay driver does: the same cases over all of them, between three sites in a world of their own."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from dynamos.kit.errors import BadInput
from dynamos.model.overheads import TRAITS
from dynamos.testbed.overlays import networks, registry
from support.overlays import PORT, Capture, Interrupted, Lab, changes, material_of, torn, unable, until

pytestmark = [pytest.mark.testbed, pytest.mark.skipif(bool(unable()), reason=unable())]

CANARY = "canary-9f3c1e7d-that-nobody-else-may-see"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    made = Lab(tmp_path_factory.mktemp("lab"))
    yield made
    made.world.kill()


@pytest.fixture(params=sorted(registry.drivers()))
def driver(request, lab):
    found = registry.driver(request.param)
    lacks = found.missing(lab.nodes["ams"])
    if lacks:
        pytest.skip("; ".join(str(mistake) for mistake in lacks))
    return found


@pytest.fixture
def up(lab, driver):
    """Brings networks up, and takes down at the end what is up still."""
    made = []

    def bring(network, *containers):
        members = lab.members(network, *containers)
        made.append((network, members))
        networks.bring(network, members, driver)
        return members

    yield bring
    for network, members in made:
        networks.take_down(network, members, driver)


def everybody(lab, members, key="name", **options):
    """What each member hears from every other one."""
    return {
        member.name: lab.hear(
            member.container, {p.name: getattr(p, key) for p in members if p is not member}, **options
        )
        for member in members
    }


def all_hear_all(members, said="hello"):
    return {m.name: {p.name: f"{p.name} heard {said}" for p in members if p is not m} for m in members}


def test_capabilities_agree_with_what_profiles_are_checked_against(driver):
    traits = TRAITS[driver.name]
    told = driver.capabilities
    assert (told.layer, told.encrypts, told.overhead) == (traits.layer, traits.encrypts, traits.overhead)


def test_three_sites_talk_both_ways_by_name_and_address_with_the_right_mtu(lab, driver, up):
    network = lab.network(driver)
    members = up(network, "ams1", "los1", "tok1")
    assert everybody(lab, members) == all_hear_all(members)
    assert everybody(lab, members, "address", said="x" * 200_000) == all_hear_all(members, "x" * 200_000)
    assert networks.verify_mtu(network, members, driver) == []


def test_who_is_called_sees_the_address_of_who_calls(lab, driver, up):
    members = up(lab.network(driver), "ams1", "los1", "tok1")
    for member in members:
        others = {peer.name: peer.address for peer in members if peer is not member}
        told = lab.hear(member.container, others, said="who am I?")
        assert told == {name: f"{name} heard {member.address}" for name in others}


def test_two_members_on_one_node_talk_too(lab, driver, up):
    members = up(lab.network(driver), "ams1", "ams2", "los1")
    assert everybody(lab, members) == all_hear_all(members)


def test_who_is_not_in_it_does_not_get_in(lab, driver, up):
    members = up(lab.network(driver), "ams1", "los1")
    addresses = {member.name: member.address for member in members}
    for outsider in ("ams2", "tok1"):
        assert lab.hear(lab.containers[outsider], addresses, within=0.5) == {}
    for node in lab.nodes.values():
        assert lab.hear(node, addresses, within=0.5) == {}
    forged = lab.nodes["tok"]
    forged.run(["ip", "route", "add", members[0].address, "via", members[0].underlay])
    try:
        assert lab.hear(forged, addresses, within=0.5) == {}
    finally:
        forged.run(["ip", "route", "del", members[0].address])


def test_a_container_has_no_other_network(lab, driver, up):
    members = up(lab.network(driver), "ams1", "los1")
    for member in members:
        assert lab.hear(member.container, lab.underlays, port=22, within=0.5) == {}
        told = json.loads(member.container.run(["ip", "-j", "-4", "route", "show", "default"]).text or "[]")
        assert told == []


def test_rules_in_a_container_see_what_leaves_it_as_it_is(lab, driver, up):
    members = up(lab.network(driver), "ams1", "los1", "tok1")
    ams, los, _ = members
    drop = f"ip daddr {los.address} tcp dport {PORT} counter drop"
    rules = f"table inet edge {{ chain out {{ type filter hook output priority 0; oif lo accept; {drop}; }}; }}"
    ams.container.run(["nft", "-f", "-"], stdin=rules.encode())
    try:
        assert lab.hear(ams.container, {"los1": "los1", "tok1": "tok1"}, within=0.5) == {"tok1": "tok1 heard hello"}
        assert driver.unreached(lab.network(driver), ams, members[1:]) == []
    finally:
        ams.container.run(["nft", "delete", "table", "inet", "edge"])


def test_two_networks_do_not_touch(lab, driver, up):
    one, two = lab.network(driver, "one", 2), lab.network(driver, "two", 3)
    first, second = up(one, "ams1", "los1", "tok1"), up(two, "ams1", "ams2", "los2")
    assert everybody(lab, first) == all_hear_all(first)
    assert everybody(lab, second) == all_hear_all(second)
    only_two = next(m for m in second if m.name == "ams2")
    strangers = {m.name: m.address for m in first if m.name != "ams1"}
    assert lab.hear(only_two.container, strangers, within=0.5) == {}
    networks.take_down(one, first, driver)
    assert everybody(lab, second) == all_hear_all(second)


def test_a_member_leaves_and_joins_again(lab, driver, up):
    network = lab.network(driver)
    ams, los, tok = members = up(network, "ams1", "los1", "tok1")
    networks.take_down(network, [los], driver, rest=[ams, tok])
    assert everybody(lab, [ams, tok]) == all_hear_all([ams, tok])
    assert lab.hear(ams.container, {"los1": los.address}, within=0.5) == {}
    networks.bring(network, [los], driver, present=[ams, tok])
    assert everybody(lab, members) == all_hear_all(members)


def test_joining_again_breaks_no_connection(lab, driver, up):
    network = lab.network(driver)
    members = up(network, "ams1", "los1")
    ams = members[0].container
    ams.start("slow", ["python3", "-I", "-S", "-c", _SLOW, "los1", "7000", "/tmp/heard"])
    until("a connection", lambda: b"connected" in ams.log("slow").read_bytes())
    networks.bring(network, members, driver)
    ams.put("/tmp/go", b"")
    try:
        assert until("the answer", lambda: ams.run(["cat", "/tmp/heard"], check=False).text) == "los1 heard at last"
    finally:
        ams.stop("slow")
        ams.run(["rm", "-f", "/tmp/go", "/tmp/heard"])
        ams.log("slow").unlink()


def test_nothing_stays(lab, driver, up):
    before = lab.traces()
    network = lab.network(driver)
    members = up(network, "ams1", "ams2", "los1", "tok1")
    assert changes(before, lab.traces())
    assert any(driver.verify_gone(network, member) for member in members)
    networks.take_down(network, members, driver)
    assert changes(before, lab.traces()) == []
    networks.take_down(network, members, driver)
    assert changes(before, lab.traces()) == []


@pytest.mark.parametrize("half", [False, True], ids=["between-steps", "within-a-step"])
def test_an_interruption_anywhere_is_survived(lab, driver, up, half):
    before = lab.traces()
    network = lab.network(driver)
    members = lab.members(network, "ams1", "los1")
    for last in range(1, 100):
        left = [last]
        broken = [torn(members[0], left, half=half), members[1]]
        try:
            material = material_of(driver, network, broken)
            for member in broken:
                driver.join(network, member, material)
        except Interrupted:
            if last % 2:
                for member in members:
                    driver.leave(network, member)
                assert [driver.verify_gone(network, member) for member in members] == [[], []], last
            continue
        break
    assert last > 1
    up(network, "ams1", "los1")
    assert everybody(lab, members) == all_hear_all(members)
    for last in range(1, 100):
        left = [last]
        try:
            driver.leave(network, torn(members[0], left, half=half))
        except Interrupted:
            continue
        break
    networks.take_down(network, members, driver)
    assert changes(before, lab.traces()) == []


def test_what_crosses_holds_no_secret_and_stays_the_same(lab, driver):
    network = lab.network(driver)
    members = lab.members(network, "ams1", "los1")
    try:
        material = material_of(driver, network, members)
        assert material_of(driver, network, members) == material
        text = json.dumps(material)
        assert "PRIVATE" not in text.upper().replace("PRIVATE-", "")
        assert all(isinstance(value, str) for said in material.values() for value in said.values())
        for secret in _secrets(members):
            assert secret not in text
    finally:
        networks.take_down(network, members, driver)


def test_another_site_cannot_write_our_configuration(lab, driver):
    network = lab.network(driver)
    members = lab.members(network, "ams1", "los1")
    before = lab.traces()
    try:
        material = material_of(driver, network, members)
        for key in material["los1"]:
            for evil in ("1; reboot", "198.18.0.9\nlink del wan0", "$(reboot)", ""):
                with pytest.raises(BadInput):
                    driver.join(network, members[0], {**material, "los1": {**material["los1"], key: evil}})
        with pytest.raises(BadInput):
            driver.join(network, members[0], {**material, "x y": {**material["los1"], "address": "10.80.1.77"}})
        with pytest.raises(BadInput):
            driver.join(network, members[0], {"los1": material["los1"]})
    finally:
        networks.take_down(network, members, driver)
    assert changes(before, lab.traces()) == []


def test_data_are_seen_on_the_wan_only_where_nothing_encrypts(lab, driver, up):
    members = up(lab.network(driver), "ams1", "los1")
    with Capture(lab.nodes["ams"]) as seen:
        assert everybody(lab, members, said=CANARY) == all_hear_all(members, CANARY)
    assert len(seen.bytes) > 1000
    assert (CANARY.encode() in seen.bytes) is not driver.capabilities.encrypts


def test_what_dies_comes_back(lab, driver, up):
    members = up(lab.network(driver), "ams1", "los1")
    node = members[0].gateway
    ours = {name: told for name, told in node.daemons().items() if told["pid"]}
    if not ours:
        pytest.skip("it has no daemons")
    node.run(["kill", "-9", *(str(told["pid"]) for told in ours.values())])
    until("new processes", lambda: all(node.daemons()[n]["pid"] not in (0, ours[n]["pid"]) for n in ours))
    until("the network", lambda: everybody(lab, members, within=1.0) == all_hear_all(members), within=30.0)


def test_a_container_that_is_gone_is_no_obstacle(lab, driver):
    before = lab.traces()
    network = lab.network(driver)
    passing = lab.nodes["ams"].container("passing")
    around = lab.traces()
    members = lab.members(network, "ams1", "los1")
    members[0] = replace(members[0], name="passing", container=passing)
    try:
        material = material_of(driver, network, members)
        for member in members:
            driver.join(network, member, material)
        assert changes(around, lab.traces())
    finally:
        passing.destroy()
        networks.take_down(network, members, driver)
    until("the end of the container", lambda: passing.name not in lab.nodes["ams"].run(["ip", "netns"]).text)
    assert changes(before, lab.traces()) == []


def _secrets(members):
    """The bodies of private keys that are in files of the members' nodes."""
    script = (
        "find /run /etc /root -path /run/store -prune -o -type f -print0 | xargs -0 grep -hA1 'PRIVATE KEY' || true"
    )
    for member in members:
        yield from (line for line in member.gateway.run(["sh", "-c", script]).text.split() if len(line) > 40)


_SLOW = """
import os, socket, sys, time
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as talk:
    talk.sendall(b"at "); print("connected", flush=True)
    while not os.path.exists("/tmp/go"): time.sleep(0.02)
    talk.sendall(b"last"); talk.shutdown(socket.SHUT_WR)
    text = talk.recv(100)
open(sys.argv[3], "wb").write(text)
while True: time.sleep(60)
"""
