"""Signed values: what one unit says under its certificate's key, for any other to check."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey
from pydantic import ValidationError

from dynamos.kit.digests import canonical
from dynamos.kit.errors import BadInput, DynamosError
from dynamos.middleware.identity import files
from dynamos.model.values import Value

T = TypeVar("T", bound=Value)
_LIMIT = 1024 * 1024


def seal(value: Value, key_path: Path, kind: str) -> str:
    """Give the value as a compact JWS (ES256) of this kind (its `typ`), signed with the key of a certificate."""
    try:
        key = ECKey.import_key(files.read(key_path, what=f"key that signs a {kind}"))
    except (JoseError, ValueError) as error:
        raise BadInput(f"the key that signs a {kind} is broken: {error}", where=str(key_path)) from None
    return jws.serialize_compact({"alg": "ES256", "typ": kind}, canonical(value.as_json()), key, algorithms=["ES256"])


def unseal(text: str, certificate: Path, kind: str, model: type[T], *, forged: DynamosError) -> T:
    """Give the value, if the holder of `certificate` signed it as this kind. Raises `forged` if not.

    The kind keeps anything else that this key ever signs from passing for it.
    """
    if not text or len(text) > _LIMIT or not text.isascii():
        raise forged
    try:
        checked = jws.deserialize_compact(text, _public_key(certificate), algorithms=["ES256"])
        if checked.headers().get("typ") != kind:
            raise forged
        return model.model_validate(json.loads(checked.payload))
    except (JoseError, ValueError, ValidationError):
        raise forged from None


def _public_key(certificate: Path) -> ECKey:
    pem = files.read(certificate, what="certificate of the signer")
    try:
        public = x509.load_pem_x509_certificate(pem).public_key()
    except ValueError as error:
        raise BadInput(f"the signer's certificate is broken: {error}", where=str(certificate)) from None
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise BadInput("the signer's certificate has no elliptic-curve key", where=str(certificate))
    return ECKey(public, public)
