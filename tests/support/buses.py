"""A small certificate authority and ready-made knowledge bases for tests. `knowledge` may not import the middleware's
authority, so the tests issue their own certificates, by the same rules."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dynamos.kit.credentials import Credentials

if TYPE_CHECKING:
    from pathlib import Path

_PEM = serialization.Encoding.PEM


class TestAuthority:
    """Issues certificates with the subject `CN=<unit>,O=<marketplace>`."""

    __test__ = False

    def __init__(self, folder: Path, marketplace: str) -> None:
        self.marketplace = marketplace
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{marketplace} authority")])
        certificate = (
            self._builder(self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "authority.pem"
        self.path.write_bytes(certificate.public_bytes(_PEM))

    def issue(self, unit: str, *, organisation: str = "", names: tuple[str, ...] | None = None) -> Credentials:
        """Write certificate and key of `unit`, with the DNS names `names` (default: its own, and localhost)."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation or self.marketplace),
            x509.NameAttribute(NameOID.COMMON_NAME, unit),
        ])  # fmt: skip
        dns = [x509.DNSName(name) for name in names or (unit.lower(), "localhost")]
        certificate = (
            self._builder(subject, key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([*dns, x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        folder = self._folder / "units" / f"{unit}-{organisation or 'own'}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "certificate.pem").write_bytes(certificate.public_bytes(_PEM))
        (folder / "key.pem").write_bytes(
            key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        return Credentials(folder / "certificate.pem", folder / "key.pem", self.path)

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(days=1))
        )
