"""Logins at registries: found where people have them, never told, and TLS by default."""

import base64
import io
import json
import stat
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from ipaddress import ip_address

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from dynamos.deploy.images import logins, registries
from dynamos.deploy.images.logins import Login
from dynamos.kit.errors import BadInput, NotFound, Unavailable
from support.commands import dynamos
from support.images import built
from support.registries import FakeRegistry, has_real, real


def config(folder, **told):
    (folder / ".docker").mkdir(exist_ok=True)
    (folder / ".docker" / "config.json").write_text(json.dumps(told))
    return {"HOME": str(folder)}


def auth(user, password):
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def test_the_environment_comes_first(tmp_path):
    home = config(tmp_path, auths={"r.example": auth("a", "b")})
    both = {**home, logins.USER: "me", logins.PASSWORD: "p:q"}
    assert logins.find("r.example/x", both) == Login("me", "p:q")
    with pytest.raises(BadInput, match=logins.PASSWORD):
        logins.find("r.example", {**home, logins.USER: "me"})


def test_the_nearest_entry_of_a_file_is_taken(tmp_path):
    home = config(
        tmp_path,
        auths={"r.example": auth("all", "1:2"), "r.example/team": auth("team", "3"), "https://other.example/": {
            "username": "u", "password": "p"}},
    )  # fmt: skip
    assert logins.find("r.example/x", home) == Login("all", "1:2")
    assert logins.find("r.example/team/dynamos", home) == Login("team", "3")
    assert logins.find("r.example/teams", home) == Login("all", "1:2")
    assert logins.find("other.example/x", home) == Login("u", "p")
    assert logins.find("r.example.evil", home) is None
    assert logins.find("r.example", {"HOME": str(tmp_path / "empty")}) is None


def test_podmans_file_and_dockers_other_places_are_looked_at(tmp_path):
    (tmp_path / "auth.json").write_text(json.dumps({"auths": {"r.example": auth("podman", "1")}}))
    assert (
        logins.find("r.example", {"HOME": "/none", "REGISTRY_AUTH_FILE": str(tmp_path / "auth.json")}).user == "podman"
    )
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"r.example": auth("moved", "1")}}))
    assert logins.find("r.example", {"HOME": "/none", "DOCKER_CONFIG": str(tmp_path)}).user == "moved"


@pytest.mark.parametrize("text", ["{", "[]", '{"auths": 3}', '{"auths": {"r.example": {"auth": "%%"}}}',
                                  '{"auths": {"r.example": {"auth": "bm9jb2xvbg=="}}}'])  # fmt: skip
def test_a_file_that_cannot_be_understood_is_named(tmp_path, text):
    home = config(tmp_path)
    (tmp_path / ".docker" / "config.json").write_text(text)
    with pytest.raises(BadInput, match="cannot be understood") as caught:
        logins.find("r.example", home)
    assert caught.value.where.endswith("config.json")


def helper(folder, script):
    path = folder / "docker-credential-tests"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_a_helper_is_asked(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    home = config(tmp_path, credHelpers={"r.example": "tests"})
    helper(tmp_path, 'read host; echo "{\\"Username\\": \\"$host\\", \\"Secret\\": \\"s\\"}"')
    assert logins.find("r.example/x", home) == Login("r.example", "s")
    helper(tmp_path, "echo credentials not found in native keychain; exit 1")
    assert logins.find("r.example/x", home) is None
    helper(tmp_path, "echo locked; exit 1")
    with pytest.raises(Unavailable, match="locked"):
        logins.find("r.example/x", home)
    with pytest.raises(NotFound, match="docker-credential-none"):
        logins.find("r.example/x", config(tmp_path, credHelpers={"r.example": "none"}))
    store = config(tmp_path, auths={"r.example": {}}, credsStore="tests")
    helper(tmp_path, 'read host; echo "{\\"Username\\": \\"u\\", \\"Secret\\": \\"s\\"}"')
    assert logins.find("r.example/x", store) == Login("u", "s")


def test_a_login_does_not_show_its_password():
    assert "hunter2" not in repr(Login("me", "hunter2"))


def test_a_login_goes_to_no_other_host():
    """An upload that a registry sends elsewhere is made there without the login."""
    seen = []
    fake = FakeRegistry(Login("u", "p"))

    def answer(request):
        seen.append((request.url.host, request.headers.get("Authorization")))
        if request.url.host != "r.example":
            return httpx.Response(201)
        found = fake(request)
        if request.method == "POST" and found.status_code == 202:
            found.headers["Location"] = "https://store.example/put?signed=1"
        return found

    content = b"x" * 10
    with registries.Registry("r.example", Login("u", "p"), transport=httpx.MockTransport(answer)) as there:
        there.upload("thing", f"sha256:{sha256(content).hexdigest()}", 10, io.BytesIO(content))
    assert ("store.example", None) in seen
    assert [each for each in seen if each[0] == "r.example"][-1][1]
    assert all(told is None for host, told in seen if host != "r.example")


def certificate(folder):
    """Give an authority's certificate and, signed by it, a server's certificate and key for 127.0.0.1."""
    now, hour = datetime.now(UTC), timedelta(hours=1)

    def signed(name, key, by, issuer, *extensions):
        made = x509.CertificateBuilder().subject_name(name).issuer_name(issuer).public_key(key.public_key())
        made = made.serial_number(x509.random_serial_number())
        made = made.not_valid_before(now - hour).not_valid_after(now + hour)
        for extension, critical in extensions:
            made = made.add_extension(extension, critical=critical)
        return made.sign(by, hashes.SHA256())

    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority of the test")])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "registry of the test")])
    basic = x509.BasicConstraints(ca=True, path_length=None)
    place = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(signed(root_name, root_key, root_key, root_name, (basic, True)).public_bytes(pem))
    (folder / "crt.pem").write_bytes(signed(name, key, root_key, root_name, (place, False)).public_bytes(pem))
    form = serialization.PrivateFormat.PKCS8
    (folder / "key.pem").write_bytes(key.private_bytes(pem, form, serialization.NoEncryption()))
    return folder / "ca.pem", folder / "crt.pem", folder / "key.pem"


@pytest.mark.skipif(not has_real(), reason="no docker-registry here")
def test_the_command_line_pushes_over_tls_with_a_login(tmp_path, capsys, monkeypatch):
    ca, crt, key = certificate(tmp_path)
    built(tmp_path / "images")
    monkeypatch.setenv("HOME", str(tmp_path))
    with real(tmp_path, locked=True, tls=(crt, key)) as host:
        words = ("images", "push", f"{host}/dyn", "--from", tmp_path / "images")
        said = dynamos(capsys, *words)
        assert (said.code, "--ca" in said.err) == (Unavailable.exit, True)
        said = dynamos(capsys, *words, "--ca", ca)
        assert (said.code, "docker login" in said.err) == (3, True)
        config(tmp_path, auths={host: auth("pusher", "secret-of-the-test")})
        said = dynamos(capsys, *words, "--ca", ca, "--format", "json")
        assert (said.code, json.loads(said.out)[0]["skipped"]) == (0, 0)
        assert "secret-of-the-test" not in said.out + said.err
