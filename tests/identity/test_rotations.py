"""Keys are replaced while they are in use: the new is believed before it is used, the old until it is used no more."""

from __future__ import annotations

import json

import pytest
from cryptography import x509

from dynamos.deploy import enrolments, rotations
from dynamos.deploy.units import AUTHORITY, EDGE, JWKS, SIGNER
from dynamos.kit.clocks import ManualClock
from dynamos.kit.errors import Unauthenticated
from dynamos.middleware.identity import grants
from dynamos.middleware.identity.authority import Authority
from dynamos.middleware.identity.tokens import DEVELOPMENT_ISSUER, DevelopmentIssuer, Verifier
from support.identities import make_grant

MARKET = "aviation"


def certificates(pem):
    return x509.load_pem_x509_certificates(pem if isinstance(pem, bytes) else pem.encode())


def issued_by(authority, certificate):
    try:
        certificate.verify_directly_issued_by(authority)
    except Exception:  # noqa: BLE001  cryptography raises several
        return False
    return True


def test_a_successor_is_believed_before_it_issues_and_the_former_one_after(tmp_path):
    authority = Authority.create(tmp_path, MARKET)
    old = authority.issue("united", tmp_path / "united")
    before = certificates((tmp_path / "authority.pem").read_bytes())[0]
    authority.announce()
    announced = certificates((tmp_path / "authority.pem").read_bytes())
    assert announced[0] == before
    assert len(announced) == 2
    assert issued_by(before, certificates(authority.issue("delta", tmp_path / "delta").certificate.read_bytes())[0])
    following = Authority.load(tmp_path).succeed()
    new = certificates(following.issue("united", tmp_path / "united").certificate.read_bytes())[0]
    assert issued_by(announced[1], new)
    assert set(certificates(old.authority.read_bytes())) == set(announced)
    assert Authority.load(tmp_path).settle()
    assert certificates((tmp_path / "authority.pem").read_bytes()) == [announced[1]]
    assert not Authority.load(tmp_path).settle()


def test_an_interrupted_succession_goes_on(tmp_path):
    Authority.create(tmp_path, MARKET).announce()
    both = (tmp_path / "authority.pem").read_bytes()
    Authority.load(tmp_path).announce()
    assert (tmp_path / "authority.pem").read_bytes() == both
    # Ended between the key and the list of those that are believed.
    (tmp_path / "authority-key.pem").write_bytes((tmp_path / "successor-key.pem").read_bytes())
    resumed = Authority.load(tmp_path)
    assert resumed.certificate == certificates(both)[1]
    assert resumed.succeed().believed[0] == certificates(both)[1]
    assert not Authority.load(tmp_path).announced


def enrol(control, folder, unit, *, overlap=False):
    asked = enrolments.ask(folder, unit, MARKET, (), renew=True)
    enrolments.sign(control, MARKET, {unit: {"request": asked, "hosts": ()}}, overlap=overlap)


def place(control, folder, unit):
    certificate = enrolments.signed(control, [unit])[unit]
    enrolments.place(folder, certificate, rotations.public(control, MARKET)[AUTHORITY])


@pytest.fixture
def control(tmp_path):
    enrolments.found(tmp_path / "control", MARKET)
    for unit in ("orchestrator", "api"):
        enrol(tmp_path / "control", tmp_path / unit, unit)
    for unit in ("orchestrator", "api"):
        place(tmp_path / "control", tmp_path / unit, unit)
    return tmp_path / "control"


def test_grants_hold_through_a_rotation_whoever_signed_them(control, tmp_path):
    key, believed, clock = tmp_path / "orchestrator" / "key.pem", tmp_path / "signer.pem", ManualClock()

    def verify(text):
        return grants.verify(text, believed, party="united", clock=clock)

    former = grants.sign(make_grant("united"), key)
    assert not rotations.announce(control, MARKET, authority=False)["trust"]
    rotations.succeed(control, MARKET, tokens=True)
    # Twice: the first time was interrupted before anybody used the certificate.
    enrol(control, tmp_path / "orchestrator", "orchestrator", overlap=True)
    enrol(control, tmp_path / "orchestrator", "orchestrator", overlap=True)
    believed.write_text(rotations.public(control, MARKET)[SIGNER])
    verify(former)
    verify(grants.sign(make_grant("united"), key))
    place(control, tmp_path / "orchestrator", "orchestrator")
    verify(grants.sign(make_grant("united"), key))
    verify(former)
    assert rotations.settle(control, MARKET, overlap=60)["changed"]
    believed.write_text(rotations.public(control, MARKET)[SIGNER])
    verify(grants.sign(make_grant("united"), key))
    with pytest.raises(Unauthenticated, match="no grant"):
        verify(former)
    assert len(certificates(rotations.public(control, MARKET)[EDGE])) == 1


def test_a_certificate_that_is_renewed_without_a_rotation_leaves_no_former_one(control, tmp_path):
    enrol(control, tmp_path / "orchestrator", "orchestrator")
    assert len(certificates(rotations.public(control, MARKET)[SIGNER])) == 1


def test_a_rotation_of_the_authority_that_was_interrupted_makes_no_third_one(control):
    assert rotations.announce(control, MARKET, authority=True)["trust"]
    rotations.succeed(control, MARKET, tokens=False)
    told = rotations.announce(control, MARKET, authority=True)
    assert not told["trust"]
    assert len(certificates(rotations.public(control, MARKET)[AUTHORITY])) == 2
    assert rotations.settle(control, MARKET, overlap=0)["trust"]
    assert len(certificates(rotations.public(control, MARKET)[AUTHORITY])) == 1


def test_tokens_hold_until_their_key_is_forgotten(tmp_path):
    clock = ManualClock()
    issuer = DevelopmentIssuer.create(tmp_path / "issuer", clock=clock)
    verifier = Verifier(issuer.jwks, issuer=DEVELOPMENT_ISSUER, audience="m", clock=clock)
    former = issuer.token("ann@x.org", ttl=7200, audience="m")
    following = issuer.succeed()
    assert verifier.verify(former).user == "ann@x.org"
    assert verifier.verify(following.token("bob@x.org", ttl=60, audience="m")).user == "bob@x.org"
    assert following.forget(older=60) == 0
    clock.advance(61)
    assert following.forget(older=60) == 1
    with pytest.raises(Unauthenticated) as refused:
        verifier.verify(former)
    assert refused.value.detail_code == "token-key"
    assert "d" not in json.loads((tmp_path / "issuer" / JWKS).read_text())["keys"][0]
