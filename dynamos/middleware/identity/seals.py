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

    The file may hold several certificates, one after another: while a key is replaced, the former one counts too. The
    kind keeps anything else that this key ever signs from passing for it.
    """
    if not text or len(text) > _LIMIT or not text.isascii():
        raise forged
    for key in _public_keys(certificate):
        try:
            checked = jws.deserialize_compact(text, key, algorithms=["ES256"])
            if checked.headers().get("typ") == kind:
                return model.model_validate(json.loads(checked.payload))
        except (JoseError, ValueError, ValidationError):
            continue
    raise forged


def _public_keys(certificate: Path) -> list[ECKey]:
    pem = files.read(certificate, what="certificate of the signer")
    try:
        publics = [each.public_key() for each in x509.load_pem_x509_certificates(pem)]
    except ValueError as error:
        raise BadInput(f"the signer's certificate is broken: {error}", where=str(certificate)) from None
    keys = [ECKey(public, public) for public in publics if isinstance(public, ec.EllipticCurvePublicKey)]
    if len(keys) != len(publics):
        raise BadInput("the signer's certificate has no elliptic-curve key", where=str(certificate))
    return keys
