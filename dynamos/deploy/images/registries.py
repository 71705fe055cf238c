"""Registries over the OCI distribution API: blobs and manifests, put there once."""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address
from typing import IO, Any, Self

import httpx

from dynamos.deploy.images import refusals
from dynamos.deploy.images.logins import Login
from dynamos.deploy.images.manifests import INDEX, MANIFEST
from dynamos.kit.errors import BadInput, DynamosError, JobFailed, Unavailable

CHUNK = 16 * 1024 * 1024
"""Bytes of a blob that are sent at a time: what is lost where a connection breaks."""
ATTEMPTS = 4
PAUSE_SECONDS = 0.5
_PIECE = 256 * 1024
_TIMES = httpx.Timeout(60.0, connect=10.0)
_REGISTRY = re.compile(r"(?P<host>\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+)(?P<port>:\d{1,5})?(?P<path>(/[a-z0-9._-]+)*)")
_OFFER = re.compile(r'(\w+)="([^"]*)"')


class Registry:
    """A registry: `host[:port]`, the path in it is part of the repositories' names.

    TLS, with certificates that this machine trusts or those of `authorities`; `plain` (no TLS) only on loopback.
    """

    def __init__(
        self,
        host: str,
        login: Login | None = None,
        *,
        plain: bool = False,
        authorities: str = "",
        transport: httpx.BaseTransport | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Prepare for it. Raises BadInput where it is no registry's address, or plain and not on loopback."""
        match = _REGISTRY.fullmatch(host)
        if match is None or match["path"]:
            raise BadInput(f"{host!r} is not the host of a registry", hint="such as registry.example.org:5000")
        if plain and not is_loopback(match["host"]):
            raise BadInput(f"{host} is not on this machine, so it is only spoken to with TLS")
        self.host, self._login, self._pause, self._plain = host, login, pause, plain
        self._token, self._lost = "", 0
        self._http = httpx.Client(
            base_url=f"{'http' if plain else 'https'}://{host}/v2/", timeout=_TIMES, transport=transport,
            verify=_trust(authorities), follow_redirects=False, headers={"User-Agent": "dynamos"},
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def has(self, repository: str, digest: str) -> bool:
        """Tell whether a blob is there."""
        answer = self._ask("HEAD", f"{repository}/blobs/{digest}", known=(200, 307, 404))  # 307: it is in a store
        return answer.status_code != httpx.codes.NOT_FOUND

    def upload(self, repository: str, digest: str, size: int, blob: IO[bytes]) -> None:
        """Put a blob, in pieces where it is big. After a break it goes on where the registry says it has got to."""
        begun = self._ask("POST", f"{repository}/blobs/uploads/", known=(202,))
        place, at, self._lost = self._location(begun), 0, 0
        while size - at > CHUNK or (at and at < size):
            place, at = self._send(place, at, min(CHUNK, size - at), blob)
        self._finish(place, digest, 0 if at else size, blob)

    def put(self, repository: str, reference: str, media_type: str, content: bytes, digest: str) -> bool:
        """Put a manifest under a tag or its digest; tell whether the registry noted what it refers to.

        Raises JobFailed where the registry took it for another one.
        """
        answer = self._ask(
            "PUT", f"{repository}/manifests/{reference}", known=(201,), content=content,
            headers={"Content-Type": media_type},
        )  # fmt: skip
        if (told := answer.headers.get("Docker-Content-Digest", digest)) != digest:
            raise JobFailed(f"the registry keeps it as {told}", where=f"{self.host}/{repository}@{digest}")
        return "OCI-Subject" in answer.headers

    def manifest(self, repository: str, reference: str) -> bytes | None:
        """Give a manifest or an index as it is there, or None."""
        accept = {"Accept": f"{MANIFEST}, {INDEX}"}
        answer = self._ask("GET", f"{repository}/manifests/{reference}", known=(200, 404), headers=accept)
        return answer.content if answer.status_code == httpx.codes.OK else None

    def _send(self, place: str, at: int, size: int, blob: IO[bytes]) -> tuple[str, int]:
        """Send one piece; give where the next one goes, and from where on."""
        blob.seek(at)
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(size),
            "Content-Range": f"{at}-{at + size - 1}",
        }
        try:
            answer = self._once("PATCH", place, headers=headers, content=_pieces(blob, size))
        except httpx.TransportError as error:
            return self._got_to(place, error)
        if answer.status_code == httpx.codes.ACCEPTED:
            return self._location(answer), _end(answer, at + size)
        if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE or refusals.may_pass(answer):
            return self._got_to(place, refusals.explain(answer, place))
        raise refusals.explain(answer, place)

    def _got_to(self, place: str, error: Exception) -> tuple[str, int]:
        """Ask how much of an upload is there, after a piece of it was lost."""
        self._lost += 1
        if self._lost >= ATTEMPTS:
            raise self._unreachable(error) from None
        self._pause(PAUSE_SECONDS * 2**self._lost)
        answer = self._ask("GET", place, known=(204,))
        return self._location(answer, place), _end(answer, 0)

    def _finish(self, place: str, digest: str, size: int, blob: IO[bytes]) -> None:
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}

        def content() -> Iterator[bytes]:
            blob.seek(0)
            return _pieces(blob, size)

        self._ask(
            "PUT", str(httpx.URL(place).copy_merge_params({"digest": digest})), known=(201,), headers=headers,
            make=content,
        )  # fmt: skip

    def _ask(
        self,
        method: str,
        url: str,
        *,
        known: tuple[int, ...],
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        make: Callable[[], Iterator[bytes]] | None = None,
    ) -> httpx.Response:
        """Ask until there is an answer, a few times where it may help. Raises what fits an answer that is not known."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                answer = self._once(method, url, headers=headers, content=make() if make else content)
            except httpx.TransportError as error:
                if attempt == ATTEMPTS or refusals.lasts(str(error)):
                    raise self._unreachable(error) from None
            else:
                if answer.status_code in known:
                    return answer
                if attempt == ATTEMPTS or not refusals.may_pass(answer):
                    raise refusals.explain(answer, f"{self.host}/{url}" if "://" not in url else url)
            self._pause(PAUSE_SECONDS * 2 ** (attempt - 1))
        raise AssertionError

    def _once(self, method: str, url: str, **more: Any) -> httpx.Response:
        """Ask once, and once more with what the registry wants of us where that is why it refused."""
        first = {**(more.pop("headers") or {}), **self._authorization(url)}
        answer = self._http.request(method, url, headers=first, **more)
        if answer.status_code != httpx.codes.UNAUTHORIZED or not self._authenticate(answer):
            return answer
        body = more.get("content")
        if body is not None and not isinstance(body, bytes):
            return httpx.Response(httpx.codes.SERVICE_UNAVAILABLE, request=answer.request)  # sent: try again, with it
        return self._http.request(method, url, headers={**first, **self._authorization(url)}, **more)

    def _authorization(self, url: str) -> dict[str, str]:
        """Give the header that says who we are; to no other host than the registry's own."""
        own = "://" not in url or httpx.URL(url).netloc == self._http.base_url.netloc
        return {"Authorization": self._token} if self._token and own else {}

    def _authenticate(self, answer: httpx.Response) -> bool:
        """Get what the registry asks for; tell whether there is something new to try with."""
        kind, _, rest = answer.headers.get("WWW-Authenticate", "").partition(" ")
        offer = dict(_OFFER.findall(rest))
        new = ""
        if kind.lower() == "basic" and self._login:
            new = self._login.basic()
        elif kind.lower() == "bearer" and "realm" in offer:
            new = self._bearer(offer)
        changed = bool(new) and new != self._token
        self._token = new or self._token
        return changed

    def _bearer(self, offer: Mapping[str, str]) -> str:
        realm = httpx.URL(offer["realm"])
        if realm.scheme != "https" and not (self._plain and is_loopback(realm.host)):
            raise BadInput("the registry wants a password to be sent without TLS", where=offer["realm"])
        asked = {name: offer[name] for name in ("service", "scope") if name in offer}
        headers = {"Authorization": self._login.basic()} if self._login else {}
        answer = self._http.get(realm.copy_merge_params(asked), headers=headers)
        if answer.status_code != httpx.codes.OK:
            raise refusals.explain(answer, offer["realm"])
        told = answer.json()
        return f"Bearer {told.get('token') or told.get('access_token')}"

    def _location(self, answer: httpx.Response, before: str = "") -> str:
        place = answer.headers.get("Location") or before
        if not place:
            raise Unavailable("this does not answer as a registry does", where=str(answer.request.url))
        url = answer.request.url.join(place)
        if url.scheme != self._http.base_url.scheme:
            raise BadInput("the registry wants a blob to be sent without TLS", where=str(url))
        return str(url)

    def _unreachable(self, error: Exception) -> DynamosError:
        if isinstance(error, DynamosError):
            return error
        words = str(error) or type(error).__name__
        return Unavailable(f"the registry {self.host} cannot be reached: {words}", hint=refusals.advice(words))


def split(registry: str) -> tuple[str, str]:
    """Give host and path of a registry such as `registry.example.org:5000/dynamos`. Raises BadInput."""
    match = _REGISTRY.fullmatch(registry)
    if match is None:
        hint = "give host and path, such as registry.example.org/dynamos, without https://"
        raise BadInput(f"{registry!r} is not a registry", hint=hint)
    return match["host"] + (match["port"] or ""), match["path"].strip("/")


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _trust(authorities: str) -> ssl.SSLContext:
    """Give the authorities of this machine, or those of a file."""
    try:
        return ssl.create_default_context(cafile=authorities or None)
    except OSError as error:
        raise BadInput(f"these certificates cannot be read: {error}", where=authorities) from None


def _pieces(blob: IO[bytes], size: int) -> Iterator[bytes]:
    while size > 0 and (piece := blob.read(min(_PIECE, size))):
        size -= len(piece)
        yield piece


def _end(answer: httpx.Response, otherwise: int) -> int:
    """Give how many bytes a registry says it has; "0-0" is said for none and for one."""
    last = answer.headers.get("Range", "").removeprefix("bytes=").partition("-")[2]
    return int(last) + 1 if last.isdigit() and last != "0" else otherwise
