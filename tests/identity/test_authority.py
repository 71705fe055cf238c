"""The authority issues certificates that say which key is which unit's, and refuses what would blur that."""

from __future__ import annotations

import ssl
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from dynamos.kit.clocks import ManualClock
from dynamos.kit.credentials import dns_name, unit_of, unit_uri
from dynamos.kit.errors import BadInput, Conflict, NotFound
from dynamos.middleware.identity.authority import Authority, renewal_due, signing_request
from support.identities import issue_all


def load(path):
    return x509.load_pem_x509_certificate(path.read_bytes())


def extension(certificate, kind):
    return certificate.extensions.get_extension_for_class(kind)


def test_a_certificate_names_its_unit_in_subject_uri_and_dns(tmp_path):
    certificate = load(issue_all(tmp_path, "Delta_Air.Lines")["Delta_Air.Lines"].certificate)
    assert certificate.subject.rfc4514_string() == "CN=Delta_Air.Lines,O=aviation"
    names = extension(certificate, x509.SubjectAlternativeName).value
    # The first name is the one that gRPC hands to a server as the peer's.
    assert next(iter(names)).value == "dynamos://aviation/Delta_Air.Lines"
    assert names.get_values_for_type(x509.DNSName) == ["delta-air-lines", "localhost"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]


def test_a_leaf_can_be_client_and_server_for_90_days_and_sign_no_certificate(tmp_path):
    credentials = issue_all(tmp_path, "united")["united"]
    leaf, root = load(credentials.certificate), load(credentials.authority)
    usages = set(extension(leaf, x509.ExtendedKeyUsage).value)
    assert usages == {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}
    assert not extension(leaf, x509.BasicConstraints).value.ca
    assert not extension(leaf, x509.KeyUsage).value.key_cert_sign
    assert extension(root, x509.BasicConstraints).value.path_length == 0
    assert timedelta(days=90) <= leaf.not_valid_after_utc - leaf.not_valid_before_utc < timedelta(days=91)
    leaf.verify_directly_issued_by(root)


def test_keys_and_folders_are_closed_to_others(tmp_path):
    credentials = issue_all(tmp_path, "united")["united"]
    secret = [credentials.key, tmp_path / "authority" / "authority-key.pem"]
    assert [path.stat().st_mode & 0o777 for path in secret] == [0o600, 0o600]
    folders = [tmp_path / "authority", credentials.key.parent]
    assert [folder.stat().st_mode & 0o777 for folder in folders] == [0o700, 0o700]
    assert not list(tmp_path.rglob(".*.pem.*")), "no temporary file stays behind"


def test_python_accepts_the_certificates_for_tls_under_its_strictest_rules(tmp_path):
    units = issue_all(tmp_path, "united", "clearing")
    client = units["united"].client_context()
    client.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(units["clearing"].certificate, units["clearing"].key)
    server.load_verify_locations(units["clearing"].authority)
    server.verify_mode = ssl.CERT_REQUIRED
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname="clearing")
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    waiting = {ours, theirs}
    for _ in range(6):
        for end in tuple(waiting):
            try:
                end.do_handshake()
                waiting.discard(end)
            except ssl.SSLWantReadError:
                pass
    assert not waiting
    assert ("commonName", "united") in [pair for (pair,) in theirs.getpeercert()["subject"]]


def test_issuing_again_renews_with_a_new_key(tmp_path):
    clock = ManualClock()
    authority = Authority.create(tmp_path / "authority", "aviation", clock=clock)
    credentials = authority.issue("united", tmp_path / "united")
    before = load(credentials.certificate)
    assert not renewal_due(credentials.certificate, clock=clock)
    clock.advance(70 * 24 * 3600)
    assert renewal_due(credentials.certificate, clock=clock)
    authority.issue("united", tmp_path / "united")
    after = load(credentials.certificate)
    assert after.public_key() != before.public_key()
    assert not renewal_due(credentials.certificate, clock=clock)


def test_an_authority_is_loaded_with_what_it_was_made_with(tmp_path):
    made = Authority.create(tmp_path / "a", "aviation")
    made.issue("united", tmp_path / "united")
    loaded = Authority.load(tmp_path / "a")
    assert loaded.marketplace == "aviation"
    delta = load(loaded.issue("delta", tmp_path / "delta").certificate)
    delta.verify_directly_issued_by(made.certificate)


def test_a_second_authority_in_the_folder_is_refused(tmp_path):
    Authority.create(tmp_path, "aviation")
    with pytest.raises(Conflict):
        Authority.create(tmp_path, "aviation")


@pytest.mark.parametrize("spoil", ["missing", "rubbish", "other-key"])
def test_a_broken_authority_folder_is_told(tmp_path, spoil):
    Authority.create(tmp_path / "a", "aviation")
    Authority.create(tmp_path / "b", "aviation")
    key = tmp_path / "a" / "authority-key.pem"
    if spoil == "missing":
        key.unlink()
    else:
        key.write_bytes(b"rubbish" if spoil == "rubbish" else (tmp_path / "b" / "authority-key.pem").read_bytes())
    with pytest.raises(NotFound if spoil == "missing" else BadInput):
        Authority.load(tmp_path / "a")


def test_two_units_cannot_share_a_name(tmp_path):
    authority = Authority.create(tmp_path / "authority", "aviation")
    authority.issue("A_B", tmp_path / "one")
    with pytest.raises(Conflict):
        authority.issue("a-b", tmp_path / "two")
    with pytest.raises(Conflict):
        authority.issue("other", tmp_path / "three", hosts=("a-b",))
    authority.issue("with-host", tmp_path / "four", hosts=("gate",))
    with pytest.raises(Conflict):
        authority.issue("gate", tmp_path / "five")
    with pytest.raises(Conflict):
        authority.issue("localhost", tmp_path / "six")


@pytest.mark.parametrize("unit", ["", "../x", "a/b", "-", "x" * 64, "a b", "_"])
def test_a_name_that_is_none_gets_no_certificate(tmp_path, unit):
    authority = Authority.create(tmp_path / "authority", "aviation")
    with pytest.raises(BadInput):
        authority.issue(unit, tmp_path / "unit")
    assert not (tmp_path / "unit").exists()


@pytest.mark.parametrize("host", ["*.example", "a b", "*", ""])
def test_a_host_that_is_none_is_refused(tmp_path, host):
    authority = Authority.create(tmp_path / "authority", "aviation")
    with pytest.raises(BadInput):
        authority.issue("united", tmp_path / "unit", hosts=(host,))


def test_a_signing_request_is_taken_only_as_its_key(tmp_path):
    authority = Authority.create(tmp_path / "authority", "aviation")
    key, request = signing_request("united", "aviation")
    certificate = x509.load_pem_x509_certificate(authority.sign(request))
    assert certificate.public_key() == serialization.load_pem_private_key(key, None).public_key()
    with pytest.raises(BadInput):
        authority.sign(signing_request("united", "elsewhere")[1])
    with pytest.raises(BadInput):
        authority.sign(b"rubbish")


def test_names_survive_their_way_through_a_certificate():
    for unit in ("UVA", "Delta_Air.Lines", "Züri"):
        assert unit_of(unit_uri("wage-gap", unit)) == ("wage-gap", unit)
    for other in ("", "dynamos://", "dynamos://a", "dynamos:///b", "https://a/b", "dynamos://a/b/c", "uva"):
        assert unit_of(other) == ("", "")
    assert dns_name("Züri") == "xn--zri-hoa"
