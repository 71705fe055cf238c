"""A token says who a user is only if our issuer signed it, for us, for now."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey, OKPKey, RSAKey

from dynamos.kit.clocks import ManualClock
from dynamos.kit.errors import BadInput, Conflict, NotFound, Unauthenticated
from dynamos.middleware.identity.tokens import DevelopmentIssuer, Verifier


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def issuer(tmp_path, clock):
    return DevelopmentIssuer.create(tmp_path / "issuer", clock=clock)


@pytest.fixture
def verifier(issuer, clock):
    return Verifier(issuer.jwks, issuer=issuer.issuer, audience="aviation", clock=clock)


def token_of(issuer, **changes):
    return issuer.token("ann@united.example", **{"ttl": 60, "audience": "aviation", **changes})


def part(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def claims_of(token):
    text = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def signed(key, claims, alg, kid="k"):
    return jws.serialize_compact({"alg": alg, "kid": kid}, json.dumps(claims).encode(), key, algorithms=[alg])


def refusal(verifier, token):
    with pytest.raises(Unauthenticated) as caught:
        verifier.verify(token)
    return caught.value.detail_code


def test_a_good_token_names_its_user(issuer, verifier):
    identity = verifier.verify(token_of(issuer, admin_of=("united",)))
    assert (identity.user, identity.id, identity.admin_of) == ("ann@united.example", "ann@united.example", ("united",))


def test_a_loaded_issuer_signs_with_the_same_key(issuer, verifier, clock):
    again = DevelopmentIssuer.load(issuer.folder, clock=clock)
    assert verifier.verify(token_of(again)).admin_of == ()
    with pytest.raises(Conflict):
        DevelopmentIssuer.create(issuer.folder)
    with pytest.raises(NotFound):
        DevelopmentIssuer.load(issuer.folder / "elsewhere")
    assert (issuer.folder / "issuer-key.json").stat().st_mode & 0o777 == 0o600


def test_the_published_keys_hold_no_secret(issuer):
    (key,) = json.loads(issuer.jwks.read_text())["keys"]
    assert not {"d", "p", "q", "k"} & set(key)


def test_a_token_holds_from_its_start_to_its_end(issuer, verifier, clock):
    token = token_of(issuer, ttl=60)
    clock.advance(69)
    verifier.verify(token)
    clock.advance(1)
    assert refusal(verifier, token) == "token-expired"
    clock.advance(-82)
    assert refusal(verifier, token) == "token-early"


@pytest.mark.parametrize(
    ("token", "code"),
    [
        ("", "token-missing"),
        ("rubbish", "token-malformed"),
        ("a.b.c", "token-malformed"),
        ("..", "token-malformed"),
        ("é.é.é", "token-malformed"),
        ("x" * 100_000, "token-malformed"),
        (f"{part([])}.{part({})}.", "token-malformed"),
    ],
)
def test_what_is_no_token_is_told_from_a_forged_one(verifier, token, code):
    assert refusal(verifier, token) == code


def test_another_audience_or_issuer_is_refused(issuer, verifier, clock):
    assert refusal(verifier, token_of(issuer, audience="wage-gap")) == "token-audience"
    other = Verifier(issuer.jwks, issuer="https://id.example", audience="aviation", clock=clock)
    assert refusal(other, token_of(issuer)) == "token-issuer"


def test_a_changed_payload_is_forged(issuer, verifier):
    header, _, signature = token_of(issuer).split(".")
    claims = claims_of(token_of(issuer)) | {"preferred_username": "eve"}
    assert refusal(verifier, f"{header}.{part(claims)}.{signature}") == "token-forged"


def test_alg_none_is_forged(issuer, verifier):
    token = token_of(issuer)
    kid = json.loads(issuer.jwks.read_text())["keys"][0]["kid"]
    for alg in ("none", "None", ""):
        assert refusal(verifier, f"{part({'alg': alg, 'kid': kid})}.{token.split('.')[1]}.") == "token-forged"


def test_the_public_key_is_no_shared_secret(issuer, verifier):
    """Algorithm confusion: HS256 with the bytes of the published key as the secret."""
    (entry,) = json.loads(issuer.jwks.read_text())["keys"]
    pem = ECKey.import_key(entry).as_pem(private=False)
    content = f"{part({'alg': 'HS256', 'kid': entry['kid']})}.{part(claims_of(token_of(issuer)))}"
    for secret in (pem, json.dumps(entry).encode()):
        mac = base64.urlsafe_b64encode(hmac.digest(secret, content.encode(), hashlib.sha256)).rstrip(b"=").decode()
        assert refusal(verifier, f"{content}.{mac}") == "token-forged"


def test_another_key_under_the_same_id_is_forged_and_an_unknown_id_refused(issuer, verifier):
    kid = json.loads(issuer.jwks.read_text())["keys"][0]["kid"]
    claims = claims_of(token_of(issuer))
    key = ECKey.generate_key("P-256")
    assert refusal(verifier, signed(key, claims, "ES256", kid)) == "token-forged"
    assert refusal(verifier, signed(key, claims, "ES256", "unknown")) == "token-key"
    header = {"alg": "ES256", "kid": kid, "jwk": key.as_dict(private=False)}
    inline = jws.serialize_compact(header, json.dumps(claims).encode(), key, algorithms=["ES256"])
    assert refusal(verifier, inline) == "token-forged"


@pytest.mark.parametrize(("kind", "alg"), [("rsa", "RS256"), ("rsa", "PS256"), ("okp", "Ed25519"), ("ec", "ES384")])
def test_other_issuers_kinds_of_keys_are_understood(clock, kind, alg):
    key = {
        "rsa": lambda: RSAKey.generate_key(2048),
        "okp": lambda: OKPKey.generate_key("Ed25519"),
        "ec": lambda: ECKey.generate_key("P-384"),
    }[kind]()
    jwks = {"keys": [{**key.as_dict(private=False), "kid": "k"}]}
    verifier = Verifier(jwks, issuer="i", audience="a", clock=clock)
    now = clock.now().timestamp()
    token = signed(key, {"iss": "i", "aud": ["b", "a"], "sub": "ann", "exp": now + 5}, alg)
    assert verifier.verify(token).user == "ann"


def test_keys_that_cannot_verify_are_left_out_and_what_is_no_key_set_is_told(clock, tmp_path):
    secret = {"kty": "oct", "k": "c2VjcmV0", "kid": "k"}
    verifier = Verifier({"keys": [secret, {"kty": "??"}, 7]}, issuer="i", audience="a", clock=clock)
    assert refusal(verifier, f"{part({'alg': 'HS256', 'kid': 'k'})}.{part({})}.x") == "token-key"
    with pytest.raises(BadInput):
        Verifier({}, issuer="i", audience="a")
    (tmp_path / "jwks.json").write_text("[")
    with pytest.raises(BadInput):
        Verifier(tmp_path / "jwks.json", issuer="i", audience="a")
    with pytest.raises(NotFound):
        Verifier(tmp_path / "missing.json", issuer="i", audience="a")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"exp": None}, "token-malformed"),
        ({"exp": "soon"}, "token-malformed"),
        ({"exp": True}, "token-malformed"),
        ({"sub": ""}, "token-user"),
        ({"sub": 7}, "token-user"),
        ({"aud": None}, "token-audience"),
        ({"aud": {"aviation": 1}}, "token-audience"),
    ],
)
def test_claims_of_a_wrong_shape_are_refused(issuer, verifier, change, code):
    key = ECKey.import_key(json.loads((issuer.folder / "issuer-key.json").read_text()))
    claims = claims_of(token_of(issuer)) | {"preferred_username": ""} | change
    assert refusal(verifier, signed(key, claims, "ES256", key.thumbprint())) == code


@settings(
    max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_no_change_of_a_token_is_accepted(issuer, verifier, data):
    token = token_of(issuer)
    place = data.draw(st.integers(0, len(token) - 2))
    text = data.draw(st.text(max_size=2))
    changed = token[:place] + text + token[place + data.draw(st.integers(0, 2)) :]
    if changed.rstrip("=") != token:
        # The last character of a signature has bits that say nothing; all others count.
        assert refusal(verifier, changed).startswith("token-")
