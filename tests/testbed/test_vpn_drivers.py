"""Drivers that encrypt: options do what they say, ports of others are left alone, a forger is heard by nobody, and what
cannot be is said before anything is made."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from dynamos.kit.errors import BadInput
from dynamos.testbed.overlays import networks
from dynamos.testbed.overlays.drivers import Network
from dynamos.testbed.overlays.nebula import Nebula
from support.overlays import Lab, material_of, unable, until
from support.vpns import HOME, NAMES, Counted, Up, driver_of, say

pytestmark = [pytest.mark.testbed, pytest.mark.skipif(bool(unable()), reason=unable())]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    made = Lab(tmp_path_factory.mktemp("lab"))
    yield made
    made.world.kill()


@pytest.mark.parametrize(
    ("name", "options", "port"),
    [
        ("wireguard", {"port": "6000", "keepalive": "5"}, 6000),
        ("ipsec", {"cipher": "chacha20poly1305"}, 4500),
        ("ipsec", {"cipher": "aes128gcm16"}, 4500),
        ("nebula", {"port": "7777", "cipher": "chachapoly"}, 7777),
        ("openvpn", {"protocol": "tcp", "cipher": "CHACHA20-POLY1305", "port": "6000"}, 6000),
    ],
)
def test_options_do_what_they_say(lab, name, options, port):
    made = Up(lab, name, "ams1", "los1", called="other", number=9, **options)
    try:
        assert networks.verify_mtu(made.network, made.members, made.driver) == []
        if name == "openvpn":
            port += made.network.place(made["los1"].address)
        kind = "-t" if options.get("protocol") == "tcp" else "-u"
        bound = made["ams1"].gateway.run(["ss", "-Hlan", kind]).text
        assert f":{port} " in bound
    finally:
        made.down()


def test_a_port_that_is_taken_is_left_to_whoever_has_it(lab):
    wireguard = driver_of(lab, "wireguard")
    node = lab.nodes["ams"]
    node.start("taker", ["python3", "-I", "-S", "-c", _TAKER])
    network = lab.network(wireguard, "other", 9)
    members = lab.members(network, "ams1", "ams2")
    try:
        until("who takes it", lambda: b"taken" in node.log("taker").read_bytes())
        ports = [said["port"] for said in material_of(wireguard, network, members).values()]
        assert ports == ["51821", "51822"]
    finally:
        node.stop("taker")
        node.log("taker").unlink()
        networks.take_down(network, members, wireguard)


class Trusting(Nebula):
    """Nebula as one might use it: whoever has a certificate of a trusted authority is who it says."""

    def _files(self, end, port, others):
        files = super()._files(end, port, others)
        config = json.loads(files["config"])
        for rule in config["firewall"]["inbound"]:
            del rule["ca_sha"]
        return {**files, "config": json.dumps(config)}


@pytest.mark.parametrize("nebula", [Nebula(), Trusting()], ids=["ours", "trusting"])
def test_who_signs_himself_anothers_address_is_heard_by_nobody(lab, nebula):
    driver_of(lab, "nebula")
    network = lab.network(nebula, "forged", 9)
    ams, los, tok = members = lab.members(network, "ams1", "los1", "tok1")
    forged = (
        f"mkdir -p {HOME}/nebula-forged.tok1\ncd {HOME}/nebula-forged.tok1\n"
        f"nebula-cert ca -name forger -ips {network.subnet}\n"
        f"nebula-cert sign -name los1 -ip {los.address}/24 -out-crt own.crt -out-key own.key\n"
    )
    tok.gateway.run(["sh", "-eu"], stdin=forged.encode())
    try:
        material = material_of(nebula, network, members)
        for member in members:
            nebula.join(network, member, material)
        tok.container.run(["ip", "addr", "add", f"{los.address}/32", "dev", "forged"])
        with Counted(ams.container, los.address) as heard:

            def speak():
                say(tok.container, los.address, ams.address)
                return heard.packets

            if isinstance(nebula, Trusting):
                until("the forger", speak)
            else:
                assert [speak() for _ in range(10)] == [0] * 10
    finally:
        networks.take_down(network, members, nebula)


def test_a_container_may_be_in_all_of_them_at_once(lab):
    made = []
    try:
        for number, name in enumerate(NAMES, 20):
            driver = driver_of(lab, name)
            network = lab.network(driver, name, number)
            members = lab.members(network, "ams1", "ams2", "los1")
            made.append((network, members, driver))
            networks.bring(network, members, driver)
        for _, (one, other, far), _ in made:
            for member, peers in ((one, (other, far)), (far, (one, other))):
                told = lab.hear(member.container, {peer.name: peer.address for peer in peers})
                assert told == {peer.name: f"{peer.name} heard hello" for peer in peers}
    finally:
        for network, members, driver in made:
            networks.take_down(network, members, driver)


def test_a_packet_that_does_not_fit_is_said_before_anything_is_made(lab):
    ipsec = driver_of(lab, "ipsec")
    network = Network("other", 9, "10.80.9.0/24", 1401)
    member = lab.member(network, "ams1")
    with pytest.raises(BadInput, match="at most 1400"):
        ipsec.prepare(network, member)
    assert ipsec.verify_gone(network, member) == []


def test_a_large_network_has_ports_for_many_sites(lab):
    openvpn = driver_of(lab, "openvpn")
    network = Network("other", 9, "10.80.0.0/16", 1400)
    places = {"ams1": "10.80.0.16", "los1": "10.80.5.16", "tok1": "10.80.49.31"}
    members = [replace(lab.member(network, name), address=address) for name, address in places.items()]
    try:
        networks.bring(network, members, openvpn)
        material = material_of(openvpn, network, members)
        twin = {"ams2": {**material["los1"], "address": "10.80.5.32"}}
        with pytest.raises(BadInput, match="same port"):
            openvpn.join(network, members[0], material | twin)
    finally:
        networks.take_down(network, members, openvpn)


_TAKER = """
import socket, time
taken = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); taken.bind(("0.0.0.0", 51820)); print("taken", flush=True)
time.sleep(3600)
"""
