"""Registries for tests: Debian's docker-registry on loopback, and a fake that passes the same cases in this process."""

import hashlib
import json
import re
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

from dynamos.deploy.images.logins import Login
from dynamos.deploy.images.registries import Registry

LOGIN = Login("pusher", "secret-of-the-test")
_HTPASSWD = "pusher:$2b$05$abcdefghijklmnopqrstuu2hir4hxhqSzdkW1wYaCdjOyk2x8X6Wm\n"
_STARTS_SECONDS = 20.0


def has_real():
    """Tell whether Debian's docker-registry is installed."""
    return shutil.which("docker-registry") is not None


@contextmanager
def real(folder, *, locked=False, tls=None):
    """Run a registry on a free port of loopback, with a login where `locked`, with `tls` (certificate, key)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    told = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "store")}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    if tls:
        told["http"]["tls"] = {"certificate": str(tls[0]), "key": str(tls[1])}
    if locked:
        (folder / "htpasswd").write_text(_HTPASSWD)
        told["auth"] = {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}}
    (folder / "registry.yml").write_text(json.dumps(told))
    with (folder / "registry.log").open("wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", folder / "registry.yml"], stdout=log, stderr=log)
    try:
        _wait(port, process, folder)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def _wait(port, process, folder):
    end = time.monotonic() + _STARTS_SECONDS
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, (folder / "registry.log").read_text()
        assert time.monotonic() < end, f"the registry took no connections within {_STARTS_SECONDS:g} s"
        time.sleep(0.02)


@dataclass
class FakeRegistry:
    """Keeps blobs and manifests in memory. `login` locks it, `bearer` makes it hand out tokens for the login."""

    login: Login | None = None
    bearer: bool = False
    notes_subjects: bool = False
    blobs: dict = field(default_factory=dict)
    manifests: dict = field(default_factory=dict)
    uploads: dict = field(default_factory=dict)
    realm: str = "http://127.0.0.1:1/token"
    token: str = "token-of-the-fake"

    def __call__(self, request):
        path = request.url.path
        if path == "/token":
            return self._token(request)
        if refused := self._refused(request):
            return refused
        if match := re.fullmatch(r"/v2/(.+)/blobs/uploads/(\w*)", path):
            return self._upload(request, *match.groups())
        if match := re.fullmatch(r"/v2/(.+)/blobs/(sha256:\w+)", path):
            found = self.blobs.get(match.groups())
            return httpx.Response(404 if found is None else 200)
        match = re.fullmatch(r"/v2/(.+)/manifests/(.+)", path)
        return self._manifest(request, *match.groups()) if match else httpx.Response(404)

    def _refused(self, request):
        if self.login is None:
            return None
        wanted = f"Bearer {self.token}" if self.bearer else self.login.basic()
        if request.headers.get("Authorization") == wanted:
            return None
        bearer = f'Bearer realm="{self.realm}",service="fake",scope="repository:x:pull,push"'
        offer = bearer if self.bearer else 'Basic realm="tests"'
        body = {"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]}
        return httpx.Response(401, headers={"WWW-Authenticate": offer}, json=body)

    def _token(self, request):
        assert request.url.params["service"] == "fake"
        if request.headers.get("Authorization") != self.login.basic():
            return httpx.Response(401, json={"errors": [{"code": "UNAUTHORIZED", "message": "wrong"}]})
        return httpx.Response(200, json={"token": self.token})

    def _upload(self, request, repository, name):
        if request.method == "POST":
            name = f"u{len(self.uploads)}"
            self.uploads[name] = b""
            return self._told(202, repository, name)
        content = request.read()
        if request.method == "GET":
            return self._told(204, repository, name)
        if request.method == "PATCH":
            start = int(request.headers["Content-Range"].partition("-")[0])
            if start != len(self.uploads[name]):
                return self._told(416, repository, name)
        self.uploads[name] += content
        if request.method == "PATCH":
            return self._told(202, repository, name)
        whole, digest = self.uploads.pop(name), request.url.params["digest"]
        if f"sha256:{hashlib.sha256(whole).hexdigest()}" != digest:
            body = {"errors": [{"code": "DIGEST_INVALID", "message": "provided digest did not match"}]}
            return httpx.Response(400, json=body)
        self.blobs[repository, digest] = whole
        return httpx.Response(201)

    def _told(self, status, repository, name):
        last = max(0, len(self.uploads[name]) - 1)
        headers = {"Location": f"/v2/{repository}/blobs/uploads/{name}", "Range": f"0-{last}"}
        return httpx.Response(status, headers=headers)

    def _manifest(self, request, repository, reference):
        if request.method != "PUT":
            found = self.manifests.get((repository, reference))
            return httpx.Response(404) if found is None else httpx.Response(200, content=found)
        content = request.read()
        told = json.loads(content)
        lacking = [
            each["digest"]
            for each in (*told.get("layers", []), *([told["config"]] if "config" in told else []))
            if (repository, each["digest"]) not in self.blobs
        ]
        if lacking:
            return httpx.Response(400, json={"errors": [{"code": "MANIFEST_BLOB_UNKNOWN", "message": lacking[0]}]})
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.manifests[repository, reference] = self.manifests[repository, digest] = content
        noted = {"OCI-Subject": told["subject"]["digest"]} if self.notes_subjects and "subject" in told else {}
        return httpx.Response(201, headers={"Docker-Content-Digest": digest, **noted})


@dataclass
class Wire(httpx.BaseTransport):
    """A connection to a registry that counts what goes over it, and breaks when `breaks` says so."""

    below: httpx.BaseTransport
    breaks: object = None
    asked: list = field(default_factory=list)

    def handle_request(self, request):
        self.asked.append((request.method, request.url.path))
        if self.breaks and (found := self.breaks(request)) is not None:
            if isinstance(found, Exception):
                raise found
            return found
        return self.below.handle_request(request)

    def close(self):
        self.below.close()


def client(host, wire, login=None):
    """Give a client that does not wait between its attempts."""
    return Registry(host, login, plain=True, transport=wire, pause=lambda _: None)
