"""Bearer tokens: who a user is, signed by an issuer that the unit has been told to believe."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TypeGuard

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, KeySet, OKPKey, RSAKey

from dynamos.kit.clocks import Clock, SystemClock
from dynamos.kit.errors import BadInput, Conflict, DynamosError, Unauthenticated
from dynamos.middleware.identity import files
from dynamos.model.values import Value

log = logging.getLogger(__name__)
DEVELOPMENT_ISSUER = "dynamos-development"
LEEWAY = 10.0
RETIRED = "dynamos_retired"
"""In a key that is published still: since when nothing is signed with it."""
_TOKEN_LIMIT = 16 * 1024
_CURVES = {"P-256": "ES256", "P-384": "ES384"}
_RSA = ("RS256", "PS256")


class Identity(Value):
    """Who asks: `user` is the name in the agreements, `id` the issuer's own name for them, which never changes.

    `admin_of` are the parties whose agreements this user may change.
    """

    user: str
    id: str
    admin_of: tuple[str, ...] = ()


class TokenVerifier(Protocol):
    """Says whose a token is."""

    def verify(self, token: str) -> Identity:
        """Give the identity. Raises Unauthenticated with the code that says why not."""
        ...


class Keys(Protocol):
    """The public keys of an issuer, by key id."""

    def find(self, kid: str) -> Key | None: ...


class StaticKeys:
    """The keys of a JWKS (RFC 7517) that does not change. Keys that cannot verify signatures are left out."""

    def __init__(self, jwks: Mapping[str, Any]) -> None:
        self._keys = import_keys(jwks)

    def find(self, kid: str) -> Key | None:
        return self._keys.get(kid)


class FileKeys:
    """The keys of a JWKS in a file, read again when the file has been replaced. Raises BadInput where it is none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._keys, self._seen = import_keys(_read_jwks(path)), self._mark()

    def find(self, kid: str) -> Key | None:
        self._look()
        return self._keys.get(kid)

    def _mark(self) -> tuple[int, int]:
        facts = self._path.stat()
        return facts.st_mtime_ns, facts.st_ino

    def _look(self) -> None:
        """Take up other keys; while the file cannot be read, those that were there stay."""
        try:
            if (mark := self._mark()) != self._seen:
                self._keys, self._seen = import_keys(_read_jwks(self._path)), mark
        except (OSError, DynamosError) as error:
            log.warning("keys.not-read path=%s error=%s", self._path, error)


class Verifier:
    """Checks tokens against the keys of one issuer: signature first, then issuer, audience and times.

    The key decides the algorithm, never the token: a token that names another one is forged. Shared secrets (HS256)
    and `none` are no algorithms here.
    """

    def __init__(
        self,
        jwks: Mapping[str, Any] | Path | Keys,
        *,
        issuer: str,
        audience: str,
        clock: Clock | None = None,
        leeway: float = LEEWAY,
        user_claims: tuple[str, ...] = ("preferred_username", "sub"),
        admin_claim: str = "admin_of",
    ) -> None:
        keys: Keys | Mapping[str, Any] = FileKeys(jwks) if isinstance(jwks, Path) else jwks
        self._keys: Keys = StaticKeys(keys) if isinstance(keys, Mapping) else keys
        self._issuer = issuer
        self._audience = audience
        self._clock = clock or SystemClock()
        self._leeway = leeway
        self._user_claims = user_claims
        self._admin_claim = admin_claim

    def verify(self, token: str) -> Identity:
        """Give the identity. Raises Unauthenticated; its code is one of token-missing, -malformed, -forged, -key,
        -issuer, -audience, -expired, -early, -user."""
        claims = self._claims(token)
        self._check(claims)
        user = next((claims[name] for name in self._user_claims if _names_user(name, claims)), None)
        if user is None or not _text(claims.get("sub")):
            raise _wrong("token-user", "the token names no user")
        admin_of = claims.get(self._admin_claim, [])
        parties = admin_of if isinstance(admin_of, list) and all(map(_text, admin_of)) else []
        return Identity(user=user, id=claims["sub"], admin_of=tuple(parties))

    def _claims(self, token: str) -> dict[str, Any]:
        if not token:
            raise _wrong("token-missing", "there is no token")
        malformed = _wrong("token-malformed", "the token is not a signed JSON web token")
        if len(token) > _TOKEN_LIMIT or not token.isascii():
            raise malformed
        try:
            header = jws.extract_compact(token.encode()).headers()
        except (JoseError, ValueError):
            raise malformed from None
        kid = header.get("kid")
        key = self._keys.find(kid) if isinstance(kid, str) else None
        if key is None:
            raise _wrong("token-key", "the token is signed with a key that its issuer does not publish")
        try:
            checked = jws.deserialize_compact(token, key, algorithms=list(algorithms(key)))
            claims = json.loads(checked.payload)
        except JoseError:
            raise _wrong("token-forged", "the token's signature is not its issuer's") from None
        except ValueError:
            raise malformed from None
        if not isinstance(claims, dict):
            raise malformed
        return claims

    def _check(self, claims: Mapping[str, Any]) -> None:
        if claims.get("iss") != self._issuer:
            raise _wrong("token-issuer", "the token is of another issuer")
        audience = claims.get("aud")
        if self._audience not in (audience if isinstance(audience, list) else [audience]):
            raise _wrong("token-audience", f"the token is not for {self._audience}")
        now = self._clock.now().timestamp()
        expires, starts = claims.get("exp"), claims.get("nbf", claims.get("iat", now))
        if not _number(expires) or not _number(starts):
            raise _wrong("token-malformed", "the token does not say from when to when it holds")
        if now >= expires + self._leeway:
            raise _wrong("token-expired", "the token has expired")
        if now < starts - self._leeway:
            raise _wrong("token-early", "the token does not hold yet")


class DevelopmentIssuer:
    """An issuer for development: whoever holds its folder can be any user. `jwks` is the path of its public keys."""

    def __init__(self, folder: Path, key: ECKey, *, clock: Clock | None = None) -> None:
        self.folder = folder
        self.issuer = DEVELOPMENT_ISSUER
        self._key = key
        self._clock = clock or SystemClock()

    @classmethod
    def create(cls, folder: Path, *, clock: Clock | None = None) -> DevelopmentIssuer:
        """Make an issuer with a new key in `folder`. Raises Conflict where there is one already."""
        path = folder / "issuer-key.json"
        if path.exists():
            raise Conflict("there is an issuer already", where=str(folder), hint="load it instead")
        files.private_folder(folder)
        key = ECKey.generate_key("P-256")
        files.write(path, json.dumps(key.as_dict(private=True)).encode())
        _write_jwks(folder / "jwks.json", [_published(key)])
        return cls(folder, key, clock=clock)

    @classmethod
    def load(cls, folder: Path, *, clock: Clock | None = None) -> DevelopmentIssuer:
        """Open the issuer in `folder`. Raises NotFound where there is none, BadInput where its key is broken."""
        path = folder / "issuer-key.json"
        content = files.read(path, what="issuer for development")
        try:
            return cls(folder, ECKey.import_key(json.loads(content)), clock=clock)
        except (ValueError, TypeError, JoseError):
            raise BadInput("the issuer's key is broken", where=str(path)) from None

    def succeed(self) -> DevelopmentIssuer:
        """Sign with a new key from now on. The former one goes on being published, so that tokens that are out hold."""
        key, now = ECKey.generate_key("P-256"), int(self._clock.now().timestamp())
        former = [{RETIRED: now, **each} for each in _read_jwks(self.jwks)["keys"]]
        # Published before it is used.
        _write_jwks(self.jwks, [_published(key), *former])
        files.write(self.folder / "issuer-key.json", json.dumps(key.as_dict(private=True)).encode())
        return DevelopmentIssuer(self.folder, key, clock=self._clock)

    def forget(self, *, older: float) -> int:
        """Publish no more the keys that were retired more than `older` seconds ago, and tell how many these are."""
        now = self._clock.now().timestamp()
        known = _read_jwks(self.jwks)["keys"]
        kept = [each for each in known if RETIRED not in each or now - each[RETIRED] < older]
        if len(kept) < len(known):
            _write_jwks(self.jwks, kept)
        return len(known) - len(kept)

    @property
    def jwks(self) -> Path:
        return self.folder / "jwks.json"

    def token(self, user: str, *, ttl: float, audience: str, admin_of: tuple[str, ...] = ()) -> str:
        """Give a token of `user` for `audience` that holds for `ttl` seconds from now."""
        now = int(self._clock.now().timestamp())
        claims = {
            "iss": self.issuer,
            "aud": audience,
            "sub": user,
            "preferred_username": user,
            "admin_of": list(admin_of),
            "iat": now,
            "exp": now + ttl,
            "jti": secrets.token_hex(16),
        }
        header = {"alg": "ES256", "typ": "JWT", "kid": self._key.thumbprint()}
        return jws.serialize_compact(header, json.dumps(claims).encode(), self._key, algorithms=["ES256"])


def _published(key: ECKey) -> dict[str, Any]:
    return {**key.as_dict(private=False), "kid": key.thumbprint(), "alg": "ES256", "use": "sig"}


def _write_jwks(path: Path, keys: list[dict[str, Any]]) -> None:
    files.write(path, json.dumps({"keys": keys}).encode(), mode=0o644)


def import_keys(jwks: Mapping[str, Any]) -> dict[str, Key]:
    """Give the keys of a JWKS that can verify signatures, by key id. Raises BadInput where it is none."""
    entries = jwks.get("keys")
    if not isinstance(entries, list):
        raise BadInput("a key set has the member 'keys', a list")
    found: dict[str, Key] = {}
    for entry in entries:
        if not isinstance(entry, dict) or entry.get("kty") == "oct" or entry.get("use", "sig") != "sig":
            continue
        try:
            key = next(iter(KeySet.import_key_set({"keys": [entry]}).keys))
        except (JoseError, ValueError, TypeError, KeyError):
            continue
        if algorithms(key):
            found[key.kid or key.thumbprint()] = key
    return found


def algorithms(key: Key) -> tuple[str, ...]:
    """Give the algorithms that may verify with this public key; none for a key of another kind."""
    if isinstance(key, ECKey):
        return tuple(alg for curve, alg in _CURVES.items() if curve == key.curve_name)
    if isinstance(key, OKPKey):
        return ("Ed25519",) if key.curve_name == "Ed25519" else ()
    return _RSA if isinstance(key, RSAKey) else ()


def _read_jwks(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(files.read(path, what="key set of the issuer"))
    except ValueError:
        raise BadInput("the key set is not JSON", where=str(path)) from None
    if not isinstance(content, dict):
        raise BadInput("the key set is not a JSON object", where=str(path))
    return content


def _wrong(code: str, message: str) -> Unauthenticated:
    return Unauthenticated(message, code=code, hint="get a new token: dynamos token")


def _names_user(claim: str, claims: Mapping[str, Any]) -> bool:
    # An address that the issuer has not verified is only what somebody typed.
    return _text(claims.get(claim)) and (claim != "email" or claims.get("email_verified") is True)


def _text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
