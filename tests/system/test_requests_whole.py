"""Requests through everything that there is: API, orchestrator, agents, sandboxed services, exchange."""

import pyarrow as pa
import pytest

from support.systems import ROWS


def rows(answer):
    assert answer.status_code == 200, answer.text
    return pa.ipc.open_stream(answer.content).read_all()


ARROW = {"accept": "application/vnd.apache.arrow.stream"}


@pytest.mark.parametrize("archetype", ["computeToData", "dataThroughTtp"])
def test_rows_come_whole_under_both_archetypes(running, archetype):
    with running.client() as client:
        answer = client.post("/api/v1/jobs?wait=true", json=running.ask(archetype=archetype), headers=ARROW)
    table = rows(answer)
    assert sorted(table["id"].to_pylist()) == list(range(ROWS["north"]))


def test_a_union_through_the_third_party_is_exact(running):
    body = running.ask(
        providers=("north", "south"),
        options={"aggregate": True},
        algorithm="sum",
        algorithmColumns={"value": "amount", "group": "kind"},
    )
    with running.client() as client:
        table = rows(client.post("/api/v1/jobs?wait=true", json=body, headers=ARROW))
    expected = {"k0": 0.0, "k1": 0.0, "k2": 0.0}
    for n in [*range(ROWS["north"]), *range(10_000, 10_000 + ROWS["south"])]:
        expected[f"k{n % 3}"] += n / 4
    assert dict(zip(table["kind"].to_pylist(), table[1].to_pylist(), strict=True)) == expected


def test_data_goes_straight_to_the_computing_party(running):
    answer = running.run(archetype="dataThroughTtp")
    job = answer.json()
    edges = {t["edge"]: t["rows"] for part in job["parts"].values() for t in part["transfers"]}
    between, result = "north.sql-query>third.sql-algorithm@north", "third.sql-algorithm@north>@requestor.north"
    assert edges == {between: 1000, result: 1000}


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("crash", "crashed"),
        ("fail", "no-such-thing"),
        ("rubbish", "not-arrow"),
        ("silent", "not-arrow"),
        ("hungry", "out-of-memory"),
    ],
)
@pytest.mark.parametrize("archetype", ["computeToData", "dataThroughTtp"])
def test_a_service_that_fails_is_named_with_its_own_reason(running, kind, code, archetype):
    answer = running.run(kind, archetype=archetype)
    problem = answer.json()
    assert answer.status_code == 502, problem
    assert problem["code"] == code
    party = "north" if archetype == "computeToData" else "third"
    if code != "not-arrow":
        assert problem["where"].startswith(f"{party}/{kind}")


def test_a_service_that_hangs_is_ended_at_the_deadline(running):
    answer = running.run("hang", deadline="1s")
    assert answer.status_code == 504, answer.text
    assert answer.json()["code"] == "deadline"


def test_after_failures_of_every_kind_the_next_request_is_answered(running):
    for kind in ("crash", "fail", "rubbish", "silent", "hungry"):
        assert running.run(kind).status_code == 502
    assert running.run().status_code == 200


def test_somebody_without_an_agreement_is_refused_with_reasons_and_remedy(running):
    with running.client("bob@example.org") as client:
        answer = client.post("/api/v1/jobs?wait=true", json=running.ask())
    problem = answer.json()
    assert answer.status_code == 403
    assert [reason["code"] for reason in problem["reasons"]] == ["no-relation"]
    assert problem["reasons"][0]["remedy"]


def test_a_missing_column_is_placed_in_the_query(running):
    with running.client() as client:
        answer = client.post("/api/v1/jobs?wait=true", json={**running.ask(), "query": "SELECT nope FROM things"})
    (reason,) = answer.json()["reasons"]
    assert (reason["code"], reason["position"]) == ("column", [1, 8])


@pytest.mark.parametrize(
    "query",
    [
        "SELEC id FROM things",
        "DELETE FROM things",
        "ATTACH 'x.db'",
        "COPY things TO 'x.csv'",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT getenv('HOME')",
        "SELECT id FROM things; SELECT 1",
        "PRAGMA database_list",
        "SET threads=1",
    ],
)
def test_what_is_no_plain_question_is_turned_away_with_its_place(running, query):
    with running.client() as client:
        answer = client.post("/api/v1/jobs?wait=true", json={**running.ask(), "query": query})
    assert answer.status_code in (400, 403), answer.text
    assert "position" in answer.text or "query:" in answer.text


def test_eight_at_once_are_all_answered(running):
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: running.run(providers=("north", "south")), range(24)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["id"] for answer in answers}) == 24


def test_one_trace_from_the_edge_to_every_step(running):
    job = running.run(archetype="dataThroughTtp").json()["id"]
    with running.client() as client:

        def all_there():
            spans = client.get(f"/api/v1/jobs/{job}/trace").json()["spans"]
            return spans if {"sql-query", "sql-algorithm"} <= {span["name"] for span in spans} else None

        spans = running.wait("every span is there", all_there)
    known = {span["span"] for span in spans}
    assert {span["unit"] for span in spans} == {"api", "orchestrator", "north", "third"}
    assert sum(1 for span in spans if span["parent"] not in known) == 1
