"""Bringing whole overlays up and down: in which order, what is undone, and what is told. No hosts are needed."""

from __future__ import annotations

import pytest

from dynamos.kit.errors import BadInput, Broken, JobFailed, NotFound, TimedOut
from dynamos.testbed.hosts import Completed
from dynamos.testbed.overlays import materials, needs, networks, registry
from dynamos.testbed.overlays.drivers import Capabilities, Member, Network, capabilities_of

NET = Network("net", 7, "10.80.7.0/24", 1450)


class Paper:
    """A host that only answers."""

    def __init__(self, name="paper", answer=""):
        self.name, self.site, self._answer, self.asked = name, "", answer, []

    def run(self, argv, **options):
        self.asked.append((argv, options))
        return Completed(tuple(argv), 0, self._answer.encode(), b"")


def member(name, place):
    return Member(name, Paper(name), Paper(f"node-of-{name}"), f"198.18.0.{place}", f"10.80.7.{place}")


class Told:
    """A driver that remembers who is in, and fails where it is told to."""

    name = "vxlan"
    capabilities = capabilities_of("vxlan", {})

    def __init__(self, *, fails=None, deaf=(), leaves=(), says=None):
        self.inside, self.fails, self.deaf, self.leaves, self.says = {}, fails, deaf, leaves, says or {}

    def prepare(self, network, member):
        return materials.facts(member) | self.says

    def join(self, network, member, material):
        if member.name == self.fails:
            raise JobFailed("no")
        self.inside[member.name] = sorted(material)

    def unreached(self, network, member, peers):
        return [peer.name for peer in peers if (member.name, peer.name) in self.deaf]

    def leave(self, network, member):
        self.inside.pop(member.name, None)

    def verify_gone(self, network, member):
        return [f"{member.name}: a device"] if member.name in self.leaves else []


A, B, C = member("a", 1), member("b", 2), member("c", 3)


def test_everybody_joins_knowing_everybody():
    driver = Told()
    took = networks.bring(NET, [A, B, C], driver)
    assert driver.inside == {name: ["a", "b", "c"] for name in "abc"}
    assert took.total == took.prepare + took.join + took.reach


def test_a_failure_leaves_nothing_behind():
    driver = Told(fails="b")
    with pytest.raises(JobFailed):
        networks.bring(NET, [A, B], driver)
    assert driver.inside == {}


def test_those_who_were_there_go_on_when_somebody_cannot_join():
    driver = Told()
    networks.bring(NET, [A, B], driver)
    driver.fails = "c"
    with pytest.raises(JobFailed):
        networks.bring(NET, [C], driver, present=[A, B])
    assert driver.inside == {"a": ["a", "b"], "b": ["a", "b"]}


def test_pairs_that_do_not_reach_each_other_are_named():
    driver = Told(deaf={("a", "c")})
    with pytest.raises(TimedOut, match=r"'net' it did not get from a to c within 0\.05 s"):
        networks.bring(NET, [A, B, C], driver, within=0.05)
    assert driver.inside == {}


def test_a_key_does_not_cross():
    driver = Told(says={"key": "-----BEGIN PRIVATE KEY-----"})
    with pytest.raises(Broken):
        networks.bring(NET, [A, B], driver)
    assert driver.inside == {}


def test_what_is_left_is_told():
    with pytest.raises(Broken, match="b: a device"):
        networks.take_down(NET, [A, B], Told(leaves="b"))


def test_the_rest_forgets_who_left():
    driver = Told()
    networks.bring(NET, [A, B, C], driver)
    networks.take_down(NET, [C], driver, rest=[A, B])
    assert driver.inside == {"a": ["a", "b"], "b": ["a", "b"]}


@pytest.mark.parametrize("twin", [member("a", 9), member("d", 1)], ids=["name", "address"])
def test_two_of_the_same_are_refused(twin):
    with pytest.raises(BadInput, match="two members"):
        networks.bring(NET, [A, twin], Told())


@pytest.mark.parametrize(
    ("name", "number", "subnet"),
    [("", 1, "10.0.0.0/24"), ("a" * 16, 1, "10.0.0.0/24"), ("a b", 1, "10.0.0.0/24"), ("../x", 1, "10.0.0.0/24"),
     ("lo", 1, "10.0.0.0/24"), ("net", 0, "10.0.0.0/24"), ("net", 2**24, "10.0.0.0/24"), ("net", 1, "10.0.0.1/24")],
)  # fmt: skip
def test_networks_that_cannot_be_are_refused(name, number, subnet):
    with pytest.raises(BadInput):
        Network(name, number, subnet, 1450)


def test_members_outside_the_subnet_are_refused():
    stranger = Member("x", Paper(), Paper(), "198.18.0.1", "10.81.0.1")
    with pytest.raises(BadInput, match=r"10\.81\.0\.1 is not in the subnet"):
        networks.bring(NET, [A, stranger], Told())
    with pytest.raises(BadInput):
        Member("x", Paper(), Paper(), "here; reboot", "10.80.7.1")


def test_material_with_two_members_of_one_address_or_name_is_refused():
    facts = materials.facts(A)
    with pytest.raises(BadInput, match="is of 'a' already"):
        materials.peers(NET, {"a": facts, "b": facts})
    with pytest.raises(BadInput, match="is of 'A' already"):
        materials.peers(NET, {"a": facts, "A": materials.facts(B)})


def test_a_member_that_is_told_something_else_of_itself_is_refused():
    with pytest.raises(BadInput):
        materials.others(NET, A, {"a": materials.facts(B)})


def test_what_a_host_lacks_is_told_with_its_remedy():
    host = Paper("node", "program haproxy\nkernel vxlan\n")
    told = needs.lacking(
        host, Capabilities(2, encrypts=False, overhead=0, programs={"haproxy": "haproxy"}, kernel=("vxlan",))
    )
    assert [str(mistake) for mistake in told] == [
        "node: the program 'haproxy' is missing (install Debian's package haproxy, or run `dynamos doctor --fix`)",
        "node: this kernel has no 'vxlan' (use another driver on this machine)",
    ]


def test_drivers_are_found_by_name():
    assert {"none", "vxlan", "evpn", "mtls"} <= set(registry.drivers())
    for name, driver in registry.drivers().items():
        assert driver.name == name
    with pytest.raises(NotFound, match="did you mean 'vxlan'"):
        registry.driver("vxlam")
