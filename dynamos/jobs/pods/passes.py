"""Passes: the credentials of one pod, by which its courier and its agent know each other and nobody else."""

from __future__ import annotations

import ssl
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_GOOD_FOR = timedelta(days=2)
_SKEW = timedelta(hours=1)


@dataclass(frozen=True, slots=True, repr=False)
class Pass:
    """Two pairs of certificate and key (PEM), each signed by itself and known to the other side: no authority can make
    another one that would do."""

    courier: tuple[bytes, bytes]
    agent: tuple[bytes, bytes]

    @classmethod
    def fresh(cls, name: str) -> Pass:
        """Make a pass for the pod `name`."""
        return cls(_pair(name), _pair(f"agent of {name}"))

    def files(self) -> dict[str, bytes]:
        """Give what the courier gets: its own pair, and the agent's certificate without its key."""
        return {"tls.crt": self.courier[0], "tls.key": self.courier[1], "agent.crt": self.agent[0]}

    def context(self) -> ssl.SSLContext:
        """Give TLS 1.3 to this courier."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False  # the certificate itself is known
        context.load_verify_locations(cadata=self.courier[0].decode())
        with tempfile.TemporaryFile() as file:  # the module ssl reads keys from files only: one without a name
            file.write(self.agent[0] + self.agent[1])
            file.seek(0)
            context.load_cert_chain(f"/dev/fd/{file.fileno()}")
        return context


def _pair(name: str) -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _GOOD_FOR)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), private
