"""Grants: the orchestrator's signed permission for one job part, which any party can check by itself."""

from __future__ import annotations

import json
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey
from pydantic import ValidationError

from dynamos.kit.clocks import Clock
from dynamos.kit.digests import canonical
from dynamos.kit.errors import BadInput, Refused, Unauthenticated
from dynamos.middleware.identity import files
from dynamos.model.jobs import Grant

TYPE = "dynamos-grant+jwt"
_LIMIT = 1024 * 1024


def sign(grant: Grant, key_path: Path) -> str:
    """Give the grant as a compact JWS (ES256), signed with the key of the orchestrator's certificate."""
    try:
        key = ECKey.import_key(files.read(key_path, what="key that signs grants"))
    except (JoseError, ValueError) as error:
        raise BadInput(f"the key that signs grants is broken: {error}", where=str(key_path)) from None
    return jws.serialize_compact({"alg": "ES256", "typ": TYPE}, canonical(grant.as_json()), key, algorithms=["ES256"])


def verify(text: str, orchestrator_certificate: Path, *, party: str, clock: Clock) -> Grant:
    """Give the grant, if the orchestrator signed it, for `party`, and it has not expired.

    Raises Unauthenticated with code grant-forged or grant-expired, Refused with code grant-for-another. That it is used
    only once is the business of SpentGrants.
    """
    grant = _open(text, _public_key(orchestrator_certificate))
    if grant.party != party or grant.part.party != party:
        raise Refused(
            f"the grant is for another party than {party}", code="grant-for-another", where=f"job {grant.job}"
        )
    if clock.now() >= grant.expires:
        raise Unauthenticated(
            f"the grant expired at {grant.expires.isoformat()}", code="grant-expired", where=f"job {grant.job}"
        )
    return grant


def _open(text: str, key: ECKey) -> Grant:
    forged = Unauthenticated("this is no grant that the orchestrator signed", code="grant-forged")
    if not text or len(text) > _LIMIT or not text.isascii():
        raise forged
    try:
        checked = jws.deserialize_compact(text, key, algorithms=["ES256"])
        # The type keeps anything else that this key ever signs from passing as a grant.
        if checked.headers().get("typ") != TYPE:
            raise forged
        grant = Grant.model_validate(json.loads(checked.payload))
    except (JoseError, ValueError, ValidationError):
        raise forged from None
    if grant.expires.tzinfo is None or grant.job != grant.part.job:
        raise forged
    return grant


def _public_key(certificate: Path) -> ECKey:
    pem = files.read(certificate, what="certificate of the orchestrator")
    try:
        public = x509.load_pem_x509_certificate(pem).public_key()
    except ValueError as error:
        raise BadInput(f"the orchestrator's certificate is broken: {error}", where=str(certificate)) from None
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise BadInput("the orchestrator's certificate has no elliptic-curve key", where=str(certificate))
    return ECKey(public, public)
