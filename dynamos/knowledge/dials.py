"""Make a connection: who we are, whom we trust, and how long to try."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
import time
from typing import Any

import nats.errors
from nats.aio.client import Client

from dynamos.kit.credentials import Credentials, dns_name
from dynamos.kit.errors import BadInput, DynamosError, Refused, Unauthenticated, Unavailable
from dynamos.knowledge.connections import Connection
from dynamos.knowledge.permissions import BUS
from dynamos.knowledge.subjects import inbox

_log = logging.getLogger(__name__)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0

logging.getLogger("asyncio").addFilter(
    # asyncio warns at the end of every connection that nats-py has raised to TLS; there is nothing to do about it
    lambda record: "eof_received() has no effect when using ssl" not in record.getMessage()
)


async def dial(url: str, credentials: Credentials, unit: str, *, within: float = 10.0, server: str = BUS) -> Connection:
    """Connect as `unit`, trying until `within` seconds have passed. `url` may be several, with commas between them: any
    one of these servers will do, and another one where it dies. `server` is the name that they must have in their
    certificates: the hub's, or that of the site's leaf.

    Raises Unavailable where no server answers, Unauthenticated where the server does not accept our certificate or is
    not the marketplace's, BadInput where the credentials cannot be read.
    """
    context = _context(credentials)
    end, pause = time.monotonic() + within, 0.02
    while True:
        try:
            return await _dial_once(url, context, credentials, unit, server, within=max(0.1, end - time.monotonic()))
        except Unavailable as error:
            if time.monotonic() + pause >= end:
                raise
            _log.debug("bus.dial", extra={"error": str(error)})
        except (OSError, nats.errors.Error) as error:
            if (final := _final(error, url, unit)) is not None:
                raise final from error
            if time.monotonic() + pause >= end:
                raise Unavailable(
                    f"no bus at this address within {within:g} s: {error!r}",
                    where=url,
                    hint="is it running? `dynamos status` tells",
                ) from error
        await asyncio.sleep(pause)
        pause = min(2 * pause, 0.5)


async def _dial_once(
    url: str, context: ssl.SSLContext, credentials: Credentials, unit: str, server: str, *, within: float
) -> Connection:
    client = Client()
    connection = Connection(url, unit, client)
    opened, choice = False, _Choice()

    async def failed(error: Exception) -> None:
        if not opened:
            raise error  # the only way to make nats-py give up its first attempt, yet reconnect for ever later
        await connection.failed(error)

    def next_attempt(servers: list[Any], _: dict[str, Any]) -> tuple[Any, float]:
        _renew(context, credentials)
        return choice.next(servers)

    try:
        async with asyncio.timeout(within):
            await client.connect(
                addresses(url),
                tls=context,
                tls_hostname=dns_name(server),
                tls_handshake_first=True,
                name=unit,
                inbox_prefix=inbox(unit),
                error_cb=failed,
                disconnected_cb=connection.lost,
                reconnected_cb=connection.back,
                closed_cb=connection.ended,
                connect_timeout=2,
                max_reconnect_attempts=-1,
                reconnect_to_server_handler=next_attempt,
                pending_size=0,  # nothing is kept to be sent after a reconnect: who asked has been told Unavailable
                ping_interval=5,
                max_outstanding_pings=2,
            )
    except BaseException:
        await connection.close(within=0.2)  # after a failed handshake, nats-py waits for an end that does not come
        raise
    opened = True
    choice.here(client)
    try:
        await connection.introduce(within)
    except BaseException as error:
        await connection.close()
        if isinstance(error, Refused):
            raise Unauthenticated(f"the certificate is not that of {unit!r}", where=url) from None
        raise
    return connection


def _renew(context: ssl.SSLContext, credentials: Credentials) -> None:
    """Take up, for the next handshake, what has been put in the place of our credentials meanwhile."""
    try:
        context.load_verify_locations(credentials.authority)
        context.load_cert_chain(credentials.certificate, credentials.key)
    except (OSError, ssl.SSLError) as error:  # between two moves of files: what we have may do
        _log.warning("bus.credentials-not-renewed", extra={"error": repr(error)})


def addresses(url: str) -> list[str]:
    """Give the servers that an address of the bus names. Raises BadInput where it names none."""
    found = [each.strip() for each in url.split(",") if each.strip()]
    if not found:
        raise BadInput("there is no address of the bus", hint="tls://HOST:PORT, or several with commas between them")
    return found


class _Choice:
    """Chooses the server for the next attempt: the one tried least often, and the one that was lost last of these."""

    def __init__(self) -> None:
        self._last = ""

    def here(self, client: Client) -> None:
        """Take note of the server that we are at."""
        found = client.connected_url
        self._last = found.netloc if found else ""

    def next(self, servers: list[Any]) -> tuple[Any, float]:
        """Give the server, and the seconds to wait before."""
        jitter = random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret
        found = min(servers, key=lambda each: (each.reconnects, each.uri.netloc == self._last, random.random()))  # noqa: S311
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(found.reconnects, 10))
        self._last = found.uri.netloc
        return found, pause * jitter


def _final(error: Exception, url: str, unit: str) -> DynamosError | None:
    """Give the error that trying again will not change."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Unauthenticated(f"the server is not this marketplace's bus: {error.verify_message}", where=url)
    refused = "authorization violation" in str(error).lower()
    if refused or (isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or "")):
        return Unauthenticated(
            f"the bus does not accept the certificate of {unit!r}",
            where=url,
            hint="its subject must be CN=<unit>,O=<marketplace>, from this marketplace's authority",
        )
    return None


def _context(credentials: Credentials) -> ssl.SSLContext:
    try:
        return credentials.client_context()
    except FileNotFoundError as error:
        raise BadInput("the credentials are not there", where=str(error.filename or credentials.certificate)) from None
    except (ssl.SSLError, OSError) as error:
        raise BadInput(f"the credentials cannot be used: {error}", where=str(credentials.certificate)) from None
