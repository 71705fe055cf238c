"""Networks that encrypt, up between three sites: keys stay at home, nobody takes another's address, and what happens to
one member leaves the others alone."""

from __future__ import annotations

import pytest

from dynamos.kit.errors import NotFound
from dynamos.testbed.overlays import networks
from support.overlays import Lab, unable, until
from support.vpns import HOME, NAMES, Counted, Up, say

pytestmark = [pytest.mark.testbed, pytest.mark.skipif(bool(unable()), reason=unable())]

KEYS = {"ipsec": "private/own.pem", "nebula": "own.key", "openvpn": "own.key", "wireguard": "private"}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    made = Lab(tmp_path_factory.mktemp("lab"))
    yield made
    made.world.kill()


@pytest.fixture(scope="module", params=NAMES)
def up(request, lab):
    made = Up(lab, request.param, "ams1", "los1", "tok1")
    yield made
    made.down()


def test_a_private_key_is_in_one_file_at_its_own_node(up):
    bodies = {}
    for member in up.members:
        file = str(up.folder(member.name) / KEYS[up.driver.name])
        assert member.gateway.run(["stat", "-c", "%a %U", file]).text.split() == ["600", "root"]
        lines = member.gateway.get(file).decode().splitlines()
        bodies[member.name] = next(line for line in lines if not line.startswith("---"))
        with pytest.raises(NotFound):
            member.container.get(file)
    for member in up.members:
        for owner, body in bodies.items():
            found = member.gateway.run(["grep", "-rlF", "-e", body, str(HOME)], check=False).text.split()
            mine = [str(up.folder(owner) / KEYS[up.driver.name])] if owner == member.name else []
            assert found == mine


def test_nobody_speaks_with_anothers_address(up):
    ams, los, tok = up["ams1"], up["los1"], up["tok1"]
    with Counted(ams.container, los.address) as heard:
        tok.container.run(["ip", "addr", "add", f"{los.address}/32", "dev", "lo"])
        # The way back is as before: the container does not take the address for its own.
        try:
            say(tok.container, los.address, ams.address)
            assert up.driver.unreached(up.network, tok, [ams]) == []
            assert heard.packets == 0
        finally:
            tok.container.run(["ip", "addr", "del", f"{los.address}/32", "dev", "lo"])
        say(los.container, los.address, ams.address)
        until("what comes from its owner", lambda: heard.packets)


def test_a_node_has_no_part_in_the_overlay_that_it_carries(up):
    for member in up.members:
        for address in (each.address for each in up.members):
            assert member.gateway.run(["ip", "route", "get", address], check=False).code != 0
        local = member.gateway.run(["ip", "route", "show", "table", "local"]).text
        assert member.address not in local


def test_who_comes_and_goes_leaves_the_others_connections_alone(up):
    ams, los, tok = up["ams1"], up["los1"], up["tok1"]
    los.container.start("listener", ["python3", "-I", "-S", "-c", _LISTENER])
    until("a listener", lambda: b"listening" in los.container.log("listener").read_bytes())
    ams.container.start("talker", ["python3", "-I", "-S", "-c", _TALKER, los.address])
    try:
        until("a connection", lambda: b"talking" in ams.container.log("talker").read_bytes())
        networks.take_down(up.network, [tok], up.driver, rest=[ams, los])
        networks.bring(up.network, [tok], up.driver, present=[ams, los])
        ams.container.put("/tmp/go", b"")
        until("the end", lambda: b"same connection" in ams.container.log("talker").read_bytes())
    finally:
        for host, name in ((ams.container, "talker"), (los.container, "listener")):
            host.stop(name)
            host.log(name).unlink()
        ams.container.run(["rm", "-f", "/tmp/go"])


def test_a_link_that_was_cut_carries_again(up):
    ams, los = up["ams1"], up["los1"]
    port = ["ip", "link", "set", "port2"]
    up.lab.wan.run([*port, "down"])
    try:
        assert up.driver.unreached(up.network, ams, [los]) == ["los1"]
    finally:
        up.lab.wan.run([*port, "up"])
    until("the network", lambda: not up.driver.unreached(up.network, ams, [los]), within=30.0)


_LISTENER = """
import socket
listening = socket.create_server(("0.0.0.0", 7100)); print("listening", flush=True)
talk, _ = listening.accept()
while block := talk.recv(100): talk.sendall(block)
while True: talk, _ = listening.accept()
"""
_TALKER = """
import os, socket, sys, time
with socket.create_connection((sys.argv[1], 7100)) as talk:
    talk.sendall(b"1"); talk.recv(1); print("talking", flush=True)
    while not os.path.exists("/tmp/go"): time.sleep(0.02)
    talk.sendall(b"2"); print("same connection" if talk.recv(1) == b"2" else "lost", flush=True)
time.sleep(3600)
"""
