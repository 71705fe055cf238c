"""What runs is stopped for what forbids it, and for nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from dynamos.model.archetypes import Archetype
from dynamos.planning.outlooks import Outlook
from dynamos.planning.reviews import review
from support.marketplaces import NOW, USER, Scene, request, upstream, wage_gap

ASKED = request()
STAR = request(("UVA",), "SELECT * FROM Personen")
THROUGH = request(archetype="dataThroughTtp")


def outlook(scene: Scene, **changes: Any) -> Outlook:
    it = Outlook(scene.engine, scene.agreements, scene.catalogue, scene.landscape(), NOW, "1")
    return replace(it, **changes)


def reviewed(after: Scene, asked=ASKED, before: Scene | None = None, **changes: Any) -> dict[str, list[str]]:
    """Give the codes by party of what clashes, for a job that began under `before`."""
    before = before or upstream()
    found = review(asked, before.plan(asked), before.decide(asked), outlook(after, **changes))
    return {party: [reason.code for reason in reasons] for party, reasons in found.items()}


def test_nothing_has_changed_and_nothing_clashes():
    for asked in (ASKED, STAR, THROUGH):
        assert reviewed(upstream(), asked) == {}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"request_types": ("genericRequest",)}, "request-type"),
        ({"data_sets": ()}, "data-set"),
        ({"allowed_archetypes": ("dataThroughTtp",)}, "archetype"),
        ({"archetypes": ("dataThroughTtp",)}, "archetype"),
        ({"tables": {"Personen": ("Unieknr",), "Aanstellingen": ("Unieknr", "Salschal")}}, "column"),
        ({"algorithms": ("count",)}, "algorithm"),
        ({"duties": ("sql-anonymize",)}, "duty"),
        ({"all_duties": ("sql-anonymize",)}, "duty"),
        ({"valid_until": NOW - timedelta(seconds=1)}, "expired"),
    ],
)
def test_what_a_party_takes_back_clashes_with_its_part_only(changes, code):
    assert reviewed(upstream().agreeing("UVA", **changes)) == {"UVA": [code]}


@pytest.mark.parametrize("changes", [{"compute_providers": ("otherCompany",)}, {"allowed_compute_providers": ()}])
def test_a_party_that_may_not_compute_any_more_clashes_where_it_computes(changes):
    after = upstream().agreeing("VU", **changes)
    assert reviewed(after, THROUGH) == {"VU": ["compute-provider"]}
    assert reviewed(after, ASKED) == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"allowed_archetypes": ("dataThroughTtp", "computeToData")},
        {"compute_providers": ("DANS", "SURF")},
        {"valid_until": NOW + timedelta(days=1)},
        {"request_types": ("sqlDataRequest",)},
    ],
)
def test_what_has_nothing_to_do_with_the_job_leaves_it_alone(changes):
    assert reviewed(upstream().agreeing("UVA", **changes), THROUGH) == {}


def test_another_users_relation_is_another_users_business():
    scene = upstream()
    mine = scene.agreements["UVA"]
    other = mine.model_copy(update={"relations": {**mine.relations, "bob@example.org": mine.relations[USER]}})
    assert reviewed(replace(scene, agreements={**scene.agreements, "UVA": other})) == {}


def test_a_party_that_forces_less_or_has_more_columns_has_forbidden_nothing():
    forced = upstream().agreeing("UVA", duties=("sql-anonymize",))
    assert reviewed(upstream(), STAR, before=forced) == {}
    fewer = wage_gap().model_copy(update={"tables": dict(wage_gap().tables)})
    people = fewer.tables["Personen"]
    columns = {name: column for name, column in people.columns.items() if name in ("Unieknr", "Geslacht")}
    fewer.tables["Personen"] = people.model_copy(update={"columns": columns})
    before = replace(upstream(), catalogue={**upstream().catalogue, "UVA": {"wageGap": fewer}})
    assert reviewed(upstream(), STAR, before=before) == {}
    assert reviewed(before, STAR) == {"UVA": ["column"]}


def test_a_star_that_would_give_fewer_columns_now_clashes():
    assert reviewed(upstream().agreeing("UVA", tables={"Personen": ("Unieknr",)}), STAR) == {"UVA": ["column"]}


def test_no_agreement_at_all_is_no_permission():
    scene = upstream()
    nobody = {party: agreement.model_copy(update={"relations": {}}) for party, agreement in scene.agreements.items()}
    assert reviewed(replace(scene, agreements=nobody)) == {"UVA": ["no-relation"], "VU": ["no-relation"]}
    assert reviewed(replace(scene, agreements={})) == {"UVA": ["unknown-party"], "VU": ["unknown-party"]}


def test_the_marketplaces_definitions_clash_where_the_job_would_run_other_steps():
    scene = upstream()
    types = scene.request_types["sqlDataRequest"]
    longer = types.model_copy(update={"required_services": (*types.required_services, "sql-graph")})
    both = ["request-type"]
    assert reviewed(replace(scene, request_types={"sqlDataRequest": longer})) == {"UVA": both, "VU": both}
    assert reviewed(replace(scene, request_types={"sqlDataRequest": longer}), THROUGH) == {"UVA": both, "VU": both}
    assert reviewed(replace(scene, request_types={})) == {"UVA": both, "VU": both}
    optional = types.model_copy(update={"optional_services": {"sql-graph": "graph"}})
    assert reviewed(replace(scene, request_types={"sqlDataRequest": optional})) == {}


def test_an_archetype_that_is_gone_or_a_service_that_may_not_run_under_it_clashes():
    scene = upstream()
    through = {"dataThroughTtp": scene.archetypes["dataThroughTtp"]}
    assert reviewed(replace(scene, archetypes=through)).keys() == {"UVA", "VU"}
    assert reviewed(replace(scene, archetypes=through), THROUGH) == {}
    forbidden = scene.services["sql-algorithm"].model_copy(update={"invalid_archetypes": ("computeToData",)})
    after = replace(scene, services={**scene.services, "sql-algorithm": forbidden})
    assert reviewed(after).keys() == {"UVA", "VU"}
    assert reviewed(after, THROUGH) == {}
    without = {name: service for name, service in scene.services.items() if name != "sql-algorithm"}
    assert reviewed(replace(scene, services=without)).keys() == {"UVA", "VU"}


def test_a_weight_changes_what_comes_next_and_not_what_runs():
    scene = upstream()
    heavy = Archetype(name="computeToData", compute_provider="dataProvider", weight=999)
    assert reviewed(replace(scene, archetypes={**scene.archetypes, "computeToData": heavy})) == {}


def test_who_is_offline_has_forbidden_nothing():
    assert reviewed(upstream().without("UVA", "SURF"), THROUGH) == {}


def test_only_the_parties_asked_about_are_judged():
    scene = upstream()
    nobody = replace(scene, agreements={})
    found = review(ASKED, scene.plan(ASKED), scene.decide(ASKED), outlook(nobody), ("VU",))
    assert list(found) == ["VU"]


def test_every_reason_says_which_party_and_what_clashes():
    scene = upstream().agreeing("UVA", allowed_archetypes=("dataThroughTtp",))
    before = upstream()
    ((party, (reason,)),) = review(ASKED, before.plan(ASKED), before.decide(ASKED), outlook(scene)).items()
    assert party == reason.party == "UVA"
    assert "computeToData" in reason.message
    assert reason.clause
