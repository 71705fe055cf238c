"""No sensitive column leaves without its rule, whatever the query calls it."""

from __future__ import annotations

import pytest

from dynamos.kit.errors import Broken
from dynamos.model.datasets import Rule
from dynamos.model.decisions import Output
from dynamos.policy.lineage import Field, rules, unique
from support.marketplaces import request, upstream

RULES = {"Personen.Gebdat": "truncate:4", "Aanstellingen.Ingdatdv": "truncate:4", "Personen.Unieknr": "hash"}
TRUNCATE, HASH = Rule(method="truncate", size=4), Rule(method="hash")


def applied(query: str) -> dict[str, Rule]:
    scene = upstream(RULES)
    found = scene.decide(request(["UVA"], query=query)).providers["UVA"]
    assert found.permitted
    return rules(found, scene.catalogue["UVA"])


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("SELECT Geslacht FROM Personen", {}),
        ("SELECT GEBDAT FROM personen", {"Gebdat": TRUNCATE}),
        ("SELECT Gebdat AS born, Gebdat FROM Personen", {"born": TRUNCATE, "Gebdat": TRUNCATE}),
        ("SELECT Gebdat, Gebdat FROM Personen", {"Gebdat": TRUNCATE, "Gebdat_1": TRUNCATE}),
        ("SELECT Geslacht AS Gebdat, Gebdat AS Geslacht FROM Personen", {"Geslacht": TRUNCATE}),
        ("SELECT Geslacht AS x, Gebdat AS x FROM Personen", {"x_1": TRUNCATE}),
        ("SELECT Gebdat AS X, Geslacht AS x, Unieknr AS x_1 FROM Personen", {"X": TRUNCATE, "x_1_1": HASH}),
        ("SELECT b FROM (SELECT Unieknr AS b FROM Personen)", {"b": HASH}),
        ("SELECT * FROM Personen", {"Unieknr": HASH, "Gebdat": TRUNCATE}),
        ("SELECT Gebdat FROM Personen UNION ALL SELECT Ingdatdv FROM Aanstellingen", {"Gebdat": TRUNCATE}),
        ("SELECT Geslacht AS a FROM Personen UNION ALL SELECT Gebdat FROM Personen", {"a": TRUNCATE}),
        ("SELECT Unieknr FROM Personen JOIN Aanstellingen USING (Unieknr)", {"Unieknr": HASH}),
        (
            "SELECT * FROM Personen p JOIN Aanstellingen s ON p.Unieknr = s.Unieknr",
            {"Unieknr": HASH, "Gebdat": TRUNCATE, "Ingdatdv": TRUNCATE},
        ),
    ],
)
def test_rules_follow_their_columns_by_the_names_of_the_result(query: str, expected: dict[str, Rule]) -> None:
    assert applied(query) == expected


def test_a_decision_that_contradicts_itself_is_a_defect() -> None:
    scene = upstream(RULES)
    found = scene.decide(request(["UVA"], query="SELECT Gebdat FROM Personen")).providers["UVA"]
    twice = found.model_copy(update={"outputs": found.outputs * 2})
    mixed = Output(name="x", sources=(("Personen", "Gebdat"), ("Personen", "Unieknr")), plain=True)
    for broken in (twice, found.model_copy(update={"outputs": (mixed,)})):
        with pytest.raises(Broken):
            rules(broken, scene.catalogue["UVA"])


def test_names_are_made_unique_in_any_letter_case() -> None:
    assert unique(["a", "b", "A", "a_1", "a"]) == ["a", "b", "A_1", "a_1_1", "a_2"]


def test_a_column_of_constants_does_not_make_another_less_plain() -> None:
    one = Field("a", frozenset({("t", "a")}), plain=True)
    assert one.merged(Field("b")).plain
    assert Field("b").merged(one).plain
    assert not one.merged(Field("b", frozenset({("t", "b")}))).plain
    assert not Field("a").merged(Field("b")).plain
