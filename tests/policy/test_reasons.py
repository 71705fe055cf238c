"""Who may do what, and what a refusal tells: party, clause, fact, place and the smallest change that permits it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from dynamos.kit.errors import BadInput
from dynamos.model.decisions import ProviderDecision, Reason
from dynamos.policy.explanations import explain
from support.marketplaces import NOW, USER, Scene, request, upstream

CLAUSE = f"relations[{USER!r}]"


def answer(scene: Scene, party: str = "UVA", **members: Any) -> ProviderDecision:
    return scene.decide(request([party], **members)).providers[party]


def only(found: ProviderDecision) -> Reason:
    assert not found.permitted
    assert len(found.reasons) == 1, found.reasons
    return found.reasons[0]


def test_what_the_agreement_allows_is_permitted_with_its_limits() -> None:
    decision = upstream().decide(request(["VU", "UVA"]))
    assert decision.permitted == ("VU", "UVA")
    assert (decision.user, decision.request_type, decision.revision) == (USER, "sqlDataRequest", "1")
    found = decision.providers["UVA"]
    assert found.archetypes == ("computeToData", "dataThroughTtp")
    assert found.compute_providers == ("SURF",)
    assert [(use.table, use.columns) for use in found.uses] == [
        ("Personen", ("Unieknr", "Geslacht")),
        ("Aanstellingen", ("Unieknr", "Salschal")),
    ]
    assert [output.name for output in found.outputs] == ["Geslacht", "Salschal"]
    assert found.query.startswith('SELECT "p"."Geslacht", "s"."Salschal" FROM "Personen" AS "p"')


def test_a_user_without_a_relation_learns_nothing_else() -> None:
    found = only(answer(upstream(), "RUG", query="SELECT Nope FROM Nothing", algorithm="x"))
    assert (found.code, found.clause) == ("no-relation", "relations")
    stranger = request(["UVA"]).model_copy(update={"user": request().user.model_copy(update={"user_name": "x@y.z"})})
    told = upstream().decide(stranger)
    assert [reason.code for reason in told.reasons] == ["no-relation"]
    assert USER not in told.model_dump_json()


def test_a_user_name_counts_as_it_is_written() -> None:
    shouting = request(["UVA"]).user.model_copy(update={"user_name": USER.upper()})
    decision = upstream().decide(request(["UVA"]).model_copy(update={"user": shouting}))
    assert [reason.code for reason in decision.reasons] == ["no-relation"]


def test_an_unknown_party_is_told_the_near_names_of_parties() -> None:
    found = only(answer(upstream(), "UVB"))
    assert (found.code, found.remedy) == ("unknown-party", "did you mean 'UVA'?")


@pytest.mark.parametrize(("days", "permitted"), [(1, True), (-1, False)])
def test_after_its_end_a_relation_permits_nothing(days: int, permitted: bool) -> None:
    scene = upstream().agreeing("UVA", valid_until=NOW + timedelta(days=days))
    found = answer(scene)
    assert found.permitted is permitted
    assert [reason.code for reason in found.reasons] == ([] if permitted else ["expired"])


def test_an_end_without_a_time_zone_is_in_that_of_the_clock() -> None:
    assert only(answer(upstream().agreeing("UVA", valid_until=NOW.replace(tzinfo=None, year=2025)))).code == "expired"


def test_the_request_type_must_be_allowed() -> None:
    found = only(answer(upstream().agreeing("UVA", request_types=("genericRequest",))))
    assert (found.code, found.clause) == ("request-type", f"{CLAUSE}.requestTypes")
    assert found.remedy == f"add 'sqlDataRequest' to {CLAUSE}.requestTypes"


def test_an_unknown_request_type_is_told_the_near_names() -> None:
    assert "'sqlDataRequest'" in only(answer(upstream(), type="sqlDataRequst")).remedy


def test_a_table_of_a_data_set_that_is_not_allowed_is_refused_by_the_data_set() -> None:
    scene = upstream()
    secret = scene.catalogue["UVA"]["wageGap"].model_copy(
        update={"name": "secret", "tables": {"Salaries": scene.catalogue["UVA"]["wageGap"].tables["Personen"]}}
    )
    scene = Scene(**{**vars(scene), "catalogue": {"UVA": {**scene.catalogue["UVA"], "secret": secret}}})
    found = only(answer(scene, query="SELECT 1 FROM\n Salaries"))
    assert (found.code, found.clause, found.position) == ("data-set", f"{CLAUSE}.dataSets", (2, 2))
    assert found.remedy == f"add 'secret' to {CLAUSE}.dataSets"


def test_a_party_without_the_permitted_data_set_says_so() -> None:
    assert only(answer(upstream().agreeing("UVA", data_sets=("other",)))).code == "data-set"
    assert only(answer(upstream().agreeing("UVA", data_sets=()))).code == "data-set"


def test_a_missing_table_or_column_is_told_with_near_names_and_place() -> None:
    table = only(answer(upstream(), query="SELECT 1 FROM Personn"))
    assert (table.code, table.remedy, table.position) == ("table", "write 'Personen'", (1, 15))
    column = only(answer(upstream(), query="SELECT s.Salshal FROM Aanstellingen s"))
    assert (column.code, column.remedy, column.position) == ("column", "write 'Salschal'", (1, 8))


LIMITED = {"Personen": ("geslacht", "Unieknr")}


@pytest.mark.parametrize(
    "query",
    [
        "SELECT Geslacht FROM Personen",
        "SELECT count(*) FROM PERSONEN p WHERE p.UNIEKNR > 1",
        "WITH x AS (SELECT unieknr AS u FROM personen) SELECT max(u) FROM x",
    ],
)
def test_columns_that_the_relation_names_may_be_used(query: str) -> None:
    assert answer(upstream().agreeing("UVA", tables=LIMITED), query=query).permitted


@pytest.mark.parametrize(
    ("query", "position"),
    [
        ("SELECT Gebdat FROM Personen", (1, 8)),
        ("SELECT Geslacht FROM Personen WHERE Gebdat > 1", (1, 37)),
        ("SELECT Geslacht FROM Personen ORDER BY GEBDAT", (1, 40)),
        ("SELECT Geslacht FROM Personen GROUP BY Geslacht HAVING max(gebdat) > 1", (1, 60)),
        ("SELECT x FROM (SELECT Gebdat AS x FROM Personen)", (1, 23)),
        ("WITH t AS (SELECT Gebdat FROM Personen) SELECT 1 FROM t", (1, 19)),
        ("SELECT (SELECT max(Gebdat) FROM Personen) AS m", (1, 20)),
        ("SELECT * FROM Personen", None),
        ("SELECT p.* FROM Personen p", None),
        ("SELECT * EXCLUDE (Instcode) FROM Personen", None),
    ],
)
def test_columns_that_the_relation_does_not_name_may_not_be_used_anywhere(
    query: str, position: tuple[int, int] | None
) -> None:
    found = only(answer(upstream().agreeing("UVA", tables=LIMITED), query=query))
    assert (found.code, found.clause) == ("column", f"{CLAUSE}.tables['Personen']")
    assert position in (None, found.position)


def test_a_refusal_does_not_tell_of_columns_and_tables_that_the_user_may_not_use() -> None:
    scene = upstream().agreeing("UVA", tables=LIMITED)
    for query in (
        "SELECT * FROM Personen",
        "SELECT Nope FROM Personen",
        "SELECT 1 FROM Nope",
        "SELECT 1 FROM Aanstell",
    ):
        told = scene.decide(request(["UVA"], query=query)).model_dump_json()
        assert "Gebdat" not in told
        assert "Aanstellingen" not in told


def test_what_is_missing_and_what_is_not_permitted_read_the_same() -> None:
    scene = upstream().agreeing("UVA", tables=LIMITED)
    missing = only(answer(scene, query="SELECT Gebdax FROM Personen"))
    hidden = only(answer(scene, query="SELECT Gebdat FROM Personen"))
    assert missing.message.replace("Gebdax", "Gebdat") == hidden.message
    missing = only(answer(scene, query="SELECT 1 FROM Aanstellingem"))
    hidden = only(answer(scene, query="SELECT 1 FROM Aanstellingen"))
    assert missing.as_json() == {k: _swap(v) for k, v in hidden.as_json().items()}


def _swap(value: Any) -> Any:
    return value.replace("Aanstellingen", "Aanstellingem") if isinstance(value, str) else value


def test_algorithms_may_be_limited() -> None:
    scene = upstream().agreeing("UVA", algorithms=("average",))
    assert answer(scene).permitted
    found = only(answer(scene, algorithm="rows"))
    assert (found.code, found.clause, found.fact) == ("algorithm", f"{CLAUSE}.algorithms", "algorithm 'rows'")
    assert "average" in found.remedy
    assert only(answer(scene, algorithm="")).code == "algorithm"


def test_archetypes_are_those_of_agreement_and_relation() -> None:
    scene = upstream().agreeing("UVA", allowed_archetypes=("dataThroughTtp", "reproducableScience"))
    assert answer(scene).archetypes == ("dataThroughTtp", "reproducableScience")
    assert only(answer(scene, archetype="computeToData")).code == "archetype"
    assert only(answer(scene, archetype="computeToDate")).remedy == "did you mean 'computeToData'?"
    found = only(answer(upstream().agreeing("UVA", allowed_archetypes=("reproducableScience",))))
    assert (found.code, found.clause) == ("archetype", f"{CLAUSE}.allowedArchetypes")


def test_an_archetype_that_moves_data_needs_a_compute_provider() -> None:
    scene = upstream().agreeing("UVA", allowed_compute_providers=("elsewhere",))
    assert answer(scene).compute_providers == ()
    assert answer(scene).permitted
    found = only(answer(scene, archetype="dataThroughTtp"))
    assert (found.code, found.remedy) == (
        "compute-provider",
        f"add one of SURF, otherCompany to {CLAUSE}.allowedComputeProviders",
    )
    assert only(answer(scene.agreeing("UVA", allowed_archetypes=("dataThroughTtp",)))).code == "compute-provider"


def test_a_compute_provider_that_is_asked_for_must_be_allowed() -> None:
    assert answer(upstream(), compute_provider="SURF").permitted
    assert answer(upstream(), compute_provider="UVA").permitted
    found = only(answer(upstream(), compute_provider="otherCompany"))
    assert (found.code, found.clause) == ("compute-provider", f"{CLAUSE}.allowedComputeProviders")


def test_duties_come_from_the_relation_and_from_the_agreement() -> None:
    scene = upstream().agreeing("UVA", duties=("sql-graph",), all_duties=("sql-anonymize", "sql-graph"))
    assert answer(scene).duties == ("sql-graph", "sql-anonymize")
    assert only(answer(upstream().agreeing("UVA", duties=("sql-gone",)))).code == "duty"


RULES = {"Personen.Gebdat": "truncate:4", "Aanstellingen.Ingdatdv": "truncate:4", "Personen.Unieknr": "hash"}


@pytest.mark.parametrize(
    "query",
    [
        "SELECT Gebdat FROM Personen",
        "SELECT Gebdat AS born, count(*) FROM Personen GROUP BY Gebdat ORDER BY born",
        "SELECT * FROM Personen",
        "SELECT Geslacht FROM Personen WHERE Gebdat > 19800000",
        "SELECT p.Gebdat FROM Personen p JOIN Aanstellingen s USING (Unieknr)",
        "SELECT Gebdat FROM Personen UNION ALL SELECT Ingdatdv FROM Aanstellingen",
        "SELECT b FROM (SELECT Gebdat AS b FROM Personen) WHERE b > 1",
        "SELECT avg(Salschal) FROM Aanstellingen",
    ],
)
def test_a_sensitive_column_may_come_out_as_it_is(query: str) -> None:
    assert answer(upstream(RULES).agreeing("UVA", duties=("sql-anonymize",)), query=query).permitted


@pytest.mark.parametrize(
    ("query", "output"),
    [
        ("SELECT Geslacht, Gebdat + 0 AS b FROM Personen", "b"),
        ("SELECT max(Gebdat) AS m FROM Personen", "m"),
        ("SELECT x + 1 AS y FROM (SELECT Gebdat AS x FROM Personen)", "y"),
        ("SELECT x FROM (SELECT Gebdat::VARCHAR AS x FROM Personen)", "x"),
        ("SELECT CASE WHEN Gebdat > 19800000 THEN 1 ELSE 0 END AS young FROM Personen", "young"),
        ("SELECT EXISTS (SELECT 1 FROM Personen WHERE Gebdat = 1) AS there", "there"),
        ("SELECT row_number() OVER (ORDER BY Gebdat) AS r FROM Personen", "r"),
        ("SELECT Gebdat AS a, a + 1 AS b FROM Personen", "b"),
        ("SELECT Gebdat AS b FROM Personen UNION ALL SELECT Gebdat + 1 FROM Personen", "b"),
        ("SELECT Gebdat AS mixed FROM Personen UNION ALL SELECT Unieknr FROM Personen", "mixed"),
        ("SELECT {'b': Gebdat}.b AS b FROM Personen", "b"),
    ],
)
def test_nothing_may_be_computed_from_a_sensitive_column_before_it_is_anonymised(query: str, output: str) -> None:
    scene = upstream(RULES)
    assert answer(scene, query=query).permitted
    found = only(answer(scene.agreeing("UVA", all_duties=("sql-anonymize",)), query=query))
    assert (found.code, found.clause) == ("derived-column", "duties['sqlDataRequest']")
    assert found.fact.startswith(f"output {output!r} of Personen.")
    assert found.remedy


def test_an_option_that_switches_nothing_on_is_refused_when_it_is_on() -> None:
    assert only(answer(upstream(), options={"anonymise": True})).remedy == "did you mean 'anonymize'?"
    assert answer(upstream(), options={"anonymise": False, "ANONYMIZE": True}).permitted


def test_all_reasons_come_at_once() -> None:
    scene = upstream().agreeing("UVA", request_types=(), algorithms=(), valid_until=NOW - timedelta(1), tables=LIMITED)
    found = answer(scene, query="SELECT Gebdat, Nope FROM Personen, Gone", archetype="x", compute_provider="y")
    codes = {reason.code for reason in found.reasons}
    assert codes == {"expired", "request-type", "algorithm", "archetype", "compute-provider", "table", "column"}
    assert all(reason.party == "UVA" and reason.message and reason.clause and reason.fact for reason in found.reasons)


def test_a_request_type_that_reads_data_needs_a_query_and_another_does_not() -> None:
    with pytest.raises(BadInput, match="empty"):
        upstream().decide(request(query=" "))
    assert upstream().decide(request(type="genericRequest", query="")).permitted == ("UVA", "VU")


def test_a_decision_reads_as_sentences() -> None:
    lines = explain(upstream().decide(request(["UVA", "RUG"], query="SELECT Geslacht FROM Personen"))).splitlines()
    assert "UVA: permitted" in lines
    assert "  uses: wageGap.Personen (Geslacht)" in lines
    assert "RUG: refused" in lines
    assert any(line.startswith("    remedy: ask RUG") for line in lines)
    wrong = explain(upstream().decide(request(["UVA"], query="SELECT\nNope FROM Personen")))
    assert "(query, line 2, column 1)" in wrong
