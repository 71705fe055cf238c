"""The marketplace's certificate authority: it says which key is which unit's, and nothing else.

A unit makes its own key, where it lives, and sends only a signing request; the authority decides every name in the
certificate itself and takes nothing but the public key from the request.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from pydantic import TypeAdapter, ValidationError

from dynamos.kit.clocks import Clock, SystemClock
from dynamos.kit.credentials import Credentials, dns_name, unit_uri
from dynamos.kit.errors import BadInput, Conflict
from dynamos.middleware.identity import files
from dynamos.model.values import Name

AUTHORITY_LIFE = timedelta(days=5 * 365)
LEAF_LIFE = timedelta(days=90)
RENEW_BEFORE = timedelta(days=30)
LOCAL_HOSTS = ("127.0.0.1", "localhost")
_SKEW = timedelta(minutes=5)
_NEXT, _NEXT_KEY = "successor.pem", "successor-key.pem"
_FORMER = ".former"
_NAME: TypeAdapter[str] = TypeAdapter(Name)


@dataclass(frozen=True, slots=True)
class Authority:
    """The authority of one marketplace. Its folder holds its certificate, its key, and every certificate it issued.

    Its key can make anybody anybody: it is needed only to issue, and can be kept off every machine that runs units.

    A successor is announced before it issues, and the former one believed while its certificates are in use:
    authority.pem, which goes to every unit, then holds two certificates. The first is the one that issues.
    """

    folder: Path
    marketplace: str
    certificate: x509.Certificate
    _key: ec.EllipticCurvePrivateKey
    clock: Clock

    @classmethod
    def create(cls, folder: Path, marketplace: str, *, clock: Clock | None = None) -> Authority:
        """Make a new authority in `folder`. Raises Conflict where there is one already, BadInput for a bad name."""
        _check_name(marketplace)
        clock = clock or SystemClock()
        if (folder / "authority-key.pem").exists():
            raise Conflict("there is an authority already", where=str(folder), hint="load it instead")
        files.private_folder(folder)
        files.private_folder(folder / "issued")
        key, certificate = _root(marketplace, clock)
        files.write(folder / "authority-key.pem", _key_pem(key))
        files.write(folder / "authority.pem", _pem(certificate), mode=0o644)
        return cls(folder, marketplace, certificate, key, clock)

    @classmethod
    def load(cls, folder: Path, *, clock: Clock | None = None) -> Authority:
        """Open the authority in `folder`. Raises NotFound where there is none, BadInput where it is broken."""
        pem = files.read(folder / "authority.pem", what="authority")
        key_pem = files.read(folder / "authority-key.pem", what="key of the authority")
        try:
            key = serialization.load_pem_private_key(key_pem, password=None)
            believed = x509.load_pem_x509_certificates(pem)
            certificate = next((each for each in believed if each.public_key() == key.public_key()), believed[0])
            marketplace = _name_of(certificate.subject, NameOID.ORGANIZATION_NAME)
        except (ValueError, TypeError) as error:
            raise BadInput(f"the authority is broken: {error}", where=str(folder)) from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise BadInput("the authority's key is not that of its certificate", where=str(folder))
        return cls(folder, marketplace, certificate, key, clock or SystemClock())

    @property
    def believed(self) -> list[x509.Certificate]:
        """The certificates that units believe now, the one that issues first."""
        return x509.load_pem_x509_certificates((self.folder / "authority.pem").read_bytes())

    @property
    def announced(self) -> bool:
        """Whether there is a successor that does not issue yet."""
        return (self.folder / _NEXT).exists()

    def announce(self) -> None:
        """Make a successor, for units to believe beside this authority; nothing happens where there is one."""
        if self.announced:
            return
        key, certificate = _root(self.marketplace, self.clock)
        files.write(self.folder / _NEXT_KEY, _key_pem(key))
        files.write(self.folder / _NEXT, _pem(certificate))
        files.write(self.folder / "authority.pem", _pem(self.certificate) + _pem(certificate), mode=0o644)

    def succeed(self) -> Authority:
        """Have the successor issue from now on, and give it; this authority where there is none."""
        if not self.announced:
            return self
        next_pem = (self.folder / _NEXT).read_bytes()
        former = [_pem(each) for each in self.believed if _pem(each) != next_pem]
        # The key first: `load` finds the certificate that belongs to it.
        files.write(self.folder / "authority-key.pem", (self.folder / _NEXT_KEY).read_bytes())
        files.write(self.folder / "authority.pem", b"".join([next_pem, *former]), mode=0o644)
        (self.folder / _NEXT).unlink()
        (self.folder / _NEXT_KEY).unlink()
        return Authority.load(self.folder, clock=self.clock)

    def settle(self) -> bool:
        """Have only this authority believed from now on; tells whether another one was."""
        changed = len(self.believed) > 1 and not self.announced
        if changed:
            files.write(self.folder / "authority.pem", _pem(self.certificate), mode=0o644)
        former = list((self.folder / "issued").glob(f"*{_FORMER}"))
        for path in former:
            path.unlink()
        return changed or bool(former)

    def certificates_of(self, unit: str) -> bytes:
        """Give the certificates (PEM) that a unit signs with: its own, and former ones while they count.

        Raises NotFound where there is none.
        """
        issued = self.folder / "issued" / f"{dns_name(unit)}.pem"
        former = issued.with_suffix(_FORMER)
        own = files.read(issued, what=f"certificate of {unit}")
        return own + (former.read_bytes() if former.exists() else b"")

    def issue(self, unit: str, folder: Path, *, hosts: Sequence[str] = LOCAL_HOSTS) -> Credentials:
        """Give `unit` a new key and certificate in `folder`: certificate.pem, key.pem (0600), authority.pem.

        Called again it renews: new key, new certificate; the unit takes them up when it starts. `hosts` are the
        addresses and host names that the unit serves at. Raises as `sign` does.
        """
        _check_name(unit)
        key, request = signing_request(unit, self.marketplace)
        certificate = self.sign(request, hosts=hosts)
        files.private_folder(folder)
        credentials = Credentials(folder / "certificate.pem", folder / "key.pem", folder / "authority.pem")
        files.write(credentials.key, key)
        files.write(credentials.certificate, certificate, mode=0o644)
        files.write(credentials.authority, (self.folder / "authority.pem").read_bytes(), mode=0o644)
        return credentials

    def sign(self, request: bytes, *, hosts: Sequence[str] = LOCAL_HOSTS, overlap: bool = False) -> bytes:
        """Give the certificate (PEM) for a signing request (PEM) of a unit of this marketplace. With `overlap`, what
        the unit signed with its former key counts too, until `settle`.

        Raises BadInput for a request that is broken or for another marketplace, Conflict where the unit's DNS name or
        one of `hosts` is another unit's: one of them could pass as the other.
        """
        unit, public = self._examine(request)
        label = dns_name(unit)
        self._refuse_shared_names(unit, label, hosts)
        builder = _builder(_subject(unit, self.marketplace), self.certificate.subject, public, self.clock, LEAF_LIFE)
        names = [x509.UniformResourceIdentifier(unit_uri(self.marketplace, unit)), x509.DNSName(label)]
        names += [_general_name(host) for host in dict.fromkeys(hosts) if host != label]
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_key_usage(signs_certificates=False), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        builder = builder.add_extension(issuer, critical=False)
        certificate = _pem(builder.sign(self._key, hashes.SHA256()))
        issued = self.folder / "issued" / f"{label}.pem"
        if overlap and issued.exists():
            former = issued.with_suffix(_FORMER)
            files.write(former, (former.read_bytes() if former.exists() else b"") + issued.read_bytes())
        files.write(issued, certificate)
        return certificate

    def _examine(self, request: bytes) -> tuple[str, ec.EllipticCurvePublicKey]:
        try:
            csr = x509.load_pem_x509_csr(request)
            unit = _name_of(csr.subject, NameOID.COMMON_NAME)
            marketplace = _name_of(csr.subject, NameOID.ORGANIZATION_NAME)
            public = csr.public_key()
        except ValueError as error:
            raise BadInput(f"the signing request is broken: {error}") from None
        if not csr.is_signature_valid or not isinstance(public, ec.EllipticCurvePublicKey):
            raise BadInput("the signing request is not signed with the elliptic-curve key that it names")
        if marketplace != self.marketplace:
            raise BadInput(f"the signing request is for {marketplace!r}, not for {self.marketplace!r}")
        _check_name(unit)
        return unit, public

    def _refuse_shared_names(self, unit: str, label: str, hosts: Iterable[str]) -> None:
        wanted = {label, *(host.lower() for host in hosts)}
        for path in sorted((self.folder / "issued").glob("*.pem")):
            other = x509.load_pem_x509_certificate(path.read_bytes())
            holder = _name_of(other.subject, NameOID.COMMON_NAME)
            if holder != unit and (path.stem in wanted or label in _dns_names(other)):
                raise Conflict(f"{unit!r} and {holder!r} would share a name in their certificates", where=path.stem)
        if label in {"localhost", "localhost-localdomain"}:
            raise Conflict(f"{unit!r} is a name that every machine has")


def signing_request(unit: str, marketplace: str) -> tuple[bytes, bytes]:
    """Make a key where the unit lives; give the key (keep it) and the request for the authority, both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(_subject(unit, marketplace))
    request = builder.sign(key, hashes.SHA256())
    return _key_pem(key), request.public_bytes(serialization.Encoding.PEM)


def renewal_due(certificate: Path, *, clock: Clock | None = None) -> bool:
    """Tell whether a unit's certificate ends within the next 30 days."""
    loaded = x509.load_pem_x509_certificate(files.read(certificate, what="certificate"))
    return loaded.not_valid_after_utc - (clock or SystemClock()).now() < RENEW_BEFORE


def serves_at(certificate: Path, hosts: Iterable[str]) -> bool:
    """Tell whether a unit's certificate is good for all these addresses and host names."""
    loaded = x509.load_pem_x509_certificate(files.read(certificate, what="certificate"))
    names = loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {_general_name(host) for host in hosts} <= set(names)


def _root(marketplace: str, clock: Clock) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """Make the key of an authority, and its own certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(f"{marketplace} authority", marketplace)
    builder = _builder(subject, subject, key.public_key(), clock, AUTHORITY_LIFE)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
    return key, builder.sign(key, hashes.SHA256())


def _check_name(name: str) -> None:
    try:
        _NAME.validate_python(name)
    except ValidationError as error:
        raise BadInput(f"{name!r} is no name: {error.errors()[0]['msg']}") from None


def _subject(common: str, organisation: str) -> x509.Name:
    # The most general name first, so that RFC 4514 (and NATS) write it as CN=<unit>,O=<marketplace>.
    pairs = ((NameOID.ORGANIZATION_NAME, organisation), (NameOID.COMMON_NAME, common))
    return x509.Name([x509.NameAttribute(oid, text) for oid, text in pairs])


def _name_of(subject: x509.Name, oid: x509.ObjectIdentifier) -> str:
    found = subject.get_attributes_for_oid(oid)
    if len(found) != 1 or not isinstance(found[0].value, str):
        raise ValueError("the subject lacks a name")
    return found[0].value


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, clock: Clock, life: timedelta
) -> x509.CertificateBuilder:
    now = clock.now()
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - _SKEW).not_valid_after(now + life)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    if not host.isascii() or not host.replace("-", "a").replace(".", "a").isalnum():
        raise BadInput(f"{host!r} is neither an address nor a host name")
    return x509.DNSName(host.lower())


def _dns_names(certificate: x509.Certificate) -> list[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.DNSName)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
