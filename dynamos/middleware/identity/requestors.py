"""Checks again, inside, whose token came with a request: no unit takes another's word for it."""

from __future__ import annotations

import asyncio
import logging

from dynamos.kit.errors import DynamosError, Refused
from dynamos.middleware.configs import UnitConfig
from dynamos.middleware.identity.tokens import DEVELOPMENT_ISSUER, Identity, TokenVerifier, Verifier

log = logging.getLogger(__name__)


def verifier_of(config: UnitConfig) -> TokenVerifier | None:
    """Give what checks bearer tokens for a unit: by the keys in its folder, or those of its OpenID Connect issuer.

    None where there are no keys and the open mode needs none. One with an issuer may wait for it: call it in a thread.
    """
    if config.settings.issuer:
        # Its HTTP client costs half a second of every start, and few marketplaces need it.
        from dynamos.middleware.identity.oidc import OidcVerifier  # noqa: PLC0415

        return OidcVerifier(config.settings.issuer, audience=config.marketplace)
    if config.settings.open and not config.jwks.exists():
        return None
    return Verifier(config.jwks, issuer=DEVELOPMENT_ISSUER, audience=config.marketplace)


class Requestors:
    """Knows the users of the configured issuer. In open mode everybody is who he says he is, and an admin."""

    def __init__(self, config: UnitConfig) -> None:
        self._open = config.settings.open
        self._remote = bool(config.settings.issuer)
        self._verifier = verifier_of(config)

    async def check(self, user: str, token: str) -> None:
        """Raise Unauthenticated or Refused (other-user) unless the token is this user's."""
        if self._open and not token:
            return
        identity = await self._identity(token)
        if identity.user != user:
            raise Refused(f"the token is {identity.user!r}'s, the request is {user!r}'s", code="other-user")

    async def administers(self, name: str, token: str) -> str | None:
        """Give the user's name if its token says that it may change what belongs to `name`, "" in open mode."""
        if self._open and not token:
            return ""
        try:
            identity = await self._identity(token)
        except DynamosError as error:
            log.warning("admin.refused name=%s error=%s", name, error)
            return None
        return identity.user if name in identity.admin_of else None

    async def _identity(self, token: str) -> Identity:
        if self._verifier is None:
            raise Refused("no issuer of tokens is known here", code="token-issuer")
        if self._remote:  # may wait for the issuer
            return await asyncio.to_thread(self._verifier.verify, token)
        return self._verifier.verify(token)
