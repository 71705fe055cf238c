"""Synthetic rows: the marketplace `bench` as experiments use it: any number of rows, on any sites, and the truth."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import cycle

from dynamos.deploy import profiles
from dynamos.deploy.generators.bench import PROVIDERS, ROWS, THIRD_PARTY, table_name
from dynamos.experiments.answers import Answer, digest_of
from dynamos.experiments.beds import Bed
from dynamos.middleware.clients import BASE
from dynamos.model.profiles import Profile

USER = "bench@example.org"
COLUMNS = "id, region, day, sex, scale, amount"
RULES = {"region": "truncate:8", "day": "generalise", "amount": "generalise:100"}
"""What anonymisation does to columns of every table, on a profile that `on_sites_of` gives."""
_ANONYMOUS = (
    "id, left(region, 8) AS region, CAST(year(day) AS BIGINT) AS day, sex, scale, floor(amount / 100) * 100 AS amount"
)
_APART = 100_000_000
"""Ids of one provider begin at a multiple of this."""


@dataclass(frozen=True)
class Plain:
    """What plain DuckDB gives for the same rows: until the last one was there, and what they are."""

    seconds: float
    rows: int
    digest: str


def query(rows: int, columns: str = COLUMNS) -> str:
    """Give the query for the first so many rows of each provider: the whole of a table where one has that many."""
    whole = min(size for size in ROWS if size >= rows)
    return f"SELECT {columns} FROM {table_name(whole)}" + (f" WHERE id % {_APART} < {rows}" if rows < whole else "")  # noqa: S608  names


def plain(bed: Bed, providers: Sequence[str], rows: int, *, anonymous: bool = False) -> Plain:
    """Have plain DuckDB give the union of the providers' rows, with two threads, batch by batch.

    What the rows are is found out once for the same files; the seconds are of this time.
    """
    import duckdb  # noqa: PLC0415  heavy

    asked = query(rows, _ANONYMOUS if anonymous else COLUMNS)
    table = asked.partition(" FROM ")[2].partition(" ")[0]
    files = ", ".join(f"'{bed.file(party, table)}'" for party in providers)
    asked = asked.replace(f" FROM {table}", f" FROM read_parquet([{files}])")
    clock = time.perf_counter()
    with duckdb.connect(config={"threads": 2}) as engine:
        found = sum(batch.num_rows for batch in engine.sql(asked).to_arrow_reader(131_072))
    return Plain(time.perf_counter() - clock, found, _digest(asked))


def on_sites_of(profile: Profile) -> Profile:
    """Give the marketplace `bench` on the sites of another profile: the third party at the control site, providers in
    turn at the others. Its tables have the rules of anonymisation of RULES."""
    bench = profiles.load("bench")
    given = {"rules": {"synthetic": {table_name(rows): RULES for rows in ROWS}}, "settings": bench.settings}
    if profile.marketplace == bench.marketplace:
        return profile.model_copy(update=given)
    control = profile.control_site
    parties: dict[str, list[str]] = {site: [] for site in profile.sites}
    for party, site in zip(PROVIDERS, cycle([site for site in profile.sites if site != control] or [control])):
        parties[site].append(party)
    parties[control].append(THIRD_PARTY)
    sites = {name: site.model_copy(update={"parties": tuple(parties[name])}) for name, site in profile.sites.items()}
    named = {"name": f"bench-on-{profile.name}", "marketplace": bench.marketplace, "sites": sites}
    return profile.model_copy(update=given | named)


def forget(bed: Bed, answer: Answer) -> None:
    """Have the API drop an answer's results, so that those of many trials do not fill its room."""
    with bed.api(USER) as client:
        client.call("DELETE", f"{BASE}/jobs/{answer.job['id']}")


@lru_cache(maxsize=64)
def _digest(asked: str) -> str:
    import duckdb  # noqa: PLC0415  heavy
    import pyarrow as pa  # noqa: PLC0415  heavy

    with duckdb.connect() as engine:
        total = sum(digest_of(pa.Table.from_batches([batch])) for batch in engine.sql(asked).to_arrow_reader(1_000_000))
    return f"{total % (1 << 64):016x}"
