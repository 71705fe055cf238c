"""Which services run, in which order; and what is told of definitions that make no chain."""

from __future__ import annotations

from typing import Any

import pytest

from dynamos.kit.errors import BadInput
from dynamos.model.request_types import RequestType
from dynamos.model.services import Service
from dynamos.planning.chains import compose, draw, faults, mistakes, ordered
from support.marketplaces import request, services, upstream

QUERY, ANONYMIZE, AGGREGATE = "sql-query", "sql-anonymize", "sql-aggregate"
ALGORITHM, GRAPH = "sql-algorithm", "sql-graph"

# Upstream's table of chains per role and option, and its optional graph.
TABLE: list[tuple[set[str], list[str], list[str]]] = [
    (set(), [QUERY], [ALGORITHM]),
    ({"anonymize"}, [QUERY, ANONYMIZE], [ALGORITHM]),
    ({"aggregate"}, [QUERY], [AGGREGATE, ALGORITHM]),
    ({"anonymize", "aggregate"}, [QUERY, ANONYMIZE], [AGGREGATE, ALGORITHM]),
    ({"graph"}, [QUERY], [ALGORITHM, GRAPH]),
    ({"anonymize", "aggregate", "graph"}, [QUERY, ANONYMIZE], [AGGREGATE, ALGORITHM, GRAPH]),
]


@pytest.mark.parametrize(("options", "data", "compute"), TABLE)
def test_options_and_roles_give_upstreams_chains(options: set[str], data: list[str], compute: list[str]) -> None:
    scene = upstream()
    asked = request(options={option.upper(): True for option in options} | {"unasked": False})
    chain = compose(asked, scene.request_types, scene.services)
    assert list(chain.names("dataProvider")) == data
    assert list(chain.names("computeProvider")) == compute
    assert list(chain.names()) == data + compute


def test_duties_join_the_chain_and_are_told_apart_from_what_was_asked() -> None:
    scene = upstream()
    chain = compose(request(), scene.request_types, scene.services, ["sql-anonymize", "sql-query", "sql-anonymize"])
    assert chain.names() == (QUERY, ANONYMIZE, ALGORITHM)
    assert chain.forced == (ANONYMIZE,)
    asked = request(options={"anonymize": True})
    assert compose(asked, scene.request_types, scene.services, ["sql-anonymize"]).forced == ()


def test_an_option_that_is_off_adds_nothing_but_a_duty_does() -> None:
    scene = upstream()
    chain = compose(request(options={"anonymize": False}), scene.request_types, scene.services, ["sql-anonymize"])
    assert ANONYMIZE in chain.names()


def test_free_services_are_sorted_by_name() -> None:
    made = {name: Service(name=name, label="computeProvider") for name in ("b", "c", "a")}
    assert [service.name for service in ordered(made, made)] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sql-query": {"allowed_outputs": ()}}, "sql-query may not feed sql-algorithm"),
        ({"sql-query": {"inputs": "one"}}, "begins with one service that reads the data; this one has none"),
        ({"sql-algorithm": {"inputs": "none"}}, "this one has sql-query, sql-algorithm"),
        ({"sql-algorithm": {"allowed_outputs": ("sql-query",)}}, "in a circle: sql-algorithm, sql-query"),
        ({"sql-query": {"label": "computeProvider"}, "sql-algorithm": {"label": "dataProvider"}}, "runs at the data"),
    ],
)
def test_definitions_that_make_no_chain_are_told(change: dict[str, dict[str, Any]], message: str) -> None:
    scene, known = upstream(), services()
    known |= {name: known[name].model_copy(update=update) for name, update in change.items()}
    with pytest.raises(BadInput, match=message) as caught:
        compose(request(), scene.request_types, known)
    assert caught.value.as_dict()["code"] == "chain"
    assert any(message in mistake.message for mistake in mistakes(known, scene.request_types, scene.archetypes))


def test_a_request_type_that_runs_nothing_cannot_be_composed_but_may_be_stored() -> None:
    scene = upstream()
    with pytest.raises(BadInput, match="no service"):
        compose(request(type="genericRequest"), scene.request_types, scene.services)
    assert mistakes(scene.services, scene.request_types, scene.archetypes) == []


def test_all_mistakes_come_at_once_with_place_and_hint() -> None:
    scene, known = upstream(), services()
    known[QUERY] = known[QUERY].model_copy(update={"allowed_outputs": ("sql-algoritm",), "invalid_archetypes": ("x",)})
    types = {
        "one": RequestType(name="one", required_services=("sql-qeury",), optional_services={"gone": "option"}),
        "two": RequestType(name="two", required_services=(QUERY, ALGORITHM)),
    }
    found = mistakes(known, types, scene.archetypes)
    assert {(mistake.where, mistake.message, mistake.hint) for mistake in found[:4]} == {
        (
            "services.sql-query.allowedOutputs",
            "there is no service 'sql-algoritm'",
            "did you mean 'sql-algorithm' or 'sql-aggregate'?",
        ),
        ("services.sql-query.invalidArchetypes", "there is no archetype 'x'", ""),
        ("requestTypes.one.requiredServices", "there is no service 'sql-qeury'", "did you mean 'sql-query'?"),
        ("requestTypes.one.optionalServices", "there is no service 'gone'", ""),
    }
    assert [mistake.where for mistake in found[4:]] == ["requestTypes.two"]


def test_a_circle_anywhere_is_a_mistake() -> None:
    known = services()
    known[GRAPH] = known[GRAPH].model_copy(update={"allowed_outputs": (ALGORITHM,)})
    assert [mistake.where for mistake in mistakes(known, {}, upstream().archetypes)] == ["services"]
    assert faults([QUERY, ALGORITHM, GRAPH], known) == [
        "these services feed each other in a circle: sql-algorithm, sql-graph"
    ]


MERMAID = """\
flowchart LR
  subgraph c0["dataProvider"]
    n0["sql-query"]
    n2["sql-anonymize"]:::optional
  end
  subgraph c1["computeProvider"]
    n1["sql-algorithm"]
    n3["sql-graph"]:::optional
    n4["sql-aggregate"]:::optional
  end
  n0 -.-> n4
  n0 --> n1
  n0 -.-> n2
  n1 -.-> n3
  n2 -.-> n4
  n2 -.-> n1
  n4 -.-> n1
  classDef optional stroke-dasharray: 4 3
"""

GRAPHVIZ = """\
digraph chain {
  rankdir=LR;
  node [shape=box];
  subgraph cluster_0 {
    label="UVA";
    "UVA.sql-query" [label="sql-query"];
  }
  subgraph cluster_1 {
    label="VU";
    "VU.sql-query" [label="sql-query"];
  }
  subgraph cluster_2 {
    label="SURF";
    "SURF.sql-aggregate" [label="sql-aggregate"];
    "SURF.sql-algorithm" [label="sql-algorithm"];
  }
  "@requestor" [label="requestor"];
  "UVA.sql-query" -> "SURF.sql-aggregate";
  "VU.sql-query" -> "SURF.sql-aggregate";
  "SURF.sql-aggregate" -> "SURF.sql-algorithm";
  "SURF.sql-algorithm" -> "@requestor";
}
"""


def test_a_request_type_is_drawn_with_its_optional_services_dashed() -> None:
    scene = upstream()
    assert draw(scene.services, "mermaid", request_type=scene.request_types["sqlDataRequest"]) == MERMAID


def test_a_plan_is_drawn_with_its_parties_as_clusters() -> None:
    assert draw(upstream().plan(request(options={"aggregate": True})), "graphviz") == GRAPHVIZ


def test_all_services_are_drawn_without_a_request_type() -> None:
    drawn = draw(services(), "graphviz")
    assert drawn.count("[label=") == 5
    assert "dashed" not in drawn
