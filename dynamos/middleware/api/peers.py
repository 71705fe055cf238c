"""Peers: the APIs of one marketplace. Each keeps the results of the jobs that it took; what is asked of another one's
job is passed on to it, with the caller's own token, over mutual TLS that only the unit `api` can speak.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from dynamos.kit.credentials import Credentials, dns_name, unit_uri
from dynamos.kit.errors import Unavailable
from dynamos.kit.imports import leave_out_httpx_command
from dynamos.knowledge.permissions import API
from dynamos.middleware.api.routes.waits import unless_gone
from dynamos.middleware.instances import by_unit
from dynamos.middleware.messages import Presence

log = logging.getLogger(__name__)
FORWARDED = "dynamos-forwarded"
"""The header of what another API passes on: it is not passed on again."""
CONNECT_SECONDS = 3.0
_HOP = frozenset(
    ("connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host", "content-length", "expect")
)


class Elsewhere(Exception):
    """The results of a job are at another API."""

    def __init__(self, instance: str) -> None:
        super().__init__(instance)
        self.instance = instance


class Peers:
    """The other APIs. `online` gives who is there, `instance` is our own name."""

    def __init__(self, credentials: Credentials, instance: str, online: Callable[[], Mapping[str, Presence]]) -> None:
        self.instance = instance
        self._credentials = credentials
        self._online = online
        self._client: Any = None

    def look(self, request: Request, holder: str | None) -> None:
        """Raise Elsewhere for what another API that is there holds, unless that one has sent us the question."""
        if holder and holder != self.instance and self._address(holder) and FORWARDED not in request.headers:
            raise Elsewhere(holder)

    async def forward(self, request: Request, instance: str) -> Response:
        """Give the answer of another API to a request. Raises Unavailable where that one does not answer."""
        leave_out_httpx_command()
        import httpx  # noqa: PLC0415  few APIs need it, and it costs every start

        if self._client is None:
            limits = httpx.Timeout(None, connect=CONNECT_SECONDS)
            context = self._credentials.client_context()
            self._client = httpx.AsyncClient(verify=context, timeout=limits, trust_env=False)
        kept = [(name, value) for name, value in request.headers.items() if name not in _HOP]
        asked = self._client.build_request(
            request.method,
            f"{self._address(instance)}{request.url.path}",
            params=str(request.url.query).encode(),
            headers=[*kept, (FORWARDED, self.instance)],
            content=getattr(request.state, "body", None),
            extensions={"sni_hostname": dns_name(API)},
        )
        try:
            answer = await unless_gone(request, self._client.send(asked, stream=True))
        except (httpx.TransportError, httpx.InvalidURL) as error:
            log.warning("peer.away instance=%s error=%r", instance, error)
            raise Unavailable(
                f"the API that keeps this job's results does not answer: {instance}", code="api-away",
                hint="try again; if it stays away, submit the request again",
            ) from None  # fmt: skip

        async def body() -> AsyncIterator[bytes]:
            try:
                async for chunk in answer.aiter_raw():
                    yield chunk
            finally:
                await answer.aclose()

        told = {name: value for name, value in answer.headers.items() if name == "content-length" or name not in _HOP}
        return StreamingResponse(body(), answer.status_code, told)

    async def close(self) -> None:
        """Close the connections to others."""
        if self._client is not None:
            await self._client.aclose()

    def _address(self, instance: str) -> str:
        found = (each.address for each in by_unit(self._online()).get(API, ()) if each.instance == instance)
        return next(found, "")


def server_context(credentials: Credentials) -> ssl.SSLContext:
    """Give the TLS of the door for peers: who comes has a certificate of the marketplace. Whose, `is_peer` tells."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(credentials.authority))
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(credentials.certificate, credentials.key)
    return context


def is_peer(certificate: Mapping[str, Any] | None, marketplace: str) -> bool:
    """Tell whether a certificate, as `getpeercert` gives it, is that of the marketplace's API."""
    names = (certificate or {}).get("subjectAltName", ())
    return ("URI", unit_uri(marketplace, API)) in names


async def elsewhere(request: Request, error: Exception) -> Response:
    """Answer what another API has the answer to."""
    assert isinstance(error, Elsewhere)
    peers: Peers = request.app.state.desk.peers
    return await peers.forward(request, error.instance)
