"""A container has a network, files and names of its own on its node, and no way out until it is given one."""

import pytest

from dynamos.kit.errors import NotFound
from support.worlds import Held, made_world

pytestmark = pytest.mark.testbed


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with made_world(tmp_path_factory.mktemp("containers")) as world:
        yield world.node("node", "site")


def test_a_container_has_a_loopback_and_nothing_else(node):
    container = node.container("lonely")
    links = container.run(["ip", "-o", "link"]).text.splitlines()
    assert [line.split(":")[1].strip() for line in links] == ["lo"]
    assert container.run(["ip", "route", "show", "table", "main"]).text == ""
    assert container.run(["hostname"]).text == "lonely\n"
    assert (container.name, container.site, container.node) == ("lonely", "site", "node")
    assert len(container.run(["ps", "-e", "-o", "pid="]).text.split()) == 2


def test_a_container_has_the_nodes_files_and_keeps_what_it_writes(node):
    node.put("/opt/of-the-node", b"1")
    one, other = node.container("one"), node.container("other")
    assert one.get("/opt/of-the-node") == b"1"
    one.put("/opt/of-the-node", b"2")
    one.put("/run/secret/key", b"3")
    assert node.get("/opt/of-the-node") == other.get("/opt/of-the-node") == b"1"
    for host in (node, other):
        with pytest.raises(NotFound):
            host.get("/run/secret/key")


def test_a_device_of_the_node_can_be_moved_in_by_name(node):
    container = node.container("moved")
    node.run(["ip", "link", "add", "veth-node", "type", "veth", "peer", "name", "veth-box"])
    node.run(["ip", "link", "set", "veth-box", "netns", "moved", "name", "eth0"])
    node.run(["ip", "netns", "exec", "moved", "ip", "addr", "add", "10.9.0.2/24", "dev", "eth0"])
    container.run(["ip", "link", "set", "eth0", "up"])
    node.run(["sh", "-c", "ip link set veth-node up; ip addr add 10.9.0.1/24 dev veth-node"])
    assert container.run(["ping", "-c1", "-W5", "10.9.0.1"]).code == 0
    assert "moved" in node.run(["ip", "netns"]).text


def test_a_container_that_is_destroyed_leaves_nothing_on_its_node(node):
    container = node.container("brief")
    container.start("sleeper", ["sleep", "1000"])
    container.put("/opt/large", bytes(1_000_000))
    with Held(container) as held:
        container.destroy()
        assert held.inhabitants() == []
    assert "brief" not in node.run(["ip", "netns"]).text
    assert "brief" not in [each.name for each in node.containers()]
    assert node.run(["test", "-e", "/run/store/containers/brief"], check=False).code != 0
    container.destroy()
    with pytest.raises(NotFound):
        node.container("brief").get("/opt/large")


def test_a_node_knows_its_containers(node):
    made = {node.container(name).name for name in ("a", "b")}
    assert made <= {each.name for each in node.containers()}
    assert node.container("a").pid == node.container("a").pid
