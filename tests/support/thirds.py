"""A whole DYNAMOS with two third parties that may compute, of which `first` is the usual one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dynamos.deploy.states import StateFolder
from support.systems import ADMIN, SCRIPTS, USER, System, write_marketplace

FIRST, SECOND = "third", "fourth"
ROWS = 40_000
"""North has so many: enough that a stream of them tells something of its way."""


def write_thirds(folder: Path) -> Path:
    """Write the faulty marketplace, in which both third parties are permitted and data always go to one of them."""
    write_marketplace(folder)
    relation = {
        "requestTypes": ["rows", *SCRIPTS],
        "dataSets": ["store"],
        "allowedArchetypes": ["dataThroughTtp"],
        "allowedComputeProviders": [FIRST, SECOND],
    }
    agreement = {
        "archetypes": ["dataThroughTtp"],
        "computeProviders": [FIRST, SECOND],
        "relations": {USER: relation},
    }
    numbers = list(range(ROWS))
    table = pa.table({"id": numbers, "kind": [f"kind-{n % 3}" for n in numbers], "amount": [n / 4 for n in numbers]})
    pq.write_table(table, folder / "data" / "north" / "things.parquet")
    head = folder / "marketplace.yaml"
    facts = json.loads(head.read_text())
    facts["parties"][SECOND] = {}
    head.write_text(json.dumps(facts))
    for party in ("north", "south"):
        (folder / "agreements" / f"{party}.yaml").write_text(json.dumps(agreement))
    return folder


@contextmanager
def thirds(folder: Path, **settings: Any) -> Iterator[System]:
    """Bring it up, and take it down."""
    folder.chmod(0o755)
    market = write_thirds(folder / "market")
    profile = folder / "thirds.yaml"
    said = {"name": "thirds", "marketplace": str(market), "admins": {"north": [ADMIN]}, "settings": settings}
    profile.write_text(json.dumps(said))
    it = System(StateFolder(folder / "state"), profile)
    try:
        it.up()
        yield it
    finally:
        it.down()
