"""Pushing to a registry: the same cases for Debian's docker-registry and for the fake."""

import io
import json
import os
from contextlib import contextmanager
from hashlib import sha256

import httpx
import pytest

from dynamos.deploy.images import pushes, registries
from dynamos.deploy.images.logins import Login
from dynamos.deploy.images.manifests import Runs
from dynamos.deploy.images.packing import pack
from dynamos.kit.errors import (
    BadInput,
    Conflict,
    Full,
    JobFailed,
    NotFound,
    Refused,
    Unauthenticated,
    Unavailable,
)  # fmt: skip
from support.images import built
from support.registries import LOGIN, FakeRegistry, Wire, client, has_real, real

KINDS = ["fake", pytest.param("real", marks=pytest.mark.skipif(not has_real(), reason="no docker-registry here"))]


@contextmanager
def opened(kind, folder, *, locked=False):
    """Give host and transport of a registry."""
    if kind == "fake":
        fake = FakeRegistry(LOGIN if locked else None)
        yield "127.0.0.1:1", Wire(httpx.MockTransport(fake))
        return
    with real(folder, locked=locked) as host, httpx.HTTPTransport() as transport:
        yield host, Wire(transport)


@pytest.fixture(params=KINDS)
def registry(request, tmp_path):
    with opened(request.param, tmp_path) as found:
        yield found


@pytest.fixture(params=KINDS)
def locked(request, tmp_path):
    with opened(request.param, tmp_path, locked=True) as found:
        yield found


def test_what_is_pushed_can_be_pulled_and_is_not_sent_twice(tmp_path, registry):
    host, wire = registry
    digest = built(tmp_path / "images", os.urandom(100_000))
    with client(host, wire) as there:
        (first,) = pushes.push(tmp_path / "images", f"{host}/dyn", there)
        assert first.reference == f"{host}/dyn/thing:1@{digest}"
        assert (first.sent > 100_000, first.skipped) == (True, 0)
        tagged, pinned = there.manifest("dyn/thing", "1"), there.manifest("dyn/thing", digest)
        assert tagged == pinned
        assert f"sha256:{sha256(tagged).hexdigest()}" == digest
        wire.asked.clear()
        (again,) = pushes.push(tmp_path / "images", f"{host}/dyn", there)
        assert (again.sent, again.skipped) == (0, first.sent)
        assert not [path for method, path in wire.asked if method in ("POST", "PATCH")]


def test_the_bill_of_materials_refers_to_the_image(tmp_path, registry):
    host, wire = registry
    digest = built(tmp_path / "images")
    with client(host, wire) as there:
        for _ in range(2):
            pushes.push(tmp_path / "images", host, there)
        (entry,) = json.loads(there.manifest("thing", digest.replace(":", "-")))["manifests"]
        attached = json.loads(there.manifest("thing", entry["digest"]))
        assert attached["subject"]["digest"] == digest
        assert attached["artifactType"] == entry["artifactType"] == "application/spdx+json"
        assert there.has("thing", attached["layers"][0]["digest"])


def test_a_big_blob_goes_in_pieces_and_goes_on_after_a_break(monkeypatch, registry):
    host, wire = registry
    monkeypatch.setattr(registries, "CHUNK", 300_000)
    content = os.urandom(1_000_001)
    digest = f"sha256:{sha256(content).hexdigest()}"
    broken = []

    def breaks(request):
        at = request.headers.get("Content-Range", "")
        if request.method == "PATCH" and at.startswith("300000-") and not broken:
            broken.append(at)
            return httpx.WriteError("cut")
        return None

    wire.breaks = breaks
    with client(host, wire) as there:
        there.upload("thing", digest, len(content), io.BytesIO(content))
        assert there.has("thing", digest)
    assert broken
    assert [method for method, _ in wire.asked if method in ("PATCH", "GET")] == [
        "PATCH",
        "PATCH",
        "GET",
        *["PATCH"] * 3,
    ]


def test_what_is_not_what_its_digest_says_is_refused(registry):
    host, wire = registry
    with client(host, wire) as there, pytest.raises(JobFailed, match=r"(?i)digest"):
        there.upload("thing", f"sha256:{'0' * 64}", 3, io.BytesIO(b"abc"))


def test_a_manifest_whose_blobs_are_not_there_is_refused(tmp_path, registry):
    host, wire = registry
    built(tmp_path / "images")
    wire.breaks = lambda request: httpx.Response(200) if request.method == "HEAD" else None
    with client(host, wire) as there, pytest.raises(JobFailed, match=r"(?i)blob"):
        pushes.push(tmp_path / "images", host, there)


def test_with_a_login_it_opens(tmp_path, locked):
    host, wire = locked
    built(tmp_path / "images", os.urandom(50_000))
    with client(host, wire, LOGIN) as there:
        assert pushes.push(tmp_path / "images", f"{host}/dyn", there)[0].sent > 50_000


@pytest.mark.parametrize("login", [None, Login("pusher", "wrong")])
def test_without_the_right_login_it_says_so(tmp_path, locked, login):
    host, wire = locked
    built(tmp_path / "images")
    with client(host, wire, login) as there, pytest.raises(Unauthenticated) as caught:
        pushes.push(tmp_path / "images", host, there)
    assert "docker login" in caught.value.hint
    assert "wrong" not in str(caught.value)


def fake(**members):
    found = FakeRegistry(**members)
    return found, Wire(httpx.MockTransport(found))


def test_a_token_is_fetched_where_the_registry_wants_one(tmp_path):
    registry, wire = fake(login=LOGIN, bearer=True)
    built(tmp_path)
    with client("127.0.0.1:1", wire, LOGIN) as there:
        pushes.push(tmp_path, "127.0.0.1:1", there)
    assert ("thing", "1") in registry.manifests


def test_a_password_is_not_sent_elsewhere_without_tls(tmp_path):
    _, wire = fake(login=LOGIN, bearer=True, realm="http://evil.example/token")
    built(tmp_path)
    with client("127.0.0.1:1", wire, LOGIN) as there, pytest.raises(BadInput, match="without TLS"):
        pushes.push(tmp_path, "127.0.0.1:1", there)


def test_a_registry_that_notes_what_refers_to_an_image_gets_no_tag_for_it(tmp_path):
    registry, wire = fake(notes_subjects=True)
    digest = built(tmp_path)
    with client("127.0.0.1:1", wire) as there:
        pushes.push(tmp_path, "127.0.0.1:1", there)
    assert ("thing", digest.replace(":", "-")) not in registry.manifests


def body(code, message):
    return {"errors": [{"code": code, "message": message}]}


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (httpx.Response(403, json=body("DENIED", "not yours")), Refused, "DENIED not yours"),
        (httpx.Response(404, json=body("NAME_UNKNOWN", "unknown")), NotFound, "NAME_UNKNOWN"),
        (httpx.Response(404, text="<html>"), NotFound, "404 Not Found"),
        (httpx.Response(405), Refused, "405"),
        (httpx.Response(413), Full, "no room"),
        (httpx.Response(500, json=body("UNKNOWN", "write: no space left on device")), Full, "no space left"),
        (httpx.Response(507), Full, "no room"),
        (httpx.Response(429, json=body("TOOMANYREQUESTS", "slow down")), Unavailable, "slow down"),
        (httpx.Response(502, text="bad"), Unavailable, "502"),
        (httpx.ConnectError("Connection refused"), Unavailable, "cannot be reached"),
        (httpx.ReadTimeout("timed out"), Unavailable, "timed out"),
    ],
)
def test_a_refusal_says_what_to_do(tmp_path, answer, kind, words):
    _, wire = fake()
    wire.breaks = lambda request: answer if request.method == "POST" else None
    built(tmp_path)
    with client("127.0.0.1:1", wire) as there, pytest.raises(kind, match=words):
        pushes.push(tmp_path, "127.0.0.1:1", there)


def test_a_registry_that_is_busy_for_a_moment_is_asked_again(tmp_path):
    registry, wire = fake()
    left = [httpx.Response(503), httpx.ReadError("reset"), httpx.Response(500)]
    wire.breaks = lambda request: left.pop() if request.method == "PUT" and left else None
    built(tmp_path)
    with client("127.0.0.1:1", wire) as there:
        pushes.push(tmp_path, "127.0.0.1:1", there)
    assert ("thing", "1") in registry.manifests


def test_a_push_that_breaks_off_leaves_nothing_to_pull_and_goes_on_later(tmp_path):
    registry, wire = fake()
    built(tmp_path, os.urandom(1000))
    wire.breaks = lambda request: httpx.ReadError("gone") if "/manifests/" in request.url.path else None
    with client("127.0.0.1:1", wire) as there, pytest.raises(Unavailable):
        pushes.push(tmp_path, "127.0.0.1:1", there)
    assert not registry.manifests
    wire.breaks = None
    with client("127.0.0.1:1", wire) as there:
        assert pushes.push(tmp_path, "127.0.0.1:1", there)[0].sent == 0


def test_an_archive_that_is_not_the_recorded_one_is_not_pushed(tmp_path):
    _, wire = fake()
    built(tmp_path)
    pack(tmp_path / "root", tmp_path / "thing.tar", name="thing", version="2", runs=Runs(("/other",)))
    with client("127.0.0.1:1", wire) as there, pytest.raises(Conflict, match="not the one of the record"):
        pushes.push(tmp_path, "127.0.0.1:1", there)
    with client("127.0.0.1:1", wire) as there, pytest.raises(NotFound, match="not built yet: none"):
        pushes.push(tmp_path, "127.0.0.1:1", there, ["none"])


@pytest.mark.parametrize("host", ["https://r.example", "r.example/path", "a b", ""])
def test_what_is_no_host_is_refused(host):
    with pytest.raises(BadInput):
        registries.Registry(host)


def test_without_tls_only_this_machine_is_spoken_to(tmp_path):
    with pytest.raises(BadInput, match="only spoken to with TLS"):
        registries.Registry("registry.example.org", plain=True)
    with pytest.raises(BadInput, match="cannot be read"):
        registries.Registry("registry.example.org", authorities=str(tmp_path / "none.pem"))
    assert registries.split("r.example:5000/a/b") == ("r.example:5000", "a/b")
    for host in ("127.0.0.1", "localhost", "[::1]"):
        registries.Registry(f"{host}:5000", plain=True)
