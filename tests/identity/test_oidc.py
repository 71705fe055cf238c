"""Tokens of an OpenID Connect issuer, against a small real one on loopback."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from joserfc import jws
from joserfc.jwk import ECKey

from dynamos.kit.clocks import ManualClock
from dynamos.kit.errors import BadInput, Unauthenticated, Unavailable
from dynamos.middleware.identity.oidc import OidcVerifier


class Issuer:
    """What the server says: documents by path, and how often each was asked for."""

    def __init__(self) -> None:
        self.url = ""
        self.status = 200
        self.asked: list[str] = []
        self.keys: dict[str, ECKey] = {}
        self.body: bytes | None = None
        self.name: str | None = None
        self.jwks_uri: str | None = None

    def add(self, kid: str) -> None:
        self.keys[kid] = ECKey.generate_key("P-256")

    def document(self, path: str) -> bytes:
        self.asked.append(path)
        if self.body is not None:
            return self.body
        if path.endswith("openid-configuration"):
            uri = self.jwks_uri or f"{self.url}/keys"
            return json.dumps({"issuer": self.name or self.url, "jwks_uri": uri}).encode()
        return json.dumps({"keys": [{**k.as_dict(private=False), "kid": n} for n, k in self.keys.items()]}).encode()

    def token(self, kid: str, clock, **claims) -> str:
        content = {"iss": self.url, "aud": "aviation", "sub": "7", "exp": clock.now().timestamp() + 3600 * 48, **claims}
        return jws.serialize_compact({"alg": "ES256", "kid": kid}, json.dumps(content).encode(), self.keys[kid])


@contextmanager
def serving():
    issuer = Issuer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = issuer.document(self.path)
            self.send_response(issuer.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        issuer.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield issuer
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def issuer():
    with serving() as issuer:
        issuer.add("one")
        yield issuer


@pytest.fixture
def clock():
    return ManualClock()


def test_discovery_gives_the_keys_and_they_are_fetched_once(issuer, clock):
    verifier = OidcVerifier(issuer.url, audience="aviation", clock=clock)
    for _ in range(3):
        identity = verifier.verify(issuer.token("one", clock, preferred_username="ann", admin_of=["united"]))
        assert (identity.user, identity.id, identity.admin_of) == ("ann", "7", ("united",))
    assert issuer.asked == ["/.well-known/openid-configuration", "/keys"]


def test_the_claim_that_names_the_user_can_be_chosen(issuer, clock):
    claims = {"preferred_username": "ann", "email": "ann@united.example", "email_verified": True}
    verifier = OidcVerifier(issuer.url, audience="aviation", clock=clock, user_claims=("email",))
    assert verifier.verify(issuer.token("one", clock, **claims)).user == "ann@united.example"
    with pytest.raises(Unauthenticated) as caught:
        verifier.verify(issuer.token("one", clock, **claims | {"email_verified": False}))
    assert caught.value.detail_code == "token-user"
    default = OidcVerifier(issuer.url, audience="aviation", clock=clock)
    assert default.verify(issuer.token("one", clock)).user == "7"


def test_a_new_key_is_found_and_rubbish_makes_no_storm(issuer, clock):
    verifier = OidcVerifier(issuer.url, audience="aviation", clock=clock)
    verifier.verify(issuer.token("one", clock))
    issuer.add("two")
    for _ in range(5):
        with pytest.raises(Unauthenticated) as caught:
            verifier.verify(issuer.token("two", clock))
        assert caught.value.detail_code == "token-key"
    assert issuer.asked.count("/keys") == 1, "not again so soon"
    clock.advance(30)
    verifier.verify(issuer.token("two", clock))
    assert issuer.asked.count("/keys") == 2


def test_a_key_that_is_withdrawn_ends_within_the_hour(issuer, clock):
    verifier = OidcVerifier(issuer.url, audience="aviation", clock=clock)
    token = issuer.token("one", clock)
    verifier.verify(token)
    del issuer.keys["one"]
    clock.advance(3600)
    with pytest.raises(Unauthenticated):
        verifier.verify(token)


def test_known_keys_hold_for_a_day_while_the_issuer_is_away(issuer, clock):
    verifier = OidcVerifier(issuer.url, audience="aviation", clock=clock)
    token = issuer.token("one", clock)
    verifier.verify(token)
    issuer.status = 500
    clock.advance(23 * 3600)
    verifier.verify(token)
    clock.advance(3600)
    with pytest.raises(Unavailable):
        verifier.verify(token)


@pytest.mark.parametrize(
    "spoil",
    [
        {"status": 404},
        {"status": 302},
        {"body": b"rubbish"},
        {"body": b"[]"},
        {"body": b"{}"},
        {"body": b" " * 1_100_000},
        {"name": "https://elsewhere.example"},
        {"jwks_uri": "http://elsewhere.example/keys"},
        {"jwks_uri": "file:///etc/passwd"},
    ],
    ids=str,
)
def test_an_issuer_that_answers_wrongly_is_unavailable(issuer, clock, spoil):
    token = issuer.token("one", clock)
    for name, value in spoil.items():
        setattr(issuer, name, value)
    with pytest.raises(Unavailable):
        OidcVerifier(issuer.url, audience="aviation", clock=clock).verify(token)


def test_an_issuer_that_is_not_there_is_unavailable(clock):
    with serving() as issuer:
        issuer.add("one")
        token = issuer.token("one", clock)
    with pytest.raises(Unavailable):
        OidcVerifier(issuer.url, audience="aviation", clock=clock).verify(token)


@pytest.mark.parametrize("url", ["http://id.example", "ftp://127.0.0.1", "id.example", "", "https://"])
def test_an_issuer_without_tls_elsewhere_is_refused(url):
    with pytest.raises(BadInput):
        OidcVerifier(url, audience="aviation")
