"""The sample requests of the marketplaces get the answers that their pages tell."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest

from dynamos.deploy import profiles
from dynamos.middleware.agent.catalogues import discover
from dynamos.middleware.api import asks
from dynamos.model.datasets import DataSet
from dynamos.model.decisions import Decision
from dynamos.model.marketplaces import Marketplace
from dynamos.model.plans import Plan
from dynamos.model.requests import Request
from dynamos.planning.landscapes import Landscape
from dynamos.planning.plans import plan
from dynamos.policy.builtin import BuiltIn

MARKETS = Path(__file__).parent.parent.parent / "profiles" / "marketplaces"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
EVERYBODY = {"united": "computeToData", "jetblue": "computeToData", "delta": "computeToData"}


@cache
def marketplace(profile: str) -> Marketplace:
    return profiles.resolve(profiles.load(profile))


def sample(market: str, name: str) -> Request:
    return asks.read(json.loads((MARKETS / market / "requests" / f"{name}.json").read_text())).request


def decide(market: Marketplace, request: Request, catalogue: Mapping[str, Mapping[str, DataSet]]) -> Decision:
    return BuiltIn().decide(
        request, market.agreements, catalogue, request_types=market.request_types, services=market.services,
        archetypes=market.archetypes, now=NOW, revision="1",
    )  # fmt: skip


def planned(market: Marketplace, request: Request, decision: Decision) -> Plan:
    online = frozenset(market.parties)
    landscape = Landscape(market.archetypes, market.request_types, market.services, online)
    return plan(request, decision, landscape, job="job")


def declared(market: Marketplace) -> dict[str, dict[str, DataSet]]:
    """What each party holds, with the columns that the marketplace declares."""
    return {name: {one: market.data_sets[one] for one in party.data} for name, party in market.parties.items()}


@pytest.mark.parametrize(
    ("name", "archetypes", "compute"),
    [
        ("delay-by-origin", EVERYBODY, {party: party for party in EVERYBODY}),
        (
            "delay-through-third-party",
            {"united": "dataThroughTtp", "jetblue": "dataThroughTtp"},
            {"united": "safety-board", "jetblue": "safety-board"},
        ),
        (
            "delay-union-of-three",
            {"united": "dataThroughTtp", "jetblue": "dataThroughTtp"},
            {"united": "safety-board", "jetblue": "safety-board"},
        ),
        (
            "delay-mixed",
            {"united": "computeToData", "jetblue": "dataThroughTtp"},
            {"united": "united", "jetblue": "safety-board"},
        ),
        ("monthly-means", EVERYBODY, {party: party for party in EVERYBODY}),
        ("fleet-age", {"registry": "computeToData"}, {"registry": "registry"}),
    ],
)
def test_aviation_permits_what_its_page_says(name: str, archetypes: dict[str, str], compute: dict[str, str]) -> None:
    market, request = marketplace("laptop"), sample("aviation", name)
    found = planned(market, request, decide(market, request, declared(market)))
    assert (found.archetypes, found.compute) == (archetypes, compute)


def test_a_union_says_who_is_not_in_it() -> None:
    market, request = marketplace("laptop"), sample("aviation", "delay-union-of-three")
    (note,) = planned(market, request, decide(market, request, declared(market))).notes
    assert note.startswith("delta cannot take part")


def test_jetblue_forces_anonymisation_on_the_journalist() -> None:
    market, request = marketplace("laptop"), sample("aviation", "anonymised-flights")
    decision = decide(market, request, declared(market))
    assert decision.providers["jetblue"].duties == ("sql-anonymize",)
    steps = [step.service for step in planned(market, request, decision).steps]
    assert steps == ["sql-query", "sql-anonymize", "sql-algorithm"]


@pytest.mark.parametrize(
    ("name", "reasons"),
    [
        ("refused-tailnum", {("united", "column"), ("jetblue", "column"), ("delta", "column")}),
        ("expired", {("united", "expired")}),
    ],
)
def test_aviation_refuses_what_its_page_says(name: str, reasons: set[tuple[str, str]]) -> None:
    market, request = marketplace("laptop"), sample("aviation", name)
    decision = decide(market, request, declared(market))
    assert decision.permitted == ()
    assert {(reason.party, reason.code) for reason in decision.reasons} == reasons


def test_upstreams_own_requests_are_permitted(tmp_path: Path) -> None:
    market = marketplace("upstream")
    folders = profiles.prepare(profiles.load("upstream"), tmp_path / "data")
    catalogue = {
        name: asyncio.run(discover(party, market.data_sets, folders[name])) for name, party in market.parties.items()
    }
    found = {}
    for name in ("readme", "wage-gap", "wage-gap-aggregate", "distinct"):
        request = sample("wage-gap", name)
        found[name] = planned(market, request, decide(market, request, catalogue)).compute
    assert found == {
        "readme": {"VU": "VU", "UVA": "UVA"},
        "wage-gap": {"VU": "VU", "UVA": "UVA"},
        "wage-gap-aggregate": {"VU": "SURF", "UVA": "SURF"},
        "distinct": {"UVA": "UVA"},
    }
