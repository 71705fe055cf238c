"""Credentials of one unit: its certificate, its key, the marketplace's authority that it trusts, and its names there.

A certificate names its unit three times: the subject (`CN=UVA, O=aviation`) for people and for NATS, a URI
(`dynamos://aviation/UVA`), exact and first, for whoever is connected to, and a DNS name (`uva`) for whoever connects.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from dynamos.kit.errors import BadInput

_SCHEME = "dynamos://"
_LABEL_LIMIT = 63


def dns_name(unit: str) -> str:
    """Give the unit's DNS name: its name in lower case, with '-' for what no DNS label has.

    Two units can have the same one («A_B», «a-b»); the authority issues a certificate to only one of them.
    Raises BadInput for a name that makes no label.
    """
    try:
        label = unit.lower().replace("_", "-").replace(".", "-").strip("-").encode("idna").decode()
    except UnicodeError:
        label = ""
    if not 0 < len(label) <= _LABEL_LIMIT:
        raise BadInput(f"the name {unit!r} makes no DNS label")
    return label


def unit_uri(marketplace: str, unit: str) -> str:
    """Give the name that a certificate carries for `unit`, letter case and all."""
    return f"{_SCHEME}{quote(marketplace, safe='')}/{quote(unit, safe='')}"


def unit_of(uri: str) -> tuple[str, str]:
    """Give marketplace and unit of a certificate's URI; two empty texts where it is not one of ours."""
    marketplace, slash, unit = uri.removeprefix(_SCHEME).partition("/")
    if not uri.startswith(_SCHEME) or not slash or not marketplace or not unit or "/" in unit:
        return "", ""
    return unquote(marketplace), unquote(unit)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Paths to PEM files."""

    certificate: Path
    key: Path
    authority: Path

    def client_context(self) -> ssl.SSLContext:
        """Give a TLS context that shows our certificate and accepts only the marketplace's authority."""
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(self.authority))
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(self.certificate, self.key)
        return context
