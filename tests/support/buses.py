"""A small certificate authority and ready-made knowledge bases for tests. `knowledge` may not import the middleware's
authority, so the tests issue their own certificates, by the same rules."""

from __future__ import annotations

import atexit
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from tempfile import mkdtemp

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dynamos.kit.credentials import Credentials
from dynamos.knowledge.bases import KnowledgeBase
from dynamos.knowledge.connections import Connection
from dynamos.knowledge.dials import dial
from dynamos.knowledge.jetstream import connect
from dynamos.knowledge.memory import MemoryCluster
from dynamos.knowledge.permissions import ADMIN, API, BUS, ORCHESTRATOR
from dynamos.knowledge.servers import Server, serve

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


class Marketplace:
    """Gives knowledge bases of several units, and closes them all."""

    def __init__(self, cluster: MemoryCluster | None, server: Server | None, issued: dict[str, Credentials]) -> None:
        self._cluster = cluster
        self._issued = issued
        self._open: list[KnowledgeBase] = []
        self._server = server

    @property
    def server(self) -> Server:
        assert self._server, "there is no server in memory"
        return self._server

    def credentials(self, unit: str) -> Credentials:
        return self._issued[unit]

    async def connect(self, unit: str) -> KnowledgeBase:
        """Give the knowledge base of the unit."""
        if self._cluster:
            base = self._cluster.connect(unit)
        else:
            base = await connect(self.server.url, self._issued[unit], unit)
        self._open.append(base)
        return base

    async def raw(self, unit: str) -> Connection:
        """Give a connection under the unit's certificate that keeps to no rule but the server's."""
        connection = await dial(self.server.url, self._issued[unit], unit)
        self._open.append(connection)  # type: ignore[arg-type]
        return connection

    async def close(self) -> None:
        for base in reversed(self._open):
            await base.close()


PARTIES = ("UVA", "VU", "SURF")
MARKETPLACE = "wage-gap"


@cache
def issued() -> tuple[TestAuthority, dict[str, Credentials]]:
    """Give an authority and the credentials of every unit, made once for the whole run of tests."""
    folder = Path(mkdtemp(prefix="dynamos-test-authority-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    authority = TestAuthority(folder, MARKETPLACE)
    return authority, {unit: authority.issue(unit) for unit in (ORCHESTRATOR, API, ADMIN, BUS, *PARTIES)}


@asynccontextmanager
async def marketplace(kind: str, folder: Path, *, parties: tuple[str, ...] = PARTIES) -> AsyncIterator[Marketplace]:
    """Run a marketplace's knowledge base: `memory`, or `jetstream` with a server that keeps its things in `folder`."""
    async with AsyncExitStack() as stack:
        if kind == "memory":
            found = Marketplace(MemoryCluster(parties), None, {})
        else:
            _, units = issued()
            server = await stack.enter_async_context(
                serve(
                    folder / "bus", marketplace=MARKETPLACE, parties=parties, credentials=units[BUS], admin=units[ADMIN]
                )
            )
            found = Marketplace(None, server, units)
        stack.push_async_callback(found.close)
        yield found
