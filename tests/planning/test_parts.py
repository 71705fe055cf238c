"""What a party works out alone is what the orchestrator planned, or the party says no."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from dynamos.kit.errors import DynamosError, Refused
from dynamos.model.agreements import Agreement
from dynamos.model.archetypes import Archetype
from dynamos.model.plans import REQUESTOR, Edge, Part, Plan
from dynamos.model.requests import Request
from dynamos.model.services import Service
from dynamos.planning.parts import check_compute, own_part
from support.marketplaces import Scene, relation, request, upstream

PARTIES = ("UVA", "VU", "RUG", "SURF", "DANS")


def alone(scene: Scene, asked: Request, plan: Plan, party: str) -> Part:
    """Work out a part as its agent does: from its own agreement and the two maps of the grant."""
    own = replace(scene, agreements={party: scene.agreements[party]}, catalogue={party: scene.catalogue[party]})
    return own_part(
        asked,
        own.decide(asked).providers[party],
        archetypes=dict(sorted(plan.archetypes.items())),
        compute=dict(sorted(plan.compute.items())),
        services=scene.services,
        request_types=scene.request_types,
        archetype_definitions=scene.archetypes,
        job=plan.job,
        party=party,
    )


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """Draw marketplaces: other archetypes, other weights, other agreements, duties, presence."""
    scene = upstream()
    archetypes = {
        name: Archetype(name=name, compute_provider=place, weight=draw(st.integers(1, 3)))
        for name, place in (("computeToData", "dataProvider"), ("dataThroughTtp", "other"), ("enclave", "other"))
    }
    noise = Service(name="noise", label="computeProvider", inputs=draw(st.sampled_from(["one", "many"])))
    check = Service(name="check", label="computeProvider", allowed_outputs=("sql-aggregate", "sql-algorithm"))
    services = dict(scene.services)
    for name in ("sql-query", "sql-anonymize"):
        outputs = (*services[name].allowed_outputs, "check")
        services[name] = services[name].model_copy(update={"allowed_outputs": outputs})
    for name in ("sql-algorithm", "sql-graph"):
        outputs = (*services[name].allowed_outputs, "noise")
        services[name] = services[name].model_copy(update={"allowed_outputs": outputs})
    if draw(st.booleans()):
        services["sql-aggregate"] = services["sql-aggregate"].model_copy(update={"invalid_archetypes": ()})
    duties = st.lists(st.sampled_from(["sql-anonymize", "noise", "check", "sql-aggregate"]), max_size=2, unique=True)
    some = st.lists(st.sampled_from(list(archetypes)), min_size=1, unique=True)
    names = st.one_of(st.just(list(archetypes)), some)
    computers = st.one_of(st.permutations(PARTIES), st.lists(st.sampled_from(PARTIES), max_size=4, unique=True))
    agreements = {}
    for party in PARTIES[:3]:
        members: dict[str, Any] = {"allowedArchetypes": draw(names), "allowedComputeProviders": draw(computers)}
        agreements[party] = Agreement.model_validate(
            {
                "name": party,
                "relations": {request().user.user_name: relation(**members, duties=draw(duties))},
                "archetypes": draw(names),
                "computeProviders": draw(computers),
            }
        )
    return replace(
        scene,
        agreements=agreements,
        archetypes=archetypes,
        services={**services, "noise": noise, "check": check},
        online=frozenset(PARTIES).difference(draw(st.sets(st.sampled_from(PARTIES), max_size=2))),
    )


requests = st.builds(
    lambda providers, options, archetype, computer: request(
        providers, options=options, archetype=archetype, compute_provider=computer
    ),
    st.one_of(st.permutations(PARTIES[:3]), st.lists(st.sampled_from(PARTIES[:3]), min_size=1, unique=True)),
    st.dictionaries(st.sampled_from(["aggregate", "anonymize", "graph"]), st.booleans()),
    st.sampled_from([None, None, None, "dataThroughTtp", "enclave"]),
    st.sampled_from([None, None, None, "SURF", "VU"]),
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(scenes(), requests)
def test_every_party_comes_to_the_planned_part_by_itself(scene: Scene, asked: Request) -> None:
    try:
        plan = scene.plan(asked)
    except DynamosError as error:
        event(type(error).__name__)
        return
    event(f"{len(plan.archetypes)} providers, {len(plan.parties)} parties")
    assert len({(step.party, step.id) for step in plan.steps}) == len(plan.steps)
    assert len({edge.name for edge in plan.edges}) == len(plan.edges)
    assert sorted(edge.name for edge in plan.results) == sorted(
        e.name for e in plan.edges if e.target_party == REQUESTOR
    )
    for party in plan.parties:
        part = plan.part(party)
        if party in plan.archetypes:
            assert alone(scene, asked, plan, party).digest() == part.digest()
        else:
            check_compute(part, scene.services)
    for party, archetype in plan.archetypes.items():
        moves = scene.archetypes[archetype].moves_data
        own = scene.decide(asked).providers[party]
        assert own.permitted
        assert archetype in own.archetypes
        assert plan.compute[party] in (own.compute_providers if moves else (party,))
        ran = {step.service for step in plan.steps if step.provider in (party, None)}
        assert set(own.duties) <= ran


def planned(**members: Any) -> tuple[Scene, Request, Plan]:
    scene, asked = upstream(), request(**members)
    return scene, asked, scene.plan(asked)


def test_a_party_does_not_take_an_archetype_that_it_does_not_permit() -> None:
    scene, asked, plan = planned(archetype="dataThroughTtp")
    strict = scene.agreeing("UVA", allowed_archetypes=("computeToData",))
    with pytest.raises(Refused, match="does not permit"):
        alone(strict, asked.model_copy(update={"archetype": None}), plan, "UVA")


def test_a_party_does_not_send_rows_to_somebody_whom_it_does_not_permit() -> None:
    scene, asked, plan = planned(archetype="dataThroughTtp")
    elsewhere = plan.model_copy(update={"compute": {"UVA": "Elsewhere", "VU": "SURF"}})
    with pytest.raises(Refused, match="does not permit 'Elsewhere'") as caught:
        alone(scene, asked, elsewhere, "UVA")
    assert caught.value.as_dict()["code"] == "other-chain"
    at_home = plan.model_copy(update={"archetypes": {"UVA": "computeToData", "VU": "computeToData"}})
    with pytest.raises(Refused, match="does not permit 'SURF' to compute under computeToData"):
        alone(scene, asked.model_copy(update={"archetype": None}), at_home, "UVA")


def test_a_party_does_not_leave_out_its_duty() -> None:
    scene, asked, plan = planned(archetype="dataThroughTtp")
    forcing = scene.agreeing("UVA", duties=("sql-anonymize",))
    assert alone(forcing, asked, plan, "UVA").digest() != plan.part("UVA").digest()
    assert alone(forcing, asked, plan, "UVA").digest() == forcing.plan(asked).part("UVA").digest()


def test_a_party_does_not_run_a_service_where_it_may_not_run() -> None:
    scene, asked, plan = planned()
    service = scene.services["sql-algorithm"].model_copy(update={"invalid_archetypes": ("computeToData",)})
    with pytest.raises(Refused, match="sql-algorithm may not run under computeToData"):
        alone(replace(scene, services={**scene.services, "sql-algorithm": service}), asked, plan, "UVA")


def test_a_grant_about_other_providers_is_refused() -> None:
    scene, asked, plan = planned()
    more = plan.model_copy(
        update={"archetypes": {**plan.archetypes, "RUG": "computeToData"}, "compute": {**plan.compute, "RUG": "RUG"}}
    )
    with pytest.raises(Refused, match="providers that the request does not"):
        alone(scene, asked, more, "UVA")


def changed(part: Part, **update: Any) -> Part:
    return part.model_copy(update=update)


def faulty_parts() -> list[tuple[str, Part, str]]:
    _, _, plan = planned(options={"aggregate": True})
    part = plan.part("SURF")
    aggregate, algorithm = part.steps
    first, _, inner, result = part.edges
    query = plan.part("UVA").steps[0].model_copy(update={"party": "SURF"})
    return [
        ("nothing to do", changed(part, steps=(), edges=()), "no steps"),
        ("reads data", changed(part, steps=(query, *part.steps)), "does not only compute"),
        ("unknown service", changed(part, steps=(algorithm.model_copy(update={"service": "x"}),)), "no service 'x'"),
        ("the same twice", changed(part, steps=(*part.steps, algorithm)), "the same name"),
        (
            "own options",
            changed(part, steps=(aggregate.model_copy(update={"options": {"a": "b"}}), algorithm)),
            "options",
        ),
        ("nothing to read", changed(part, edges=(inner, result)), "reads 0 streams"),
        ("no result", changed(part, edges=part.edges[:3]), "writes 0 streams"),
        ("data to another party", changed(part, edges=(*part.edges[:3], _to(result, "Thief"))), "goes to Thief"),
        ("a copy on the side", changed(part, edges=(*part.edges, _to(result, REQUESTOR, "copy"))), "writes 2 streams"),
        ("two into one", changed(part, edges=(*part.edges, _into(first, "sql-algorithm"))), "reads 2 streams"),
        ("not ours", changed(part, edges=(*part.edges, _elsewhere(first))), "not of this part"),
    ]


def _to(edge: Edge, party: str, name: str = "other") -> Edge:
    return edge.model_copy(update={"target_party": party, "name": name})


def _into(edge: Edge, step: str) -> Edge:
    return edge.model_copy(update={"target": step, "name": "other"})


def _elsewhere(edge: Edge) -> Edge:
    return edge.model_copy(update={"target_party": "VU", "name": "other"})


@pytest.mark.parametrize(("part", "message"), [case[1:] for case in faulty_parts()], ids=[c[0] for c in faulty_parts()])
def test_a_party_that_only_computes_refuses_what_is_more_than_that(part: Part, message: str) -> None:
    with pytest.raises(Refused, match=message):
        check_compute(part, upstream().services)


def test_a_sound_part_for_a_party_that_only_computes_is_taken() -> None:
    for options in ({}, {"aggregate": True}, {"aggregate": True, "graph": True}):
        scene, _, plan = planned(options=options, archetype="dataThroughTtp")
        check_compute(plan.part("SURF"), scene.services)
