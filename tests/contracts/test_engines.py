"""Cases that every policy engine passes, whatever language its policies are written in.

They say what must be permitted and refused, by whom, and that refusals can be understood; not in which words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamos.kit.errors import BadInput
from dynamos.policy.builtin import BuiltIn
from dynamos.policy.engines import PolicyEngine
from support.marketplaces import NOW, USER, Scene, request, upstream

ENGINES: list[Callable[[], PolicyEngine]] = [BuiltIn]
RULES = {"Personen.Gebdat": "truncate:4"}

# What changes in UVA's agreement, what changes in the request, and the codes of UVA's reasons (none: permitted).
CASES: list[tuple[str, dict[str, Any], dict[str, Any], set[str]]] = [
    ("as agreed", {}, {}, set()),
    ("still valid", {"valid_until": NOW + timedelta(1)}, {}, set()),
    ("expired", {"valid_until": NOW - timedelta(1)}, {}, {"expired"}),
    ("another request type", {"request_types": ("genericRequest",)}, {}, {"request-type"}),
    ("another data set", {"data_sets": ("other",)}, {}, {"data-set"}),
    ("an unknown table", {}, {"query": "SELECT 1 FROM Gone"}, {"table"}),
    ("an unknown column", {}, {"query": "SELECT Gone FROM Personen"}, {"column"}),
    ("a permitted column", {"tables": {"Personen": ("Geslacht",)}}, {"query": "SELECT geslacht FROM PERSONEN"}, set()),
    ("a table too many", {"tables": {"Personen": ("Geslacht",)}}, {"query": "SELECT 1 FROM Aanstellingen"}, {"table"}),
    ("a column too many", {"tables": {"Personen": ("Geslacht",)}},
     {"query": "SELECT Gebdat FROM Personen"}, {"column"}),
    ("a column in WHERE", {"tables": {"Personen": ("Geslacht",)}},
     {"query": "SELECT Geslacht FROM Personen WHERE Gebdat > 1"}, {"column"}),
    ("a star too wide", {"tables": {"Personen": ("Geslacht",)}}, {"query": "SELECT * FROM Personen"}, {"column"}),
    ("a permitted algorithm", {"algorithms": ("average",)}, {}, set()),
    ("another algorithm", {"algorithms": ("count",)}, {}, {"algorithm"}),
    ("a permitted archetype", {}, {"archetype": "dataThroughTtp"}, set()),
    ("another archetype", {"allowed_archetypes": ("computeToData",)}, {"archetype": "dataThroughTtp"}, {"archetype"}),
    ("no archetype", {"allowed_archetypes": ()}, {}, {"archetype"}),
    ("archetype of the relation only", {"archetypes": ()}, {}, {"archetype"}),
    ("a permitted compute provider", {}, {"compute_provider": "SURF"}, set()),
    ("another compute provider", {}, {"compute_provider": "elsewhere"}, {"compute-provider"}),
    ("nobody to compute", {"allowed_compute_providers": ()}, {"archetype": "dataThroughTtp"}, {"compute-provider"}),
    ("a forced service", {"duties": ("sql-anonymize",)}, {}, set()),
    ("a forced service that is not there", {"duties": ("gone",)}, {}, {"duty"}),
    ("a sensitive column as it is", {"duties": ("sql-anonymize",)}, {"query": "SELECT Gebdat FROM Personen"}, set()),
    ("a sensitive column in a computation", {"duties": ("sql-anonymize",)},
     {"query": "SELECT max(Gebdat) AS m FROM Personen"}, {"derived-column"}),
    ("an unknown option", {}, {"options": {"anonymise": True}}, {"option"}),
    ("several at once", {"request_types": (), "algorithms": ()}, {"query": "SELECT 1 FROM Gone"},
     {"request-type", "algorithm", "table"}),
]  # fmt: skip


@pytest.fixture(params=ENGINES, ids=lambda make: make.__name__)
def scene(request: pytest.FixtureRequest) -> Scene:
    return replace(upstream(RULES), engine=request.param())


@pytest.mark.parametrize(("agreement", "asked", "codes"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_party_permits_what_it_agreed_to_and_nothing_else(
    scene: Scene, agreement: dict[str, Any], asked: dict[str, Any], codes: set[str]
) -> None:
    found = scene.agreeing("UVA", **agreement).decide(request(["UVA"], **asked)).providers["UVA"]
    assert {reason.code for reason in found.reasons} == codes
    assert found.permitted is (not codes)
    for reason in found.reasons:
        assert reason.party == "UVA"
        assert reason.clause
        assert reason.fact
        assert reason.message
        assert reason.remedy


def test_each_party_answers_for_itself_in_the_order_of_the_request(scene: Scene) -> None:
    decision = scene.decide(request(["RUG", "VU", "XX", "UVA"]))
    assert list(decision.providers) == ["RUG", "VU", "XX", "UVA"]
    assert decision.permitted == ("VU", "UVA")
    assert [reason.code for reason in decision.reasons] == ["no-relation", "unknown-party"]


def test_a_decision_names_its_user_its_type_and_its_policy_revision(scene: Scene) -> None:
    decision = scene.decide(request())
    assert (decision.user, decision.request_type, decision.revision) == (USER, "sqlDataRequest", "1")


def test_a_permission_says_what_is_used_what_comes_out_and_what_runs(scene: Scene) -> None:
    found = scene.decide(request(["UVA"], query="SELECT p.geslacht AS g FROM personen p")).providers["UVA"]
    assert [(use.data_set, use.table, use.columns) for use in found.uses] == [("wageGap", "Personen", ("Geslacht",))]
    assert [(o.name, o.sources, o.plain) for o in found.outputs] == [("g", (("Personen", "Geslacht"),), True)]
    assert found.query


def test_a_refusal_gives_no_query_to_run_and_tells_of_no_column(scene: Scene) -> None:
    limited = scene.agreeing("UVA", tables={"Personen": ("Geslacht",)})
    found = limited.decide(request(["UVA"], query="SELECT * FROM Personen")).providers["UVA"]
    assert (found.query, found.uses, found.outputs) == ("", (), ())
    assert "Gebdat" not in found.model_dump_json()


@pytest.mark.parametrize(
    "query", ["SELEKT 1", "DROP TABLE Personen", "SELECT getenv('HOME')", "SELECT 1; SELECT 2", ""]
)
def test_a_query_that_nobody_could_permit_is_bad_input(scene: Scene, query: str) -> None:
    with pytest.raises(BadInput) as caught:
        scene.decide(request(query=query))
    assert caught.value.as_dict()["code"] == "sql"
    assert caught.value.where.startswith("query:")


def test_the_same_question_gets_the_same_answer(scene: Scene) -> None:
    asked = request(["UVA", "VU", "RUG"])
    assert scene.decide(asked) == scene.decide(asked)
    assert scene.decide(asked).digest() == scene.decide(asked).digest()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.sets(st.sampled_from(["request_types", "data_sets", "allowed_archetypes", "allowed_compute_providers"])),
    st.sampled_from([None, "computeToData", "dataThroughTtp"]),
)
def test_taking_something_away_never_permits_more(taken: set[str], archetype: str | None) -> None:
    for make in ENGINES:
        whole = replace(upstream(), engine=make())
        asked = request(["UVA"], archetype=archetype)
        less = whole.agreeing("UVA", **dict.fromkeys(taken, ()))
        assert set(less.decide(asked).permitted) <= set(whole.decide(asked).permitted)
