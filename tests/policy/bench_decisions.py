"""How long a decision takes over 2,000 relations: `python tests/policy/bench_decisions.py`.

Not a test: figures depend on the machine. First-time cost is that of a query and a schema nobody has asked about yet.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from dynamos.model.agreements import Agreement
from support.marketplaces import QUERY, USER, Scene, relation, request, upstream

RELATIONS = 2000
QUERIES = {
    "two columns": QUERY,
    "star of 21": "SELECT * FROM Personen p JOIN Aanstellingen s LIMIT 1000",
    "nested": "WITH x AS (SELECT Unieknr, max(Salschal) AS top FROM Aanstellingen GROUP BY 1) SELECT p.Geslacht, "
    "avg(x.top) AS a FROM Personen p JOIN x USING (Unieknr) WHERE p.Gebdat > 19500101 GROUP BY ALL ORDER BY a",
}


def scene() -> Scene:
    """Give upstream's marketplace with 2,000 users at each party, and narrow tables for ours."""
    relations = {f"user{index}@example.org": relation() for index in range(RELATIONS - 1)}
    base = upstream({"Personen.Gebdat": "truncate:4"})
    agreements = {
        party: Agreement.model_validate(
            {
                **base.agreements["UVA"].as_json(),
                "name": party,
                "relations": {**relations, USER: relation()},
                "duties": {"sqlDataRequest": ["sql-anonymize"]},
            }
        )
        for party in ("UVA", "VU", "RUG")
    }
    return replace(base, agreements=agreements)


def measure(work: Callable[[int], object], count: int) -> dict[str, float]:
    """Give p50, p99 and the most, in milliseconds."""
    times = []
    for index in range(count):
        began = time.perf_counter()
        work(index)
        times.append((time.perf_counter() - began) * 1000)
    cuts = statistics.quantiles(times, n=100)
    return {"p50": round(cuts[49], 4), "p99": round(cuts[98], 4), "most": round(max(times), 4)}


def bench() -> dict[str, dict[str, float]]:
    """Measure decisions that were and were not asked for before, and refusals; and plans."""
    whole = scene()
    found = {}
    for name, query in QUERIES.items():
        for providers in (["UVA"], ["UVA", "VU", "RUG"]):
            asked = request(providers, query=query)
            permitted = len(whole.decide(asked).permitted)
            found[f"{name}, {len(providers)} providers, {permitted} permit"] = measure(
                lambda _, asked=asked: whole.decide(asked), 5000
            )
        found[f"{name}, 1 provider, first time"] = measure(
            lambda index, query=query: whole.decide(request(["UVA"], query=f"{query} --{index}")), 300
        )
    narrow = whole.agreeing("UVA", tables={"Personen": ("Geslacht",)}, algorithms=("count",))
    refused = request(["UVA"], query=QUERIES["star of 21"])
    found["refusal with reasons"] = measure(lambda _: narrow.decide(refused), 5000)
    ready = request(["UVA", "VU", "RUG"], options={"aggregate": True})
    found["decision and plan, 3 providers"] = measure(lambda _: whole.plan(ready), 2000)
    return found


if __name__ == "__main__":
    json.dump(bench(), sys.stdout, indent=2)
    print()
