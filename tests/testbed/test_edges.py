"""Who may talk to whom becomes rules of the kernel: as texts, and as what packets meet in a container."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dynamos.kit.errors import BadInput, NotFound
from dynamos.model.plans import REQUESTOR, Edge, Part
from dynamos.testbed import edges
from dynamos.testbed.boxes import Box
from dynamos.testbed.edges import PORT, Rules, Ways, ways_of
from support.worlds import made_world, needs

GOLDEN = Path(__file__).parent / "edges.nft"


def part_of(*pairs: tuple[str, str], party: str = "clearing") -> Part:
    streams = tuple(
        Edge(name=f"{source}-{target}", source_party=source, source="a", target_party=target, target="b")
        for source, target in pairs
    )
    return Part(job="j", party=party, role="all", archetype="dataThroughTtp", steps=(), edges=streams)


def test_the_rules_of_a_container_without_ways_are_these():
    assert edges.closed() == GOLDEN.read_text()


def test_a_part_has_the_ways_that_its_streams_to_other_parties_need_and_no_others():
    addresses = {"united": ["10.0.0.1"], "delta": ["10.0.0.2", "10.1.0.2"], "clearing": ["10.0.0.3"]}
    part = part_of(("united", "clearing"), ("clearing", "delta"), ("clearing", REQUESTOR), ("clearing", "clearing"))
    found = ways_of(part, addresses)
    assert found == Ways(frozenset({"10.0.0.1"}), frozenset({"10.0.0.2", "10.1.0.2"}))
    assert not ways_of(part_of(("clearing", REQUESTOR)), addresses)


def test_a_party_without_an_address_here_has_no_way():
    with pytest.raises(NotFound, match="weather"):
        ways_of(part_of(("weather", "clearing")), {"united": ["10.0.0.1"]})


@pytest.mark.parametrize("address", ["10.0.0.1 } ; flush ruleset", "::1", "", "10.0.0.0/8"])
def test_what_is_no_address_gets_into_no_rule(address):
    with pytest.raises(BadInput):
        ways_of(part_of(("united", "clearing")), {"united": [address]})


def test_ways_open_and_close_by_themselves():
    opened = Ways(frozenset({"10.0.0.9", "10.0.0.10"}), frozenset({"10.0.0.2"}))
    assert edges.changed(opened, Ways(frozenset({"10.0.0.1"}))).splitlines() == [
        "add element inet edges senders { 10.0.0.9, 10.0.0.10 }",
        "add element inet edges receivers { 10.0.0.2 }",
        "delete element inet edges senders { 10.0.0.1 }",
    ]
    assert edges.changed(Ways(), Ways()) == ""


class Recorded:
    """A host that only remembers what it was told."""

    name, site = "recorded", "here"

    def __init__(self) -> None:
        self.told: list[str] = []

    def run(self, argv, *, stdin=None, check=True, within=30.0):
        self.told.append((stdin or b"").decode())


def test_a_way_that_two_jobs_need_stays_until_both_have_closed_it():
    host = Recorded()
    rules = Rules(host)
    rules.lay()
    shared, own = Ways(frozenset({"10.0.0.1"})), Ways(frozenset({"10.0.0.1", "10.0.0.2"}))
    for step in (
        lambda: rules.open("a", shared), lambda: rules.open("a", shared), lambda: rules.open("b", own),
        lambda: rules.shut("a"), lambda: rules.shut("a"), lambda: rules.shut("b"), lambda: rules.open("c", shared),
    ):  # fmt: skip
        step()
    assert host.told[1:] == [
        "add element inet edges senders { 10.0.0.1 }\n",
        "add element inet edges senders { 10.0.0.2 }\n",
        "delete element inet edges senders { 10.0.0.1, 10.0.0.2 }\n",
        "add element inet edges senders { 10.0.0.1 }\n",
    ]


# What packets meet: three containers on one cable each to a bridge, as in an overlay


LIFE = (  # nsenter stands between: a program in a box ends when its input does
    "import os, socket, sys, threading\n"
    "threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()\n"
)
GREET = (
    LIFE + "s = socket.create_server(('', {port})); print('up', flush=True)\n"
    "while True: c, _ = s.accept(); c.sendall(b'hello'); c.close()\n"
)
HEAR = (
    LIFE + "s = socket.create_server(('', {port})); print('up', flush=True)\nc, _ = s.accept()\n"
    "while data := c.recv(9): print(data.decode(), flush=True)\n"
)
ASK = (
    "import socket\ntry: s = socket.create_connection(('{host}', {port}), 1); s.settimeout(1); print(s.recv(9))\n"
    "except OSError as error: print(type(error).__name__)\n"
)
TELL = (
    "import socket, sys\ns = socket.create_connection(('{host}', {port}), 5)\n"
    "for line in sys.stdin: s.sendall(line.strip().encode()); print('sent', flush=True)\n"
)


@contextmanager
def program(box: Box, text: str) -> Iterator[subprocess.Popen[bytes]]:
    """A Python program in a box, until the block ends."""
    process = box.spawn(["python3", "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        yield process
        process.stdin.close()
        process.wait(10)


class Three:
    """Containers `a`, `b` and `c` at 10.9.0.1, .2 and .3, each with rules."""

    def __init__(self, boxes: dict[str, Box]) -> None:
        self.boxes = boxes
        self.rules = {name: Rules(box) for name, box in boxes.items()}
        self.at = {name: f"10.9.0.{number}" for number, name in enumerate(boxes, 1)}

    def says(self, source: str, target: str, port: int = PORT) -> str:
        """Give what a program in `source` gets from one that listens in `target`: "hello", or how it failed."""
        with program(self.boxes[target], GREET.format(port=port)) as listener:
            assert listener.stdout.readline() == b"up\n"
            ask = ASK.format(host=self.at[target], port=port)
            said = self.boxes[source].run(["python3", "-c", ask]).text.strip()
        return "hello" if said == "b'hello'" else said


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Three]:
    needs("nft", "ip", "python3", "ping")
    with made_world(tmp_path_factory.mktemp("world")) as world:
        node = world.node("alpha", "here")
        node.run(["ip", "link", "add", "br0", "type", "bridge"])
        node.run(["ip", "link", "set", "br0", "up"])
        boxes: dict[str, Box] = {}
        for number, name in enumerate("abc", 1):
            box = boxes[name] = node.container(name)
            world.wire(box, "eth0", node, f"v{name}")
            node.run(["ip", "link", "set", f"v{name}", "master", "br0"])
            box.run(["ip", "addr", "add", f"10.9.0.{number}/24", "dev", "eth0"])
        yield Three(boxes)


@pytest.fixture
def closed(three: Three) -> Three:
    for rules in three.rules.values():
        rules.lay()
    return three


@pytest.mark.testbed
@pytest.mark.xdist_group("testbed")
def test_without_a_way_nobody_gets_through_and_all_of_it_is_counted(closed: Three):
    assert closed.says("a", "b") == "TimeoutError"  # its own rules let nothing out
    assert closed.rules["a"].passed().dropped_out > 0
    closed.rules["a"].open("job", Ways(receivers=frozenset({closed.at["b"]})))
    assert closed.says("a", "b") == "ConnectionRefusedError"  # and the target's let nothing in
    assert closed.rules["b"].passed().refused > 0
    closed.rules["a"].open("other", Ways(receivers=frozenset({closed.at["c"]})))
    assert closed.says("a", "b", port=9999) == "TimeoutError"


@pytest.mark.testbed
@pytest.mark.xdist_group("testbed")
def test_a_way_is_for_one_pair_one_direction_and_one_port_before_during_and_after_a_job(closed: Three):
    forth = Ways(receivers=frozenset({closed.at["b"]})), Ways(senders=frozenset({closed.at["a"]}))
    for name, ways in zip("ab", forth, strict=True):
        closed.rules[name].open("job", ways)
    assert closed.says("a", "b") == "hello"
    for source, target, port in (("b", "a", PORT), ("a", "c", PORT), ("c", "b", PORT), ("a", "b", 9999)):
        assert closed.says(source, target, port) != "hello", f"{source} to {target} at {port}"
    passed = closed.rules["b"].passed()
    assert passed.received[closed.at["a"]] > 0
    assert closed.rules["a"].passed().sent[closed.at["b"]] > 0
    for name in "ab":
        closed.rules[name].shut("job")
    assert closed.says("a", "b") != "hello"
    assert closed.rules["b"].passed().received == {}


@pytest.mark.testbed
@pytest.mark.xdist_group("testbed")
def test_a_connection_ends_with_its_way(closed: Three):
    """A program that keeps its connection cannot use it after the job."""
    closed.rules["a"].open("job", Ways(receivers=frozenset({closed.at["b"]})))
    closed.rules["b"].open("job", Ways(senders=frozenset({closed.at["a"]})))
    tell = TELL.format(host=closed.at["b"], port=PORT)
    with program(closed.boxes["b"], HEAR.format(port=PORT)) as server:
        assert server.stdout.readline() == b"up\n"
        with program(closed.boxes["a"], tell) as client:
            client.stdin.write(b"first\n")
            client.stdin.flush()
            assert server.stdout.readline() == b"first\n"
            closed.rules["b"].shut("job")
            before = closed.rules["b"].passed().dropped_in
            client.stdin.write(b"second\n")
            client.stdin.flush()
            assert [client.stdout.readline() for _ in range(2)] == [b"sent\n"] * 2
            heard: list[bytes] = []
            thread = threading.Thread(target=lambda: heard.append(server.stdout.readline()))
            thread.start()
            thread.join(1.0)
            assert heard == []
            assert closed.rules["b"].passed().dropped_in > before
        server.stdin.close()
        thread.join(5.0)


@pytest.mark.testbed
@pytest.mark.xdist_group("testbed")
def test_probes_get_through_so_that_networks_can_be_measured(closed: Three):
    assert closed.boxes["a"].run(["ping", "-c1", "-W2", closed.at["b"]]).code == 0
