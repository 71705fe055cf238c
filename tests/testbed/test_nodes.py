"""Nodes are machines of their own: names, users, files, networks, and an end that leaves nothing."""

import threading
from pathlib import Path

import pytest

from dynamos.kit.errors import BadInput, Conflict, JobFailed, NotFound
from support.worlds import Held, eventually, made_world, needs

pytestmark = pytest.mark.testbed


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with made_world(tmp_path_factory.mktemp("nodes")) as made:
        yield made


def test_a_node_has_a_name_processes_and_a_network_of_its_own(world):
    node = world.node("ams-1", "amsterdam")
    assert node.run(["hostname"]).text == "ams-1\n"
    assert node.get("/etc/hostname") == b"ams-1\n"
    assert [line.split(":")[1].strip() for line in node.run(["ip", "-o", "link"]).text.splitlines()] == ["lo"]
    assert node.run(["ping", "-c1", "-W5", "127.0.0.1"]).code == 0
    assert len(node.run(["ps", "-e", "-o", "pid="]).text.split()) == 2  # its init, and ps
    assert node.run(["sh", "-c", "test -c /dev/net/tun && ip tuntap add tap0 mode tap && ip link del tap0"]).code == 0
    assert node.run(["sh", "-c", "nft add table inet mine && nft delete table inet mine"]).code == 0


def test_a_node_is_made_once(world):
    node = world.node("once", "site")
    node.put("/tmp/kept", b"1")
    assert world.node("once", "site").get("/tmp/kept") == b"1"
    with pytest.raises(Conflict, match="is at 'site', not at 'elsewhere'"):
        world.node("once", "elsewhere")


def test_many_who_make_the_same_node_make_one(world):
    pids: list[int] = []
    threads = [threading.Thread(target=lambda: pids.append(world.node("many", "site").pid)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pids) == 6
    assert len(set(pids)) == 1


@pytest.mark.parametrize("name", ["", "Upper", "under_score", "../up", "a/b", "-a", "a" * 64])
def test_a_name_that_is_none_of_a_machine_is_refused(world, name):
    with pytest.raises(BadInput, match="cannot be the name of a machine"):
        world.node(name, "site")


def test_what_a_node_writes_stays_in_it(world):
    one, other = world.node("one", "site"), world.node("other", "site")
    one.run(["sh", "-c", "echo 1 > /usr/bin/mine; echo 2 > /etc/mine; echo 3 > /var/mine; rm /etc/debian_version"])
    one.run(["sh", "-c", "rm -rf /usr/games; mkdir /usr/games; touch /usr/games/mine"])
    assert one.run(["ls", "-A", "/usr/games"]).text == "mine\n"
    for path in ("/usr/bin/mine", "/etc/mine", "/var/mine", "/usr/games/mine"):
        assert not Path(path).exists()
        with pytest.raises(NotFound):
            other.get(path)
    assert other.get("/etc/debian_version") == Path("/etc/debian_version").read_bytes()


def test_what_a_node_writes_is_bounded(world):
    node = world.node("small", "site", size="4m")
    with pytest.raises(JobFailed, match="No space left on device"):
        node.put("/var/large", bytes(8_000_000))
    node.put("/var/small", bytes(1_000_000))


def test_two_nodes_reach_each_other_over_a_wire_and_not_otherwise(world):
    needs("ping")
    one, other = world.node("left", "left"), world.node("right", "right")
    for _ in range(2):  # the second time in place of the first
        world.wire(one, "wan0", other, "wan0", 1400)
        one.run(["ip", "addr", "add", "198.18.0.1/24", "dev", "wan0"])
        other.run(["ip", "addr", "add", "198.18.0.2/24", "dev", "wan0"])
        assert one.run(["ping", "-c1", "-W5", "198.18.0.2"]).code == 0
    assert "mtu 1400" in other.run(["ip", "link", "show", "wan0"]).text
    assert "wan0" not in world.run(["ip", "link"]).text
    assert one.run(["ping", "-c1", "-W5", "-s", "1372", "-M", "do", "198.18.0.2"]).code == 0
    assert one.run(["ping", "-c1", "-W5", "-s", "1373", "-M", "do", "198.18.0.2"], check=False).code != 0
    third = world.node("third", "third")
    assert third.run(["ping", "-c1", "-W1", "198.18.0.2"], check=False).code != 0


def test_a_node_that_is_destroyed_is_gone_with_all_that_was_in_it(world):
    node, peer = world.node("doomed", "site"), world.node("peer", "site")
    container = node.container("box")
    node.start("sleeper", ["sleep", "1000"])
    world.wire(node, "to-peer", peer, "to-doomed")
    with Held(node, container) as held:
        node.destroy()
        assert held.inhabitants() == []
    assert not node.alive
    assert not container.alive
    assert "doomed" not in [each.name for each in world.nodes()]
    assert "doomed" not in world.run(["ip", "netns"]).text
    eventually("the end of the wire", lambda: "to-doomed" not in peer.run(["ip", "link"]).text)
    node.destroy()
    again = world.node("doomed", "site")
    assert again.containers() == []
    assert again.daemons() == {}


def test_a_node_whose_init_is_killed_is_gone_and_can_be_made_again(world):
    node = world.node("shot", "site")
    node.container("box")
    world.run(["sh", "-c", "kill -9 $(ip netns pids shot)"])
    eventually("its end", lambda: not node.alive)
    eventually("no trace", lambda: "shot" not in world.run(["ip", "netns"]).text)
    assert world.node("shot", "site").run(["hostname"]).text == "shot\n"


def test_a_node_is_found_by_its_name_or_its_site(world):
    node = world.node("lax-1", "los-angeles")
    assert world.find_node("lax-1").pid == node.pid
    assert world.find_node("los-angeles").pid == node.pid
    with pytest.raises(NotFound, match="no node or site 'nowhere'"):
        world.find_node("nowhere")
