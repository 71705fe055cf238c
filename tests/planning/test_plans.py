"""Who takes part, under which archetype, computed by whom; and the steps and streams that come of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dynamos.kit.errors import Refused, Unavailable
from dynamos.model.plans import Plan
from dynamos.model.services import Service
from support.marketplaces import Scene, request, upstream

AGGREGATE = {"aggregate": True}


def steps(plan: Plan) -> list[str]:
    return [f"{step.party}.{step.id}" for step in plan.steps]


def edges(plan: Plan) -> list[str]:
    return [edge.name for edge in plan.edges]


def test_the_lightest_archetype_leaves_the_data_where_they_are() -> None:
    plan = upstream().plan(request())
    assert plan.archetypes == {"UVA": "computeToData", "VU": "computeToData"}
    assert plan.compute == {"UVA": "UVA", "VU": "VU"}
    assert steps(plan) == ["UVA.sql-query", "UVA.sql-algorithm", "VU.sql-query", "VU.sql-algorithm"]
    assert edges(plan) == [
        "UVA.sql-query>UVA.sql-algorithm",
        "VU.sql-query>VU.sql-algorithm",
        "UVA.sql-algorithm>@requestor.UVA",
        "VU.sql-algorithm>@requestor.VU",
    ]
    assert plan.notes == ()


def test_a_third_party_computes_for_each_provider_on_its_own() -> None:
    plan = upstream().plan(request(archetype="dataThroughTtp"))
    assert plan.compute == {"UVA": "SURF", "VU": "SURF"}
    assert steps(plan) == ["UVA.sql-query", "VU.sql-query", "SURF.sql-algorithm@UVA", "SURF.sql-algorithm@VU"]
    assert edges(plan) == [
        "UVA.sql-query>SURF.sql-algorithm@UVA",
        "VU.sql-query>SURF.sql-algorithm@VU",
        "SURF.sql-algorithm@UVA>@requestor.UVA",
        "SURF.sql-algorithm@VU>@requestor.VU",
    ]


def test_a_union_brings_all_rows_to_one_place_once() -> None:
    plan = upstream().plan(request(options=AGGREGATE))
    assert plan.archetypes == {"UVA": "dataThroughTtp", "VU": "dataThroughTtp"}
    assert steps(plan) == ["UVA.sql-query", "VU.sql-query", "SURF.sql-aggregate", "SURF.sql-algorithm"]
    assert edges(plan) == [
        "UVA.sql-query>SURF.sql-aggregate",
        "VU.sql-query>SURF.sql-aggregate",
        "SURF.sql-aggregate>SURF.sql-algorithm",
        "SURF.sql-algorithm>@requestor.SURF",
    ]
    assert [step.provider for step in plan.steps] == ["UVA", "VU", None, None]
    assert plan.part("SURF").role == "computeProvider"
    assert plan.part("UVA").role == "dataProvider"


def test_a_union_of_one_is_that_providers_own() -> None:
    plan = upstream().plan(request(["VU"], options=AGGREGATE))
    assert [step.provider for step in plan.steps] == ["VU", "VU", "VU"]
    assert edges(plan)[-1] == "SURF.sql-algorithm>@requestor.VU"


def test_weights_decide_and_names_break_ties() -> None:
    scene = upstream()
    lighter = scene.archetypes["dataThroughTtp"].model_copy(update={"weight": 100})
    tied = replace(scene, archetypes={**scene.archetypes, "dataThroughTtp": lighter})
    assert tied.plan(request()).archetypes["UVA"] == "computeToData"
    heavier = scene.archetypes["computeToData"].model_copy(update={"weight": 300})
    switched = replace(scene, archetypes={**scene.archetypes, "computeToData": heavier})
    assert switched.plan(request()).archetypes == {"UVA": "dataThroughTtp", "VU": "dataThroughTtp"}


def test_who_refuses_a_union_keeps_the_data_where_they_are_if_all_permit() -> None:
    scene = upstream()
    heavier = scene.archetypes["computeToData"].model_copy(update={"weight": 300})
    scene = replace(scene, archetypes={**scene.archetypes, "computeToData": heavier})
    apart = request(options={"aggregate": False})
    assert set(scene.plan(apart).archetypes.values()) == {"computeToData"}
    one = request(["UVA"], options={"aggregate": False})
    assert scene.plan(one).archetypes == {"UVA": "dataThroughTtp"}
    strict = scene.agreeing("VU", allowed_archetypes=("dataThroughTtp",))
    assert set(strict.plan(apart).archetypes.values()) == {"dataThroughTtp"}


def test_agreements_may_demand_different_archetypes_in_one_request() -> None:
    scene = upstream().agreeing("VU", allowed_archetypes=("dataThroughTtp",))
    plan = scene.plan(request())
    assert plan.archetypes == {"UVA": "computeToData", "VU": "dataThroughTtp"}
    assert plan.compute == {"UVA": "UVA", "VU": "SURF"}
    assert steps(plan) == ["UVA.sql-query", "UVA.sql-algorithm", "VU.sql-query", "SURF.sql-algorithm@VU"]
    assert plan.part("SURF").archetype == "dataThroughTtp"


def elsewhere(scene: Scene, party: str, *computers: str) -> Scene:
    return scene.agreeing(party, compute_providers=computers, allowed_compute_providers=computers)


def test_the_compute_provider_that_serves_most_is_taken() -> None:
    scene = replace(upstream(), online=frozenset({"UVA", "VU", "A", "B", "C"}))
    scene = elsewhere(elsewhere(scene, "UVA", "A", "B"), "VU", "C", "B")
    assert scene.plan(request(options=AGGREGATE)).compute == {"UVA": "B", "VU": "B"}
    assert scene.without("B").plan(request(archetype="dataThroughTtp")).compute == {"UVA": "A", "VU": "C"}


def test_of_equal_compute_providers_the_agreements_first_is_taken() -> None:
    scene = replace(upstream(), online=frozenset({"UVA", "VU", "Z", "A"}))
    scene = elsewhere(elsewhere(scene, "UVA", "Z", "A"), "VU", "A", "Z")
    assert scene.plan(request(options=AGGREGATE)).compute == {"UVA": "Z", "VU": "Z"}
    assert scene.plan(request(["VU", "UVA"], options=AGGREGATE)).compute == {"VU": "A", "UVA": "A"}


def test_a_union_over_parties_without_a_common_place_is_one_each_and_says_so() -> None:
    scene = replace(upstream(), online=frozenset({"UVA", "VU", "A", "B"}))
    scene = elsewhere(elsewhere(scene, "UVA", "A"), "VU", "B")
    plan = scene.plan(request(options=AGGREGATE))
    assert steps(plan)[2:] == ["A.sql-aggregate", "A.sql-algorithm", "B.sql-aggregate", "B.sql-algorithm"]
    assert plan.notes == ("the agreements name no compute provider in common: one result from each of A, B",)


def test_a_compute_provider_that_is_asked_for_is_taken_or_nothing_is() -> None:
    assert upstream().plan(request(compute_provider="SURF")).compute == {"UVA": "SURF", "VU": "SURF"}
    assert upstream().plan(request(["UVA"], compute_provider="UVA")).archetypes == {"UVA": "computeToData"}
    with pytest.raises(Unavailable, match="SURF is offline"):
        upstream().without("SURF").plan(request(compute_provider="SURF"))


def test_without_a_compute_provider_the_next_archetype_is_tried() -> None:
    scene = upstream().without("SURF")
    heavier = scene.archetypes["computeToData"].model_copy(update={"weight": 300})
    scene = replace(scene, archetypes={**scene.archetypes, "computeToData": heavier})
    assert set(scene.plan(request()).archetypes.values()) == {"computeToData"}
    with pytest.raises(Unavailable, match="SURF is offline"):
        scene.plan(request(options=AGGREGATE))


def test_providers_that_are_offline_are_left_out_with_a_note() -> None:
    plan = upstream().without("VU").plan(request(["UVA", "VU", "RUG"]))
    assert plan.parties == ("UVA",)
    assert plan.notes == ("RUG refuses the request", "VU is offline: its data are not in the result")
    with pytest.raises(Unavailable, match="UVA and VU are offline") as caught:
        upstream().without("UVA", "VU").plan(request())
    assert caught.value.where == "UVA, VU"


def test_nobody_who_permits_is_a_refusal_with_all_reasons() -> None:
    with pytest.raises(Refused) as caught:
        upstream().plan(request(["RUG", "XX"]))
    assert [reason["code"] for reason in caught.value.facts["reasons"]] == ["no-relation", "unknown-party"]


def test_services_that_may_not_run_under_what_is_permitted_are_a_refusal_with_the_remedy() -> None:
    scene = upstream().agreeing("UVA", allowed_archetypes=("computeToData",))
    with pytest.raises(Refused) as caught:
        scene.plan(request(["UVA"], options=AGGREGATE))
    (reason,) = caught.value.facts["reasons"]
    assert reason["code"] == "archetype"
    assert "sql-aggregate may not run under computeToData" in reason["message"]
    assert "leave out the option" in reason["remedy"]
    plan = scene.plan(request(["UVA", "VU"], options=AGGREGATE))
    assert plan.archetypes == {"VU": "dataThroughTtp"}
    assert plan.notes[0].startswith("UVA cannot take part under computeToData")


def test_a_union_needs_one_place_even_where_no_manifest_says_so() -> None:
    scene = upstream()
    free = scene.services["sql-aggregate"].model_copy(update={"invalid_archetypes": ()})
    scene = replace(scene, services={**scene.services, "sql-aggregate": free})
    assert set(scene.plan(request(options=AGGREGATE)).archetypes.values()) == {"dataThroughTtp"}
    alone = scene.plan(request(["UVA"], options=AGGREGATE))
    assert steps(alone) == ["UVA.sql-query", "UVA.sql-aggregate", "UVA.sql-algorithm"]


def test_a_duty_runs_at_the_party_that_forces_it_and_nowhere_else() -> None:
    scene = upstream().agreeing("UVA", duties=("sql-anonymize",))
    plan = scene.plan(request(options=AGGREGATE))
    assert steps(plan)[:3] == ["UVA.sql-query", "UVA.sql-anonymize", "VU.sql-query"]
    assert "UVA.sql-anonymize>SURF.sql-aggregate" in edges(plan)


def noisy(scene: Scene) -> Scene:
    """Add a computing service after the algorithm, which a party may force."""
    noise = Service(name="noise", label="computeProvider")
    algorithm = scene.services["sql-algorithm"].model_copy(update={"allowed_outputs": ("sql-graph", "noise")})
    graph = scene.services["sql-graph"].model_copy(update={"allowed_outputs": ("noise",)})
    changed = {"sql-algorithm": algorithm, "sql-graph": graph, "noise": noise}
    return replace(scene, services={**scene.services, **changed})


def test_a_duty_that_does_not_fit_keeps_only_its_party_out() -> None:
    stray = Service(name="stray", label="computeProvider")
    scene = upstream()
    scene = replace(scene, services={**scene.services, "stray": stray}).agreeing("UVA", duties=("stray",))
    plan = scene.plan(request())
    assert plan.parties == ("VU",)
    assert plan.notes[0].startswith("the services that UVA forces do not fit into this chain")
    with pytest.raises(Refused) as caught:
        scene.plan(request(["UVA"]))
    assert [reason["code"] for reason in caught.value.facts["reasons"]] == ["duty"]


def test_rows_that_must_pass_a_forced_computation_are_not_mixed_with_rows_that_need_not() -> None:
    scene = noisy(upstream()).agreeing("UVA", duties=("noise",))
    plan = scene.plan(request(options=AGGREGATE))
    assert steps(plan)[2:] == [
        "SURF.sql-aggregate+noise",
        "SURF.sql-algorithm+noise",
        "SURF.noise+noise",
        "SURF.sql-aggregate",
        "SURF.sql-algorithm",
    ]
    assert [edge.name for edge in plan.results] == [
        "SURF.noise+noise>@requestor.UVA",
        "SURF.sql-algorithm>@requestor.VU",
    ]


def test_a_data_provider_may_compute_for_another_unless_duties_apply() -> None:
    scene = elsewhere(elsewhere(upstream(), "UVA", "VU"), "VU", "VU")
    plan = scene.plan(request(archetype="dataThroughTtp"))
    assert plan.compute == {"UVA": "VU", "VU": "VU"}
    assert steps(plan) == ["UVA.sql-query", "VU.sql-query", "VU.sql-algorithm@UVA", "VU.sql-algorithm@VU"]
    forced = scene.agreeing("UVA", duties=("sql-anonymize",))
    assert forced.plan(request(archetype="dataThroughTtp")).archetypes == {"VU": "dataThroughTtp"}


def test_names_of_steps_and_streams_are_unique_where_they_must_be() -> None:
    scene = noisy(upstream()).agreeing("UVA", duties=("noise",))
    for options in ({}, AGGREGATE, {"graph": True}):
        plan = scene.plan(request(options=options, archetype="dataThroughTtp"))
        assert len({(step.party, step.id) for step in plan.steps}) == len(plan.steps)
        assert len({edge.name for edge in plan.edges}) == len(plan.edges)


def test_the_same_question_gets_the_same_plan() -> None:
    scene = upstream()
    assert scene.plan(request()).digest() == scene.plan(request()).digest()
