"""What an outsider gets at who knows all but the keys, and what a wrong MTU looks like."""

from __future__ import annotations

import pytest

from dynamos.testbed.overlays import ends, networks, registry
from dynamos.testbed.overlays.haproxy import GREETING_PORT
from support.overlays import PORT, Lab, unable, until

pytestmark = [pytest.mark.testbed, pytest.mark.skipif(bool(unable()), reason=unable())]

_INJECT = """
import socket, struct, sys
where, port, vni, mac = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), bytes.fromhex(sys.argv[4].replace(":", ""))
inner = mac + bytes.fromhex("020000000099") + b"\\x08\\x00" + b"E" * 60
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(5): sender.sendto(struct.pack("!II", 0x08000000, vni << 8) + inner, (where, port))
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    made = Lab(tmp_path_factory.mktemp("lab"), containers=1)
    yield made
    made.world.kill()


@pytest.fixture
def up(lab):
    made = []

    def bring(name, **changes):
        driver = registry.driver(name)
        lacks = driver.missing(lab.nodes["ams"])
        if lacks:
            pytest.skip("; ".join(map(str, lacks)))
        network = lab.network(driver, **changes)
        members = lab.members(network, "ams1", "los1")
        made.append((network, members, driver))
        networks.bring(network, members, driver)
        return network, members, driver

    yield bring
    for network, members, driver in made:
        networks.take_down(network, members, driver)


@pytest.mark.parametrize("name", ["vxlan", "evpn"])
def test_a_guessed_number_gets_nobody_in(lab, up, name):
    network, members, driver = up(name)
    ams = members[0]
    told = driver.prepare(network, ams)
    mac = told.get("mac") or ends.hardware_address(network.number, network.place(ams.address))
    before = _received(ams.container)
    argv = ["python3", "-c", _INJECT, ams.underlay, told.get("port", "4789"), str(network.number), mac]
    lab.nodes["tok"].run(argv)
    rules = until("drops", lambda: _dropped(ams.gateway))
    assert rules == 5
    assert _received(ams.container) == before
    lab.nodes["los"].run(argv)  # from a node that is in it: this is what is not encrypted
    until("what was sent", lambda: _received(ams.container) >= before + 5, within=5.0)


def test_connections_without_the_right_certificate_get_no_byte(lab, up):
    network, members, driver = up("mtls")
    port = driver.prepare(network, members[0])["port"]
    tok = lab.nodes["tok"]
    name = f"{PORT}.ams1.{network.name}"
    forge = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=los1 "
        f"-addext 'subjectAltName=DNS:*.los1.{network.name}' -keyout /tmp/forged.pem -out /tmp/forged.crt 2>/dev/null"
    )
    tok.run(["sh", "-c", forge])
    call = f"(echo hello; sleep 0.3) | openssl s_client -quiet -servername {name} -connect {members[0].underlay}:{port}"
    for proof in ("", "-cert /tmp/forged.crt -key /tmp/forged.pem"):
        told = tok.run(["sh", "-c", f"{call} {proof}"], check=False)
        assert b"heard" not in told.stdout
        assert b"alert" in told.stderr
    plain = lab.hear(tok, {"ams1": members[0].underlay}, port=int(port), within=1.0)
    assert plain == {}
    tok.run(["rm", "/tmp/forged.pem", "/tmp/forged.crt"])


def test_a_connection_that_names_no_port_of_ours_is_refused(lab, up):
    network, members, driver = up("mtls")
    port = driver.prepare(network, members[0])["port"]
    folder = f"/run/dynamos/overlays/mtls-{network.name}.los1"

    def call(name):
        argv = f"openssl s_client -quiet -servername {name} -cert {folder}/me.pem -connect {members[0].underlay}:{port}"
        asked = "(printf 'GET / HTTP/1.0\\r\\n\\r\\n'; sleep 0.3)"
        return lab.nodes["los"].run(["sh", "-c", f"{asked} | {argv}"], check=False).stdout

    assert call(f"{GREETING_PORT}.ams1.{network.name}").endswith(b"ams1")
    for name in (f"{GREETING_PORT}.tok1.{network.name}", f"x.ams1.{network.name}", "1.ams1", "ams1"):
        assert call(name) == b""


def test_an_mtu_that_does_not_fit_is_found(lab, up):
    network, members, driver = up("vxlan")
    assert networks.verify_mtu(network, members, driver) == []
    lab.wan.run(["ip", "link", "set", "port2", "mtu", "1400"])
    try:
        found = networks.verify_mtu(network, members, driver)
    finally:
        lab.wan.run(["ip", "link", "set", "port2", "mtu", "1500"])
    assert {mistake.message for mistake in found} == {f"packets of {network.mtu} bytes do not get through"}


def test_who_is_where_comes_by_bgp(lab, up):
    network, members, _ = up("evpn")
    node = members[0].gateway
    entries = node.run(["bridge", "fdb", "show", "dev", f"evx{network.number:x}"]).text
    assert f"00:00:00:00:00:00 dst {members[1].underlay}" in entries
    mac = ends.hardware_address(network.number, network.place(members[1].address))
    told = until("its address", lambda: [x for x in node.run(["bridge", "fdb"]).text.splitlines() if x.startswith(mac)])
    assert all("extern_learn" in line for line in told)


def _received(container):
    told = container.run(["cat", "/sys/class/net/net/statistics/rx_packets"])
    return int(told.text)


def _dropped(node):
    rules = node.run(["nft", "list", "ruleset"]).text
    counts = [
        int(line.split("packets ")[1].split()[0])
        for line in rules.splitlines()
        if "udp dport" in line and "drop" in line
    ]
    return sum(counts)
