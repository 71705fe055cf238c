"""What overlays write for others' programs: the configurations of FRR and HAProxy."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from dynamos.kit.errors import BadInput
from dynamos.testbed.overlays import frr, haproxy
from dynamos.testbed.overlays.drivers import Member, Network
from dynamos.testbed.overlays.frr import Segment
from dynamos.testbed.overlays.mtls import MutualTls

ONE = Segment(7, "198.18.0.1", frozenset({"198.18.0.2", "198.18.0.3"}))
TWO = Segment(9, "198.18.0.1", frozenset({"198.18.0.3", "198.18.0.4"}))


def test_every_node_is_a_system_of_its_own():
    numbers = {frr.system(f"198.18.{a}.{b}") for a in range(4) for b in range(256)}
    assert len(numbers) == 1024
    assert all(4_200_000_000 <= number < 4_294_967_295 for number in numbers)


def test_networks_share_sessions_and_no_routes():
    text = frr.configuration([ONE, TWO])
    assert text.count("remote-as") == 3
    assert "  vni 7\n   route-target import 65000:7\n" in text
    assert "  vni 9\n   route-target import 65000:9\n" in text
    assert f"neighbor 198.18.0.2 remote-as {frr.system('198.18.0.2')}" in text


def test_what_is_known_already_is_not_told_again():
    assert frr.changes(frr.configuration([ONE, TWO]), [TWO, ONE]) == ""


def test_changes_add_and_remove_what_differs_only():
    told = frr.changes(frr.configuration([ONE]), [TWO])
    assert " no neighbor 198.18.0.2\n" in told
    assert "neighbor 198.18.0.4 remote-as" in told
    assert "198.18.0.3" not in told
    assert "  no vni 7\n" in told
    assert "  vni 9\n" in told


PROXY = haproxy.Proxy("net", "amy", "10.80.7.1", "198.18.0.1", 8443, "side", "/run/x")
BOB = haproxy.Other("bob", "10.80.7.2", "198.18.0.2", 8444)


def test_both_sides_of_a_connection_prove_who_they_are():
    text = haproxy.configuration(PROXY, [BOB], "v1")
    binds = [line.strip() for line in text.splitlines() if line.strip().startswith("bind")]
    servers = [line.strip() for line in text.splitlines() if line.strip().startswith("server")]
    wan = "bind 198.18.0.1:8443 ssl verify required crt /run/x/me.pem ca-file /run/x/peers.pem"
    assert binds == ["bind 127.0.0.1:61442 namespace side", "bind :61443 namespace side", wan]
    to_bob = "server bob 198.18.0.2:8444 source 198.18.0.1 ssl sni {} verify required "
    to_bob += "crt /run/x/me.pem ca-file /run/x/peer-bob.pem"
    ways = [to_bob.format(name) for name in ("str(1.bob.net)", "dst_port,concat(.bob.net)")]
    assert servers == [*ways, "server container 10.80.7.1 namespace side source 10.80.7.2"]


def test_who_is_alone_does_not_listen():
    assert "198.18.0.1" not in haproxy.configuration(PROXY, [], "v1")


def certificate(subject, names, *, authority=False):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 7, now, now + timedelta(days=1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in names]), critical=False)
    made = made.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    return base64.b64encode(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)).decode()


@pytest.mark.parametrize(
    "forged",
    [certificate("amy", ["*.bob.net"]), certificate("bob", ["*.amy.net"]), certificate("bob", ["*.bob.net", "*.amy.net"]),  # noqa: E501
     certificate("bob", ["*.bob.other"]), certificate("bob", ["*.bob.net"], authority=True)],
    ids=["another's subject", "another's name", "two names", "another network", "an authority"],
)  # fmt: skip
def test_a_member_cannot_take_anothers_part_by_its_certificate(forged):
    network = Network("net", 7, "10.80.7.0/24", 1500)
    facts = {"underlay": "198.18.0.2", "address": "10.80.7.2", "port": "8443", "certificate": forged}
    mine = {"underlay": "198.18.0.1", "address": "10.80.7.1", "port": "8443"}
    amy = Member("amy", _Named("box"), _Named("node"), "198.18.0.1", "10.80.7.1")
    with pytest.raises(BadInput, match="wrong 'certificate'"):
        MutualTls().join(network, amy, {"amy": mine, "bob": facts})


class _Named:
    """A host that is asked for nothing but its name."""

    def __init__(self, name):
        self.name = name
