"""Who calls: the user of a verified token, or anybody where the API is open."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import HTTPConnection

from dynamos.kit.clocks import SystemClock
from dynamos.kit.errors import NotFound, Refused, Unauthenticated
from dynamos.middleware.api.asks import Ask
from dynamos.middleware.configs import ApiConfig
from dynamos.middleware.identity import vouchers
from dynamos.middleware.identity.tokens import DEVELOPMENT_ISSUER, Identity, TokenVerifier, Verifier

_DOTS_OF_A_TOKEN = 2


@dataclass(frozen=True, slots=True)
class Caller:
    """`identity` is None only where the API is open and no token came. `key` is the path of the API's own key."""

    identity: Identity | None
    key: Path | None = None
    open: bool = False

    @property
    def user(self) -> str:
        """The user's name, empty for anybody."""
        return self.identity.user if self.identity else ""

    @property
    def user_id(self) -> str:
        return self.identity.id if self.identity else ""

    def voucher(self, purpose: str) -> str:
        """Give our signed word that this user asked for `purpose`; empty for anybody."""
        if self.identity is None or self.key is None:
            return ""
        return vouchers.sign(self.identity.user, self.identity.admin_of, purpose, self.key, SystemClock())

    def administers(self, name: str) -> bool:
        """Tell whether this user may change what belongs to a party, or (its name) to the marketplace."""
        if self.identity is None:
            return self.open
        return name in self.identity.admin_of

    def check_administers(self, name: str, what: str) -> None:
        """Raise Refused for who may not."""
        if not self.administers(name):
            raise Refused(f"only an admin of {name} may change {what}", code="not-admin", hint="ask one of its admins")

    def check_asks(self, ask: Ask) -> None:
        """Raise Refused for a request in somebody else's name."""
        if self.identity is not None and ask.request.user.user_name != self.user:
            raise Refused(
                f"the token is {self.user!r}'s, the request is {ask.request.user.user_name!r}'s",
                where="$.user.userName",
                code="other-user",
                hint="leave `user` out, or ask with that user's own token",
            )

    def check_owns(self, job: str, user: str) -> None:
        """Raise NotFound for somebody else's job, as if there were none."""
        if self.identity is not None and user != self.user:
            raise NotFound(f"there is no job {job!r}")


class Callers:
    """Tells who calls, from the bearer token of a request.

    Where the API is open, a token that is none (such as upstream's `1234`) counts as no token; one that looks like a
    signed token is verified all the same, so that nobody takes a forged one for accepted.
    """

    def __init__(
        self,
        verifier: TokenVerifier | None,
        key: Path,
        *,
        open: bool,  # noqa: A002
        slow: bool = False,
    ) -> None:
        self._verifier = verifier
        self._key = key
        self._open = open
        self._slow = slow

    async def of(self, connection: HTTPConnection) -> Caller:
        """Give the caller. Raises Unauthenticated."""
        token = bearer(connection.headers.get("authorization", ""))
        if self._open and token.count(".") != _DOTS_OF_A_TOKEN:
            return Caller(None, open=True)
        if not token:
            raise Unauthenticated(
                "there is no token",
                code="token-missing",
                hint="send Authorization: Bearer <token>; see `dynamos token`",
            )
        if self._verifier is None:
            raise Unauthenticated("no issuer of tokens is known here", code="token-issuer")
        verify = self._verifier.verify
        identity = await asyncio.to_thread(verify, token) if self._slow else verify(token)
        return Caller(identity, self._key, open=self._open)


def bearer(header: str) -> str:
    """Give the token in an `Authorization` header, empty where there is none."""
    scheme, _, token = header.strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def callers_of(config: ApiConfig) -> Callers:
    """Give what tells who calls: by the keys in the API's folder, or those of its OpenID Connect issuer."""
    settings = config.settings
    return Callers(_verifier_of(config), config.credentials.key, open=settings.open, slow=bool(settings.issuer))


def _verifier_of(config: ApiConfig) -> TokenVerifier | None:
    """Give what checks bearer tokens; None where there are no keys and the open mode needs none."""
    if config.settings.issuer:
        # Its HTTP client costs half a second of every start, and few marketplaces need it.
        from dynamos.middleware.identity.oidc import OidcVerifier  # noqa: PLC0415

        return OidcVerifier(config.settings.issuer, audience=config.marketplace)
    if config.settings.open and not config.jwks.exists():
        return None
    return Verifier(config.jwks, issuer=DEVELOPMENT_ISSUER, audience=config.marketplace)
