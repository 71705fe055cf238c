"""Rotations: new keys for a marketplace that works meanwhile. What the controller does; `rotate.yml` does the rest.

Whatever is new is believed everywhere before it is used anywhere, and what is old is believed until nobody uses it. The
state is in the authority's folder, so that a rotation that was interrupted goes on where it was.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dynamos.deploy.enrolments import authority_of
from dynamos.deploy.states import StateFolder
from dynamos.deploy.units import AUTHORITY, EDGE, JWKS, SIGNER
from dynamos.knowledge.permissions import API, ORCHESTRATOR
from dynamos.middleware.identity.tokens import DevelopmentIssuer


def announce(control: Path, marketplace: str, *, authority: bool) -> dict[str, Any]:
    """Make what is going to be believed: with `authority` also a successor of the authority.

    Tells in `trust` whether units have to believe another authority before any certificate is issued by it.
    """
    issuing = authority_of(control, marketplace)
    replaced = len(issuing.believed) > 1 and not issuing.announced  # a rotation that came so far goes on
    if authority and not replaced:
        issuing.announce()
    return {"trust": issuing.announced, "changed": authority and not replaced}


def succeed(control: Path, marketplace: str, *, tokens: bool) -> dict[str, Any]:
    """Have the successor issue, and a new key sign tokens with `tokens`; the former ones are believed still."""
    issuing = authority_of(control, marketplace)
    changed = issuing.announced
    issuing.succeed()
    if tokens:
        DevelopmentIssuer.load(StateFolder(control).issuer).succeed()
    return {"changed": changed or tokens}


def settle(control: Path, marketplace: str, *, overlap: float) -> dict[str, Any]:
    """Have nothing believed that is not used any more. Keys of tokens go `overlap` seconds after their last use."""
    issuing = authority_of(control, marketplace)
    trust = len(issuing.believed) > 1
    changed = issuing.settle()
    gone = DevelopmentIssuer.load(StateFolder(control).issuer).forget(older=overlap)
    return {"trust": trust, "changed": changed or bool(gone), "forgotten": gone}


def public(control: Path, marketplace: str) -> dict[str, str]:
    """Give what units check others with, by the names of the files that it is in. Raises NotFound where it is not
    there yet."""
    issuing = authority_of(control, marketplace)
    return {
        AUTHORITY: (issuing.folder / AUTHORITY).read_text(encoding="ascii"),
        EDGE: issuing.certificates_of(API).decode(),
        SIGNER: issuing.certificates_of(ORCHESTRATOR).decode(),
        JWKS: (StateFolder(control).issuer / JWKS).read_text(encoding="ascii"),
    }
