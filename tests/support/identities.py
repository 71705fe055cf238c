"""Units with certificates, and grants, for tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from dynamos.kit.credentials import Credentials
from dynamos.kit.errors import Conflict
from dynamos.knowledge.stores import Entry
from dynamos.middleware.identity.authority import Authority
from dynamos.model.jobs import Grant
from dynamos.model.plans import Edge, Part, Step

MARKETPLACE = "aviation"
SOON = datetime(2126, 1, 1, tzinfo=UTC)


def issue_all(folder: Path, *units: str, marketplace: str = MARKETPLACE) -> dict[str, Credentials]:
    """Make an authority in `folder`/authority and give each unit its credentials in `folder`/units/<unit>."""
    authority = Authority.create(folder / "authority", marketplace)
    return {unit: authority.issue(unit, folder / "units" / unit) for unit in units}


def make_grant(
    party: str = "united",
    *,
    grant_id: str = "grant-1",
    job: str = "job-1",
    target: str = "clearing",
    edge: str = "rows",
    expires: datetime = SOON,
) -> Grant:
    """Give a grant for a part of one step whose output goes to `target`."""
    step = Step(id="query", party=party, service="sql-query", label="dataProvider")
    out = Edge(name=edge, source_party=party, source="query", target_party=target, target="sum")
    part = Part(job=job, party=party, role="dataProvider", archetype="dataThroughTtp", steps=(step,), edges=(out,))
    return Grant(
        id=grant_id,
        job=job,
        party=party,
        chain=part.digest(),
        revision="1",
        part=part,
        request="0" * 64,
        archetypes={party: "dataThroughTtp"},
        compute={party: target},
        expires=expires,
    )


def in_seconds(start: datetime, seconds: float) -> datetime:
    return start + timedelta(seconds=seconds)


class Shelf:
    """A store that is a dictionary; `broken` makes it raise on every write."""

    def __init__(self) -> None:
        self.values: dict[str, Entry] = {}
        self.broken: Exception | None = None
        self._revision = 0

    async def get(self, key: str) -> Entry | None:
        return self.values.get(key)

    async def put(self, key: str, value: dict[str, Any], *, revision: int | None = None) -> int:
        if self.broken is not None:
            raise self.broken
        held = self.values[key].revision if key in self.values else 0
        if revision is not None and revision != held:
            raise Conflict("another revision won", where=key)
        self._revision += 1
        self.values[key] = Entry(key, value, self._revision)
        return self._revision

    async def delete(self, key: str, *, revision: int | None = None) -> None:
        self.values.pop(key, None)

    async def entries(self, prefix: str = "") -> list[Entry]:
        return [self.values[key] for key in sorted(self.values) if key.split(".")[0] == prefix or not prefix]

    def watch(self, prefix: str = "") -> Any:
        raise AssertionError("nobody watches this store")
