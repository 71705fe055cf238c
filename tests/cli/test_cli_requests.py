import io
import json

import pytest

from support.commands import FakeApi, dynamos

ONE = {"name": "united.result", "party": "united", "providers": ["united"], "status": "complete"}
TWO = {"name": "jetblue.result", "party": "jetblue", "providers": ["jetblue"], "status": "complete"}
ROWS = b'{"origin":"EWR","n":3}\n{"origin":"JFK","n":12}\n{"origin":"LGA","n":1}\n'
JOB = {
    "id": "ann-1",
    "state": "succeeded",
    "user": "ann",
    "results": [ONE],
    "providers": {"united": {"outcome": "answered"}},
}
ASK = ("--as", "ann", "-p", "united", "-q", "SELECT origin FROM flights")
HEADERS = {"dynamos-rows": "3"}


def result_of(name, form):
    return f"GET /api/v1/jobs/ann-1/result?name={name}&format={form}"


@pytest.fixture
def api(monkeypatch):
    return FakeApi(
        {
            "POST /api/v1/jobs": JOB,
            result_of("united.result", "ndjson"): (200, ROWS, HEADERS),
            result_of("united.result", "json"): [{"origin": "EWR", "n": 3}],
            result_of("united.result", "csv"): b"origin,n\nEWR,3\n",
            result_of("jetblue.result", "csv"): b"origin,n\nJFK,4\n",
            result_of("jetblue.result", "ndjson"): (200, b"", {"dynamos-rows": "0"}),
            result_of("united.result", "parquet"): b"PAR1",
        }
    ).install(monkeypatch)


def test_the_options_become_the_request(capsys, api):
    said = dynamos(
        capsys, "request", *ASK, "-p", "jetblue", "-a", "mean", "-c", "group=origin", "-c", "value=dep_delay",
        "--aggregate", "-o", "graph=false", "--archetype", "dataThroughTtp", "--compute-provider", "safety-board",
        "--deadline", "30s",
    )  # fmt: skip
    assert said.code == 0, said.err
    assert api.body(0) == {
        "type": "sqlDataRequest",
        "user": {"userName": "ann"},
        "providers": ["united", "jetblue"],
        "query": "SELECT origin FROM flights",
        "algorithm": "mean",
        "algorithmColumns": {"group": "origin", "value": "dep_delay"},
        "options": {"aggregate": True, "graph": False},
        "archetype": "dataThroughTtp",
        "computeProvider": "safety-board",
        "deadline": "30s",
    }
    assert api.asked[0].headers["authorization"] == "Bearer t"


def test_a_json_file_is_sent_as_it_is(capsys, api, tmp_path):
    body = {"type": "sqlDataRequest", "user": {"userName": "ann"}, "dataProviders": ["united"], "data_request": {}}
    file = tmp_path / "request.json"
    file.write_text(json.dumps(body))
    for words in ((file,), ("--json", file)):
        assert dynamos(capsys, "request", *words).code == 0
    assert [json.loads(each.content) for each in api.asked if each.method == "POST"] == [body, body]


def test_a_query_can_be_a_file_or_standard_input(capsys, api, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("SELECT 2"))
    file = tmp_path / "query.sql"
    file.write_text("SELECT 1")
    assert dynamos(capsys, "request", "--as", "ann", "-p", "united", file).code == 0
    assert dynamos(capsys, "request", "--as", "ann", "-p", "united", "-").code == 0
    assert [json.loads(each.content)["query"] for each in api.asked if each.method == "POST"] == [
        "SELECT 1",
        "SELECT 2",
    ]


def test_a_table_shows_the_first_rows_and_says_how_many_there_are(capsys, api):
    said = dynamos(capsys, "request", *ASK, "--rows", "2")
    assert [line.rstrip() for line in said.out.splitlines()] == ["united", "origin   n", "EWR      3", "JFK     12"]
    assert "2 of 3 rows" in said.err


def test_json_gives_the_rows_of_every_result(capsys, api):
    said = dynamos(capsys, "request", *ASK, "--format", "json")
    assert json.loads(said.out)["results"] == [
        {"name": "united.result", "providers": ["united"], "computedBy": "united", "rows": [{"origin": "EWR", "n": 3}]}
    ]


def test_a_file_comes_as_the_api_gives_it(capsys, api, tmp_path):
    target = tmp_path / "rows.parquet"
    assert dynamos(capsys, "request", *ASK, "--format", "parquet", "--output", target).code == 0
    assert target.read_bytes() == b"PAR1"


def test_of_several_results_one_is_chosen_for_a_file(capsys, api, tmp_path):
    api.answers["POST /api/v1/jobs"] = {**JOB, "results": [ONE, TWO]}
    target = tmp_path / "rows.csv"
    said = dynamos(capsys, "request", *ASK, "--format", "csv", "--output", target)
    assert said.code == 2
    assert "--result" in said.err
    assert dynamos(capsys, "request", *ASK, "--format", "csv", "--output", target, "--result", "jetblue").code == 0
    assert target.read_bytes() == b"origin,n\nJFK,4\n"
    assert dynamos(capsys, "request", *ASK, "--result", "delta").code == 2


def test_a_result_without_rows_says_so(capsys, api):
    api.answers["POST /api/v1/jobs"] = {**JOB, "results": [TWO]}
    assert "no rows" in dynamos(capsys, "request", *ASK).out


def test_providers_that_did_not_answer_are_named_on_standard_error(capsys, api):
    refused = {"outcome": "refused", "reasons": [{"party": "delta", "message": "only at home"}]}
    api.answers["POST /api/v1/jobs"] = {**JOB, "providers": {"united": {"outcome": "answered"}, "delta": refused}}
    said = dynamos(capsys, "request", *ASK)
    assert said.code == 0
    assert "delta: refused" in said.err
    assert "delta: only at home" in said.err
    assert "delta" not in said.out


def test_a_refusal_is_exit_code_4_with_its_reasons(capsys, api):
    problem = {
        "status": 403,
        "code": "refused",
        "detail": "nobody permits it",
        "reasons": [{"party": "u", "message": "no"}],
    }
    api.answers["POST /api/v1/jobs"] = (403, problem, {})
    said = dynamos(capsys, "request", *ASK)
    assert said.code == 4
    assert "[refused] nobody permits it" in said.err
    assert "u: no" in said.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--as", "ann", "-q", "SELECT 1"), "of whom?"),
        (("-p", "united", "-q", "SELECT 1"), "who asks?"),
        (("--as", "ann", "-p", "united"), "say one query"),
        (("--as", "ann", "-p", "united", "-q", "SELECT 1", "-c", "group"), "not NAME=COLUMN"),
        (("--as", "ann", "-p", "united", "-q", "SELECT 1", "-o", "graph=maybe"), "not NAME, NAME=true"),
        (("--as", "ann", "-p", "united", "/nowhere.sql"), "cannot be read"),
        (("/nowhere.json",), "cannot be read"),
        ((*ASK, "--output", "/nowhere/file"), "no such folder"),
    ],
)
def test_what_is_missing_or_wrong_is_said_before_anything_is_asked(capsys, api, monkeypatch, words, message):
    monkeypatch.delenv("DYNAMOS_TOKEN", raising=False)
    said = dynamos(capsys, "request", *words)
    assert said.code == 2
    assert message in said.err
    assert not api.asked


def test_check_prints_the_plan_and_is_4_where_it_would_be_refused(capsys, api):
    step = {"party": "united", "service": "sql-query"}
    plan = {"archetypes": {"united": "computeToData"}, "compute": {"united": "united"}, "steps": [step], "notes": ["n"]}
    permitted = {"providers": {"united": {"permitted": True}}}
    api.answers["POST /api/v1/check"] = {"runs": True, "decision": permitted, "plan": plan, "reasons": []}
    said = dynamos(capsys, "check", *ASK)
    assert said.code == 0
    assert "united/sql-query" in said.out
    reason = {"party": "united", "message": "no"}
    refused = {"providers": {"united": {"permitted": False}}}
    api.answers["POST /api/v1/check"] = {"runs": False, "decision": refused, "plan": None, "reasons": [reason]}
    said = dynamos(capsys, "check", *ASK)
    assert said.code == 4
    assert "united: no" in said.out


def test_an_api_that_is_not_there_is_exit_code_8(capsys):
    said = dynamos(capsys, "jobs", "list", "--api", "http://127.0.0.1:9")
    assert said.code == 8
    assert "cannot be reached" in said.err
