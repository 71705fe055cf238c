"""Grants: the orchestrator's signed permission for one job part, which any party can check by itself."""

from __future__ import annotations

from pathlib import Path

from dynamos.kit.clocks import Clock
from dynamos.kit.errors import Refused, Unauthenticated
from dynamos.middleware.identity.seals import seal, unseal
from dynamos.model.jobs import Grant

TYPE = "dynamos-grant+jwt"


def sign(grant: Grant, key_path: Path) -> str:
    """Give the grant as a compact JWS (ES256), signed with the key of the orchestrator's certificate."""
    return seal(grant, key_path, TYPE)


def verify(text: str, orchestrator_certificate: Path, *, party: str, clock: Clock) -> Grant:
    """Give the grant, if the orchestrator signed it, for `party`, and it has not expired.

    Raises Unauthenticated with code grant-forged or grant-expired, Refused with code grant-for-another. That it is used
    only once is the business of SpentGrants.
    """
    forged = Unauthenticated("this is no grant that the orchestrator signed", code="grant-forged")
    grant = unseal(text, orchestrator_certificate, TYPE, Grant, forged=forged)
    if grant.expires.tzinfo is None or grant.job != grant.part.job:
        raise forged
    where = f"job {grant.job}"
    if grant.party != party or grant.part.party != party:
        raise Refused(f"the grant is for another party than {party}", code="grant-for-another", where=where)
    if clock.now() >= grant.expires:
        raise Unauthenticated(f"the grant expired at {grant.expires.isoformat()}", code="grant-expired", where=where)
    return grant
