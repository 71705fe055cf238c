"""Tokens of an OpenID Connect issuer: its keys are found by discovery, kept for a while, and renewed when they turn."""

from __future__ import annotations

import json
import logging
import threading
from typing import Any
from urllib.parse import urlsplit

import httpx
from joserfc.jwk import Key

from dynamos.kit.clocks import Clock, SystemClock
from dynamos.kit.errors import BadInput, DynamosError, Unavailable
from dynamos.middleware.identity.tokens import LEEWAY, Identity, Verifier, import_keys

log = logging.getLogger(__name__)

USER_CLAIMS = ("preferred_username", "email", "sub")
FRESH = 3600.0
STALE = 24 * 3600.0
RETRY = 30.0
_WITHIN = 5.0
_DOCUMENT_LIMIT = 1024 * 1024
_KEY_LIMIT = 64


class OidcVerifier:
    """Checks tokens of the issuer at `issuer_url`, which is https, or http on this machine.

    `verify` may wait up to 10 s for the issuer when keys are missing or old: call it in a thread. Keys are asked for
    again after an hour, or when a token names a key that is not known, but never more than twice a minute, whatever
    tokens arrive; where the issuer is away, known keys go on holding for a day.
    """

    def __init__(
        self,
        issuer_url: str,
        *,
        audience: str,
        user_claims: tuple[str, ...] = USER_CLAIMS,
        admin_claim: str = "admin_of",
        clock: Clock | None = None,
        leeway: float = LEEWAY,
    ) -> None:
        clock = clock or SystemClock()
        self._verifier = Verifier(
            DiscoveredKeys(issuer_url, clock=clock),
            issuer=issuer_url,
            audience=audience,
            clock=clock,
            leeway=leeway,
            user_claims=user_claims,
            admin_claim=admin_claim,
        )

    def verify(self, token: str) -> Identity:
        """Give the identity. Raises Unauthenticated as Verifier does, Unavailable where no key could be fetched."""
        return self._verifier.verify(token)


class DiscoveredKeys:
    """The keys that an issuer publishes now, within the bounds that this module names."""

    def __init__(self, issuer_url: str, *, clock: Clock) -> None:
        _check_address(issuer_url)
        self._issuer = issuer_url
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: dict[str, Key] = {}
        self._fetched: float | None = None
        self._tried: float | None = None

    def find(self, kid: str) -> Key | None:
        """Give the key, fetching the issuer's keys where need be. Raises Unavailable where there are none to judge
        by."""
        key = self._keys.get(kid)
        if key is not None and self._age(self._fetched) < FRESH:
            return key  # without the lock: tokens with known keys never wait for a fetch
        with self._lock:
            if kid not in self._keys or self._age(self._fetched) >= FRESH:
                self._refresh()
            if self._age(self._fetched) >= STALE:
                raise Unavailable("the keys of the issuer of tokens cannot be had", where=self._issuer)
            return self._keys.get(kid)

    def _age(self, since: float | None) -> float:
        return float("inf") if since is None else self._clock.monotonic() - since

    def _refresh(self) -> None:
        if self._age(self._tried) < RETRY:
            return
        self._tried = self._clock.monotonic()
        try:
            with httpx.Client(timeout=_WITHIN) as client:
                document = _fetch(client, f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
                if document.get("issuer") != self._issuer:
                    raise BadInput(f"the document says that it is {document.get('issuer')!r}'s")
                keys = import_keys(_fetch(client, _check_address(document.get("jwks_uri"))))
        except (httpx.HTTPError, DynamosError) as error:
            log.warning("oidc.refresh-failed", extra={"issuer": self._issuer, "error": str(error)})
            return
        self._keys = dict(list(keys.items())[:_KEY_LIMIT])
        self._fetched = self._tried


def _fetch(client: httpx.Client, address: str) -> dict[str, Any]:
    content = b""
    with client.stream("GET", address) as response:
        response.raise_for_status()
        for chunk in response.iter_bytes():
            content += chunk
            if len(content) > _DOCUMENT_LIMIT:
                raise BadInput("the document is too large", where=address)
    try:
        document = json.loads(content)
    except ValueError:
        raise BadInput("the document is not JSON", where=address) from None
    if not isinstance(document, dict):
        raise BadInput("the document is not a JSON object", where=address)
    return document


def _check_address(address: object) -> str:
    parts = urlsplit(address) if isinstance(address, str) else None
    local = parts is not None and parts.scheme == "http" and parts.hostname in {"127.0.0.1", "::1", "localhost"}
    if not isinstance(address, str) or parts is None or not parts.hostname or not (local or parts.scheme == "https"):
        raise BadInput(f"the issuer's address {address!r} is not https", hint="http is for this machine only")
    return address
