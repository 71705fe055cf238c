"""Who calls: the user of a verified token, or anybody where the API is open."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from starlette.requests import HTTPConnection

from dynamos.kit.errors import NotFound, Refused, Unauthenticated
from dynamos.middleware.api.asks import Ask
from dynamos.middleware.configs import UnitConfig
from dynamos.middleware.identity.requestors import verifier_of
from dynamos.middleware.identity.tokens import Identity, TokenVerifier

_DOTS_OF_A_TOKEN = 2


@dataclass(frozen=True, slots=True)
class Caller:
    """`identity` is None only where the API is open and no token came. `token` is passed on to who checks again."""

    identity: Identity | None
    token: str = ""
    open: bool = False

    @property
    def user(self) -> str:
        """The user's name, empty for anybody."""
        return self.identity.user if self.identity else ""

    @property
    def user_id(self) -> str:
        return self.identity.id if self.identity else ""

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

    def __init__(self, verifier: TokenVerifier | None, *, open: bool, slow: bool = False) -> None:  # noqa: A002
        self._verifier = verifier
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
        return Caller(identity, token, open=self._open)


def bearer(header: str) -> str:
    """Give the token in an `Authorization` header, empty where there is none."""
    scheme, _, token = header.strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def callers_of(config: UnitConfig) -> Callers:
    """Give what tells who calls a unit: by the keys of its configuration, or those of its OpenID Connect issuer."""
    return Callers(verifier_of(config), open=config.settings.open, slow=bool(config.settings.issuer))
